//! Functions: created, replaced, changed, deleted; one document each.

use std::collections::BTreeMap;

use model::Result;
use model::api::{PatchConfig, PutFunction};
use model::error::{Code, Error};
use model::function::{CodeRef, Function, FunctionConfig, FunctionSettings, Variable, Version};
use model::ids::{Digest, FunctionKey, FunctionRef, NamespaceName, Qualifier, RequestId};
use model::keys;
use model::ports::Revision;

use super::secrets::Environment;
use super::versions::Publishing;
use super::{CHANGE_ATTEMPTS, Catalog, Precondition, Stored, busy, expect};

/// What became of a change: the function's document, and whether it is new.
#[derive(Debug)]
pub(crate) struct Put {
    /// The function at the version that the change made or named.
    pub function: FunctionAt,
    /// Whether the function did not exist before.
    pub created: bool,
}

/// A function seen at one of its versions.
#[derive(Clone, Debug)]
pub(crate) struct FunctionAt {
    /// The function.
    pub function: Function,
    /// The version; `function.latest` if that was asked for.
    pub version: Version,
    /// Revision of the function's document.
    pub revision: Revision,
}

impl From<Stored<Function>> for FunctionAt {
    fn from(stored: Stored<Function>) -> Self {
        let Stored { value, revision } = stored;
        Self { version: value.latest.clone(), function: value, revision }
    }
}

/// A change of a function's document: gets the current one, if there is one, and gives the new one.
pub(super) trait Edit<R>: FnMut(Option<Function>) -> Result<(Function, R)> + Send {}

impl<R, F: FnMut(Option<Function>) -> Result<(Function, R)> + Send> Edit<R> for F {}

/// The outcome of a change.
pub(super) struct Changed<R> {
    pub stored: Stored<Function>,
    pub created: bool,
    pub result: R,
}

impl Catalog {
    /// Creates a function, or replaces code, configuration and settings of an existing one in one step.
    pub(crate) async fn put_function(
        &self,
        key: &FunctionKey,
        put: PutFunction,
        precondition: Precondition,
    ) -> Result<Put> {
        let PutFunction { config, settings, code, publish } = put;
        config.validate()?;
        let config = config.stored();
        settings.as_ref().map_or(Ok(()), FunctionSettings::validate)?;
        let runtime = self.sandbox.resolve_runtime(&config.runtime)?;
        self.sandbox.check_network(&config.network)?;
        let code = match code {
            Some(digest) => Some(self.package(&digest.parse::<Digest>()?).await?),
            None => None,
        };
        let changed = self
            .change(key, precondition, |current| {
                let now = self.clock.now();
                let kept = current.as_ref().map(|f| f.latest.code);
                let stored = current.as_ref().map(|f| f.latest.config.environment.clone());
                let environment = self
                    .environment(key, &stored.unwrap_or_default())
                    .replaced(&config.environment)?;
                let config = config.with_environment(environment);
                config.validate()?;
                let latest = Version {
                    key: key.clone(),
                    number: None,
                    config,
                    code: code.or(kept).ok_or_else(no_code)?,
                    runtime: runtime.clone(),
                    modified_at: now,
                };
                let mut function = match current {
                    Some(function) => with_latest(function, latest),
                    None => Function {
                        id: RequestId::generate(),
                        created_at: now,
                        settings: FunctionSettings::default(),
                        latest,
                        versions: Vec::new(),
                        next_version: 1,
                    },
                };
                if let Some(settings) = &settings {
                    function.settings = settings.clone();
                }
                let publishing = publish.then(|| Publishing::begin(&mut function, now));
                Ok((function, publishing))
            })
            .await?;
        self.finish(changed).await
    }

    /// Replaces a function's code.
    pub(crate) async fn put_code(
        &self,
        key: &FunctionKey,
        code: CodeRef,
        publish: bool,
        precondition: Precondition,
    ) -> Result<Put> {
        let changed = self
            .change(key, precondition, |current| {
                let function = existing(key, current)?;
                let now = self.clock.now();
                let runtime = self.sandbox.resolve_runtime(&function.latest.config.runtime)?;
                let latest = Version { code, runtime, modified_at: now, ..function.latest.clone() };
                let mut function = with_latest(function, latest);
                let publishing = publish.then(|| Publishing::begin(&mut function, now));
                Ok((function, publishing))
            })
            .await?;
        self.finish(changed).await
    }

    /// Changes the named fields of a function's configuration and settings.
    pub(crate) async fn patch_config(
        &self,
        key: &FunctionKey,
        patch: &PatchConfig,
        precondition: Precondition,
    ) -> Result<FunctionAt> {
        let changed = self
            .change(key, precondition, |current| {
                let mut function = existing(key, current)?;
                let config = self.patched(key, &function.latest.config, patch)?;
                config.validate()?;
                let config = config.stored();
                patch_settings(&mut function.settings, patch);
                function.settings.validate()?;
                self.sandbox.check_network(&config.network)?;
                let runtime = self.sandbox.resolve_runtime(&config.runtime)?;
                let now = self.clock.now();
                let latest =
                    Version { config, runtime, modified_at: now, ..function.latest.clone() };
                Ok((with_latest(function, latest), ()))
            })
            .await?;
        self.engine.caught_up(changed.stored.revision).await?;
        Ok(changed.stored.into())
    }

    fn patched(
        &self,
        key: &FunctionKey,
        config: &FunctionConfig,
        patch: &PatchConfig,
    ) -> Result<FunctionConfig> {
        let stored = &config.environment;
        let environment = match &patch.environment {
            Some(changes) => self.environment(key, stored).patched(changes)?,
            None => stored.clone(),
        };
        Ok(patched(config, patch).with_environment(environment))
    }

    fn environment<'a>(
        &'a self,
        function: &'a FunctionKey,
        stored: &'a BTreeMap<String, Variable>,
    ) -> Environment<'a> {
        Environment { vault: &*self.vault, function, stored }
    }

    /// The function at a version; `not-found` if either is missing.
    pub(crate) async fn function(&self, target: &FunctionRef) -> Result<FunctionAt> {
        let stored = self.function_record(&target.key).await?;
        let number = match &target.qualifier {
            Qualifier::Latest => return Ok(stored.into()),
            Qualifier::Version(number) => *number,
            Qualifier::Alias(_) => return Err(Error::not_found("alias", target)),
        };
        let version = self.version(&stored.value, number).await?;
        Ok(FunctionAt { function: stored.value, version, revision: stored.revision })
    }

    /// A page of a namespace's functions by name, and whether more follow.
    pub(crate) async fn functions(
        &self,
        namespace: &NamespaceName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<FunctionAt>, bool)> {
        self.namespace(namespace).await?;
        let (functions, more) = self.list(&keys::functions_of(namespace), after, limit).await?;
        Ok((functions.into_iter().map(FunctionAt::from).collect(), more))
    }

    /// Deletes a function with its versions and logs. Packages stay: others may name them too.
    pub(crate) async fn delete_function(
        &self,
        key: &FunctionKey,
        precondition: Precondition,
    ) -> Result<()> {
        for _ in 0..CHANGE_ATTEMPTS {
            let stored = self.function_record(key).await?;
            precondition.check(&named(key), Some(&stored))?;
            match self.meta.delete_if(&keys::function(key), stored.revision).await {
                Ok(revision) => {
                    self.engine.caught_up(revision).await?;
                    self.delete_versions(&stored.value).await?;
                    return self.logs.delete(key).await;
                }
                Err(e) if e.code() == Code::Conflict => {}
                Err(e) => return Err(e),
            }
        }
        Err(busy(&named(key)))
    }

    /// The function's document; `not-found` if there is none.
    pub(super) async fn function_record(&self, key: &FunctionKey) -> Result<Stored<Function>> {
        let stored = self.read(&keys::function(key)).await?;
        stored.ok_or_else(|| Error::not_found("function", key))
    }

    /// Changes a function's document by compare-and-set, again and again while others change it in between. A change that leaves
    /// it as it was is not written. A creation is tied to its namespace as [`super::namespaces`] says.
    pub(super) async fn change<R: Send>(
        &self,
        key: &FunctionKey,
        precondition: Precondition,
        mut edit: impl Edit<R>,
    ) -> Result<Changed<R>> {
        let document = keys::function(key);
        for _ in 0..CHANGE_ATTEMPTS {
            let current = self.read::<Function>(&document).await?;
            precondition.check(&named(key), current.as_ref())?;
            let (value, result) = edit(current.as_ref().map(|c| c.value.clone()))?;
            let created = current.is_none();
            if let Some(current) = &current
                && current.value == value
            {
                let stored = Stored { value, revision: current.revision };
                return Ok(Changed { stored, created, result });
            }
            if created {
                self.namespace_accepts(&key.namespace).await?;
            }
            let revision = match self.write(&document, expect(current.as_ref()), &value).await {
                Ok(revision) => revision,
                Err(e) if e.code() == Code::Conflict => continue,
                Err(e) => return Err(e),
            };
            if created {
                self.confirm_created(&value).await?;
            }
            return Ok(Changed { stored: Stored { value, revision }, created, result });
        }
        Err(busy(&named(key)))
    }

    /// Step (c) of a creation: undoes it if the namespace went away, also what others made of the function meanwhile.
    async fn confirm_created(&self, function: &Function) -> Result<()> {
        let key = function.key();
        let Err(gone) = self.namespace_accepts(&key.namespace).await else { return Ok(()) };
        let document = keys::function(key);
        for _ in 0..CHANGE_ATTEMPTS {
            let stored = self.read::<Function>(&document).await?;
            let Some(stored) = stored.filter(|s| s.value.id == function.id) else {
                return Err(gone);
            };
            match self.meta.delete_if(&document, stored.revision).await {
                Ok(_) => {
                    self.delete_versions(&stored.value).await?;
                    return Err(gone);
                }
                Err(e) if e.code() == Code::Conflict => {}
                Err(e) => return Err(e),
            }
        }
        Err(busy(&named(key)))
    }

    async fn finish(&self, changed: Changed<Option<Publishing>>) -> Result<Put> {
        let Changed { stored, created, result } = changed;
        let function = match result {
            None => stored.into(),
            Some(publishing) => self.finish_publishing(stored, publishing).await?.function,
        };
        self.engine.caught_up(function.revision).await?;
        Ok(Put { function, created })
    }
}

/// The function, or why there is nothing to change.
pub(super) fn existing(key: &FunctionKey, current: Option<Function>) -> Result<Function> {
    current.ok_or_else(|| Error::not_found("function", key))
}

/// How messages name a function.
pub(super) fn named(key: &FunctionKey) -> String {
    format!("function '{key}'")
}

fn no_code() -> Error {
    Error::caller(Code::InvalidBody, "code is missing: a new function needs a package")
        .with_hint("upload a package and pass its digest as code")
}

/// `function` with a new `$LATEST`; one that runs alike keeps its old date, so that repeating a deploy changes nothing.
fn with_latest(mut function: Function, latest: Version) -> Function {
    let modified_at = function.latest.modified_at;
    if (Version { modified_at, ..latest.clone() }) != function.latest {
        function.latest = latest;
    }
    function
}

/// Everything but the environment.
fn patched(config: &FunctionConfig, patch: &PatchConfig) -> FunctionConfig {
    let mut new = config.clone();
    set(&mut new.description, patch.description.as_ref());
    set(&mut new.runtime, patch.runtime.as_ref());
    set(&mut new.handler, patch.handler.as_ref());
    set(&mut new.timeout_ms, patch.timeout_ms.as_ref());
    if let Some(memory_mb) = patch.memory_mb {
        new.memory_mb = memory_mb;
        new.memory_share = None;
    }
    set(&mut new.memory_share, patch.memory_share.as_ref());
    set(&mut new.cpu_weight, patch.cpu_weight.as_ref());
    set(&mut new.cpu_cores, patch.cpu_cores.as_ref());
    set(&mut new.processes, patch.processes.as_ref());
    set(&mut new.open_files, patch.open_files.as_ref());
    set(&mut new.tmp_mb, patch.tmp_mb.as_ref());
    set(&mut new.output_bytes_per_second, patch.output_bytes_per_second.as_ref());
    set(&mut new.network, patch.network.as_ref());
    new
}

fn patch_settings(settings: &mut FunctionSettings, patch: &PatchConfig) {
    settings.max_instances = patch.max_instances.or(settings.max_instances);
    set(&mut settings.url_auth, patch.url_auth.as_ref());
    merge(&mut settings.tags, patch.tags.as_ref());
}

fn set<T: Clone>(field: &mut T, new: Option<&T>) {
    if let Some(new) = new {
        field.clone_from(new);
    }
}

fn merge(map: &mut BTreeMap<String, String>, changes: Option<&BTreeMap<String, Option<String>>>) {
    for (key, value) in changes.into_iter().flatten() {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> FunctionConfig {
        serde_json::from_str(
            r#"{"runtime":"nodejs20","handler":"a.b","environment":{"A":"1","B":"2"}}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_patch_changes_the_named_fields_only() {
        let patch: PatchConfig =
            serde_json::from_str(r#"{"memory_mb":256,"network":"egress"}"#).unwrap();
        let new = patched(&config(), &patch);
        assert_eq!(new.memory_mb, 256);
        assert_eq!(new.network.mode.as_str(), "egress");
        assert_eq!(new.handler, "a.b");
        assert_eq!(new.environment, config().environment);
        assert_eq!(patched(&config(), &PatchConfig::default()), config());
    }

    #[test]
    fn a_size_ends_a_share_and_null_removes_what_is_optional() {
        let patched = |config: &FunctionConfig, json: &str| {
            let patch: PatchConfig = serde_json::from_str(json).unwrap();
            patched(config, &patch)
        };
        let shared = patched(&config(), r#"{"memory_share":"25%","cpu_cores":0.5,"cpu_weight":7}"#);
        assert_eq!(shared.memory_share.unwrap().to_string(), "25%");
        assert_eq!((shared.cpu_cores.unwrap().millis(), shared.cpu_weight), (500, Some(7)));
        assert_eq!(patched(&shared, r#"{"timeout_ms":5}"#).memory_share, shared.memory_share);
        let sized = patched(&shared, r#"{"memory_mb":256}"#);
        assert_eq!((sized.memory_mb, sized.memory_share), (256, None));
        // As it is shown: the size belongs to the share.
        let both = patched(&shared, r#"{"memory_mb":256,"memory_share":"50%"}"#);
        assert_eq!(both.memory_share.unwrap().to_string(), "50%");
        let null = r#"{"memory_share":null,"cpu_cores":null,"cpu_weight":null,"processes":64}"#;
        let none = patched(&shared, null);
        assert_eq!((none.memory_share, none.cpu_cores, none.cpu_weight), (None, None, None));
        assert_eq!(none.processes, 64);
    }

    #[test]
    fn settings_are_patched_alike() {
        let mut settings = FunctionSettings::default();
        let patch: PatchConfig = serde_json::from_str(
            r#"{"max_instances":0,"url_auth":"none","tags":{"team":"a","old":null}}"#,
        )
        .unwrap();
        patch_settings(&mut settings, &patch);
        assert_eq!(settings.max_instances, Some(0));
        assert_eq!(settings.url_auth, model::function::UrlAuth::None);
        assert_eq!(settings.tags.len(), 1);
        patch_settings(&mut settings, &PatchConfig::default());
        assert_eq!(settings.max_instances, Some(0));
    }
}
