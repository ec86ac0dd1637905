//! Functions: created, replaced, changed, brought back, deleted; one document each.

use std::collections::BTreeMap;

use model::Result;
use model::api::{PatchConfig, PutFunction};
use model::change::{Change, What};
use model::error::{Code, Error};
use model::function::{
    CodeRef, Function, FunctionConfig, FunctionSettings, FunctionState, Publish, Variable, Version,
};
use model::ids::{Digest, FunctionKey, FunctionRef, NamespaceName, Qualifier, RequestId};
use model::keys;
use model::layer::AttachedLayer;

use super::record::{Changed, Document, Draft, Edit, Intent, Place, Turn, missing};
use super::rules::Rules;
use super::secrets::Environment;
use super::versions::{Published, body_of, publish};
use super::{Catalog, Stored};

/// What became of a change: the function's document, and whether it is new.
#[derive(Debug)]
pub(crate) struct Put {
    /// The function at the version that the change made or named.
    pub function: FunctionAt,
    /// Whether the function did not exist before.
    pub created: bool,
    /// Whether a version was published that did not exist before.
    pub published: bool,
}

/// A function seen at one of its versions.
#[derive(Clone, Debug)]
pub(crate) struct FunctionAt {
    /// The function.
    pub function: Function,
    /// The version; `function.latest` if that was asked for.
    pub version: Version,
}

impl From<Function> for FunctionAt {
    fn from(function: Function) -> Self {
        Self { version: function.latest.clone(), function }
    }
}

impl Document for Function {
    type State = FunctionState;

    fn change(&self) -> Option<&Change<FunctionState>> {
        self.change.as_ref()
    }

    fn set_change(&mut self, change: Change<FunctionState>) {
        self.change = Some(change);
    }

    fn deleted(&self) -> bool {
        self.deleted
    }

    fn set_deleted(&mut self) {
        self.deleted = true;
    }

    fn next_version(&self) -> u64 {
        self.next_version
    }

    fn leftovers(&self) -> Vec<String> {
        vec![keys::versions_of(&self.id), keys::shadows_of(&self.id)]
    }
}

/// What a change of `$LATEST` is called if the function exists, and whether it shall be published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub what: What,
    pub publish: bool,
}

/// The place of a function itself, without its aliases.
pub(super) fn place(key: &FunctionKey) -> Place<'_, Function> {
    Place {
        document: keys::function(key),
        named: named(key),
        namespace: Some(&key.namespace),
        revision: &|function: &Function| Some(function.revision),
        of: None,
    }
}

impl Catalog {
    /// Creates a function, or replaces code, configuration and settings of an existing one in one step.
    pub(crate) async fn put_function(
        &self,
        key: &FunctionKey,
        put: PutFunction,
        intent: &Intent,
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
        let layers = self.attach(&key.namespace, &config.layers).await?;
        let what = if code.is_some() { What::Deploy } else { What::Configure };
        let wish = Wish { what, publish };
        let changed = self
            .change_latest(key, intent, wish, |current, turn| {
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
                    layers: layers.clone(),
                    runtime: runtime.clone(),
                    modified_at: turn.now,
                };
                let mut function = match current {
                    Some(function) => with_latest(function, latest),
                    None => new_function(latest, turn),
                };
                if let Some(settings) = &settings {
                    function.settings = settings.clone();
                }
                Ok(function)
            })
            .await?;
        Ok(changed)
    }

    /// Replaces a function's code.
    pub(crate) async fn put_code(
        &self,
        key: &FunctionKey,
        code: CodeRef,
        publish: bool,
        intent: &Intent,
    ) -> Result<Put> {
        let wish = Wish { what: What::Deploy, publish };
        self.change_latest(key, intent, wish, |current, turn| {
            let function = existing(key, current)?;
            let runtime = self.sandbox.resolve_runtime(&function.latest.config.runtime)?;
            let latest =
                Version { code, runtime, modified_at: turn.now, ..function.latest.clone() };
            Ok(with_latest(function, latest))
        })
        .await
    }

    /// Changes the named fields of a function's configuration and settings.
    pub(crate) async fn patch_config(
        &self,
        key: &FunctionKey,
        patch: &PatchConfig,
        intent: &Intent,
    ) -> Result<Put> {
        let layers = match &patch.layers {
            Some(layers) => Some(self.attach(&key.namespace, layers).await?),
            None => None,
        };
        let wish = Wish { what: What::Configure, publish: false };
        self.change_latest(key, intent, wish, |current, turn| {
            let mut function = existing(key, current)?;
            let config = self.patched(key, &function.latest.config, patch)?;
            config.validate()?;
            let config = config.stored();
            patch_settings(&mut function.settings, patch);
            function.settings.validate()?;
            self.sandbox.check_network(&config.network)?;
            let runtime = self.sandbox.resolve_runtime(&config.runtime)?;
            let layers = layers.clone().unwrap_or_else(|| function.latest.layers.clone());
            let latest = Version {
                config,
                layers,
                runtime,
                modified_at: turn.now,
                ..function.latest.clone()
            };
            Ok(with_latest(function, latest))
        })
        .await
    }

    /// Brings `$LATEST` back to what a published version is.
    pub(crate) async fn rollback_function(
        &self,
        key: &FunctionKey,
        number: u64,
        intent: &Intent,
    ) -> Result<Put> {
        let seen = self.function_record(key).await?;
        let version = self.version(&seen, number).await?;
        let wish = Wish { what: What::Rollback, publish: false };
        self.change_latest(key, intent, wish, |current, turn| {
            let function = existing(key, current)?;
            if function.id != seen.id || function.published(number).is_none() {
                return Err(Error::not_found("version", format!("{key}:{number}")));
            }
            let latest = Version { number: None, modified_at: turn.now, ..version.clone() };
            Ok(with_latest(function, latest))
        })
        .await
    }

    /// `$LATEST` gets the layers that its references mean now, if it has others.
    pub(super) async fn follow_layers(&self, key: &FunctionKey, reason: &str) -> Result<bool> {
        let function = match self.function_record(key).await {
            Err(e) if e.code() == Code::NotFound => return Ok(false),
            function => function?,
        };
        let wanted = function.latest.config.layers;
        let layers = self.attach(&key.namespace, &wanted).await?;
        let wish = Wish { what: What::FollowLayer, publish: false };
        let mut moved = false;
        let intent = Intent::daemon(reason);
        self.change_latest_once(key, &intent, wish, |current, turn| {
            let function = existing(key, current)?;
            moved = function.latest.config.layers == wanted && function.latest.layers != layers;
            if !moved {
                return Ok(function);
            }
            let layers = layers.clone();
            let latest = Version { layers, modified_at: turn.now, ..function.latest.clone() };
            Ok(with_latest(function, latest))
        })
        .await?;
        Ok(moved)
    }

    /// One change of `$LATEST`, of the settings, or of both: checked against the namespace's rules, recorded, and published if that is asked
    /// for. A layer that moved meanwhile is followed.
    async fn change_latest(
        &self,
        key: &FunctionKey,
        intent: &Intent,
        wish: Wish,
        edit: impl FnMut(Option<Function>, Turn) -> Result<Function> + Send,
    ) -> Result<Put> {
        let put = self.change_latest_once(key, intent, wish, edit).await?;
        let mut expected = put.function.version.clone();
        expected.config.resolve_memory(self.engine.host_memory_mb());
        self.sandbox.expect(&expected);
        if put.function.function.latest.config.layers.is_empty() {
            return Ok(put);
        }
        if self.follow_layers(key, "a layer moved on during the change").await? {
            let function = self.function_record(key).await?.into();
            return Ok(Put { function, ..put });
        }
        Ok(put)
    }

    pub(super) async fn change_latest_once(
        &self,
        key: &FunctionKey,
        intent: &Intent,
        wish: Wish,
        mut edit: impl FnMut(Option<Function>, Turn) -> Result<Function> + Send,
    ) -> Result<Put> {
        let rules = self.rules(&key.namespace).await?;
        let changed = self
            .edit(&place(key), intent, |current: Option<Function>, turn| {
                let mut value = edit(current.clone(), turn)?;
                let before = current.as_ref().map(state);
                let unchanged = before.as_ref() == Some(&state(&value));
                let always = value.settings.publish == Publish::Always;
                let published = if wish.publish || always && !unchanged {
                    Some(publish(&mut value, turn)?)
                } else {
                    None
                };
                self.check(&rules, current.as_ref(), &value)?;
                let new = published.as_ref().and_then(Published::as_new);
                if unchanged && new.is_none() {
                    return Ok(Edit { value, draft: None, body: None, result: published });
                }
                value.revision = turn.revision;
                let what = match (&current, unchanged) {
                    (None, _) => What::Create,
                    (_, true) => What::Publish,
                    _ => wish.what,
                };
                let of = new.map(|version| version.label().to_string());
                let after = Some(state(&value));
                let draft = Some(Draft { what, of, before, after });
                let body = new.map(|version| body_of(&value.id, version)).transpose()?;
                Ok(Edit { value, draft, body, result: published })
            })
            .await?;
        let Changed { stored: Stored { value: function, .. }, created, result } = changed;
        let (version, published) = match result {
            None => (function.latest.clone(), false),
            Some(Published::Existing(number)) => (self.version(&function, number).await?, false),
            Some(Published::New(version)) => (*version, true),
        };
        Ok(Put { function: FunctionAt { function, version }, created, published })
    }

    /// What the namespace's rules say to a function as it shall be.
    fn check(&self, rules: &Rules<'_>, before: Option<&Function>, after: &Function) -> Result<()> {
        let mut config = after.latest.config.clone();
        config.resolve_memory(self.engine.host_memory_mb());
        rules.policy().check(&after.latest.runtime.name, &config, &after.settings)?;
        check_unpacked(&after.latest)?;
        rules.check_function(before, after)
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

    pub(super) fn environment<'a>(
        &'a self,
        function: &'a FunctionKey,
        stored: &'a BTreeMap<String, Variable>,
    ) -> Environment<'a> {
        Environment { vault: &*self.vault, function, stored }
    }

    /// The function at a version; `not-found` if either is missing. An alias means the function, where it leads to several versions, at the
    /// first of them.
    pub(crate) async fn function(&self, target: &FunctionRef) -> Result<FunctionAt> {
        let function = self.function_record(&target.key).await?;
        let number = match &target.qualifier {
            Qualifier::Latest => None,
            Qualifier::Version(number) => Some(*number),
            Qualifier::Alias(name) => {
                let record = function.aliases.get(name);
                let record = record.ok_or_else(|| Error::not_found("alias", target))?;
                record.alias.targets.first().and_then(|first| first.version.number())
            }
        };
        let Some(number) = number else { return Ok(function.into()) };
        let version = self.version(&function, number).await?;
        Ok(FunctionAt { function, version })
    }

    /// A page of a namespace's functions by name, and whether more follow.
    pub(crate) async fn functions(
        &self,
        namespace: &NamespaceName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<FunctionAt>, bool)> {
        self.namespace(namespace).await?;
        let (functions, more) =
            self.list::<Function>(&keys::functions_of(namespace), after, limit).await?;
        let live = functions.into_iter().map(|f| f.value).filter(|f| !f.deleted);
        Ok((live.map(FunctionAt::from).collect(), more))
    }

    /// Deletes a function with its versions, aliases and logs. Packages stay: others may name them too.
    pub(crate) async fn delete_function(&self, key: &FunctionKey, intent: &Intent) -> Result<()> {
        self.erase(&place(key), intent, |current: Option<&Function>| Ok(current.map(state)))
            .await?;
        self.logs.delete(key).await
    }

    /// The function's document; `not-found` if there is none.
    pub(super) async fn function_record(&self, key: &FunctionKey) -> Result<Function> {
        let stored = self.read::<Function>(&keys::function(key)).await?;
        let live = stored.map(|s| s.value).filter(|f| !f.deleted);
        live.ok_or_else(|| Error::not_found("function", key))
    }
}

/// The function, or why there is nothing to change.
pub(super) fn existing(key: &FunctionKey, current: Option<Function>) -> Result<Function> {
    current.ok_or_else(|| missing(&named(key)))
}

/// How messages name a function.
pub(super) fn named(key: &FunctionKey) -> String {
    format!("function '{key}'")
}

/// What a change of a function is recorded with.
fn state(function: &Function) -> FunctionState {
    FunctionState::Function {
        settings: function.settings.clone(),
        latest: Box::new(function.latest.clone()),
    }
}

fn new_function(latest: Version, turn: Turn) -> Function {
    Function {
        id: RequestId::generate(),
        created_at: turn.now,
        settings: FunctionSettings::default(),
        latest,
        versions: Vec::new(),
        next_version: turn.next_version,
        aliases: BTreeMap::new(),
        revision: turn.revision,
        change: None,
        deleted: false,
    }
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

/// Code and layers together have a limit: they are one instance's files.
fn check_unpacked(latest: &Version) -> Result<()> {
    let layers: u64 =
        latest.layers.iter().map(|layer: &AttachedLayer| layer.code.unpacked_bytes).sum();
    let all = layers.saturating_add(latest.code.unpacked_bytes);
    if !latest.layers.is_empty() && all > model::limits::UNPACKED_BYTES {
        return Err(Error::caller(
            Code::PackageTooLarge,
            format!(
                "code and layers have {all} bytes unpacked: expected at most {} together",
                model::limits::UNPACKED_BYTES
            ),
        ));
    }
    Ok(())
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
    set(&mut new.layers, patch.layers.as_ref());
    new
}

fn patch_settings(settings: &mut FunctionSettings, patch: &PatchConfig) {
    settings.max_instances = patch.max_instances.or(settings.max_instances);
    set(&mut settings.url_auth, patch.url_auth.as_ref());
    set(&mut settings.publish, patch.publish.as_ref());
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
