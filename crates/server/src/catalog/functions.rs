//! Functions: created, replaced, changed, brought back, deleted; one document each.

use std::collections::BTreeMap;

use engine::{Engine, Faulty, Prepared};
use model::Result;
use model::api::{PatchConfig, PutFunction};
use model::change::{Change, What};
use model::error::{Code, Error};
use model::function::{
    CodeRef, Function, FunctionConfig, FunctionSettings, FunctionState, Publish, Variable, Version,
};
use model::ids::{Digest, FunctionKey, FunctionRef, NamespaceName, Qualifier, RequestId};
use model::keys;
use model::layer::{AttachedLayer, LayerAt};
use serde_json::Value;

use super::differ::function_state;
use super::patch::{patch_settings, patched};
use super::record::{Changed, Document, Draft, Edit, Intent, Place, Turn, missing};
use super::rules::Rules;
use super::secrets::Environment;
use super::versions::{Published, body_of, publish};
use super::{CHANGE_ATTEMPTS, Catalog, Stored, busy};

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

    fn prepare(
        &self,
        engine: &Engine,
        faulty: Faulty,
    ) -> impl Future<Output = Result<Option<Prepared>>> + Send {
        engine.prepare(self, faulty)
    }

    fn state(&self) -> Option<FunctionState> {
        Some(state(self))
    }

    fn comparable(state: &FunctionState) -> Value {
        function_state(state)
    }

    async fn clear(&self, catalog: &Catalog) -> Result<()> {
        catalog.logs.delete(self.key()).await?;
        catalog.remove_all(&keys::versions_of(&self.id)).await?;
        catalog.remove_all(&keys::shadows_of(&self.id)).await
    }

    /// A body that is not listed may be another publisher's, who is about to list it, until its number is given. One of another id is of a
    /// function that is gone, or never came to be.
    fn disowns(&self, body: &str) -> bool {
        let Some(version) = body.strip_prefix(&keys::versions_of(&self.id)) else { return true };
        let number = version.split_once('-').and_then(|(number, _)| number.parse::<u64>().ok());
        let given = number.filter(|number| *number < self.next_version);
        given.is_some_and(|number| {
            self.published(number).is_none_or(|v| keys::version_of(&self.id, v) != body)
        })
    }
}

/// What a change of `$LATEST` is called if the function exists, and whether it shall be published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub what: What,
    pub publish: bool,
    /// The description of what is published, if it shall have its own.
    pub described: Option<&'a str>,
}

/// The place of a function itself, without its aliases.
pub(super) fn place(key: &FunctionKey) -> Place<'_, Function> {
    Place {
        document: keys::function(key),
        named: named(key),
        namespace: Some(&key.namespace),
        revision: &|function: &Function| Some(function.revision),
        concerns: &|change| {
            let state = change.before.as_ref().or(change.after.as_ref());
            !matches!(state, Some(FunctionState::Alias { .. } | FunctionState::Provisioned(_)))
        },
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
        let PutFunction { config, settings, code, publish, force } = put;
        let intent = &intent.clone().forced(force);
        config.validate()?;
        let config = config.stored();
        settings.as_ref().map_or(Ok(()), FunctionSettings::validate)?;
        let runtime = self.sandbox.resolve_runtime(&config.runtime)?;
        self.sandbox.check_network(&config.network)?;
        let code = match code {
            Some(digest) => Some(self.package(&key.namespace, &digest.parse::<Digest>()?).await?),
            None => None,
        };
        let layers = self.attach(&key.namespace, &config.layers).await?;
        let what = if code.is_some() { What::Deploy } else { What::Configure };
        let wish = Wish { what, publish, described: None };
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
        let wish = Wish { what: What::Deploy, publish, described: None };
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
        let wish = Wish { what: What::Configure, publish: false, described: None };
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
        let version = self.pinned(self.version(&seen, number).await?).await?;
        let wish = Wish { what: What::Rollback, publish: false, described: None };
        let change = self.change_latest(key, intent, wish, |current, turn| {
            let function = existing(key, current)?;
            if function.id != seen.id || function.published(number).is_none() {
                return Err(Error::not_found("version", format!("{key}:{number}")));
            }
            let latest = Version { number: None, modified_at: turn.now, ..version.clone() };
            Ok(with_latest(function, latest))
        });
        // It holds whole documents, as what was read above does: one future for both would be too large.
        Box::pin(change).await
    }

    /// A version with references that keep its layers: an alias of a layer that has moved on since would lead away from them at once.
    async fn pinned(&self, mut version: Version) -> Result<Version> {
        let namespace = &version.key.namespace;
        for (reference, attached) in version.config.layers.iter_mut().zip(&version.layers) {
            let means = match self.attach(namespace, std::slice::from_ref(reference)).await {
                Err(e) if e.code() == Code::NotFound => Vec::new(),
                means => means?,
            };
            if means.first() != Some(attached) {
                reference.at = LayerAt::Version(attached.version);
            }
        }
        Ok(version)
    }

    /// `$LATEST` gets the layers that its references mean now, if it has others; answers with whether it had. Where this fails, it keeps what it
    /// has.
    pub(super) async fn follow_layers(&self, key: &FunctionKey, reason: &str) -> Result<bool> {
        let mut moved = false;
        // Again after each change: what the aliases meant before it may be what another change already left behind.
        for _ in 0..CHANGE_ATTEMPTS {
            let seen = match self.function_record(key).await {
                Err(e) if e.code() == Code::NotFound => return Ok(moved),
                function => function?.latest,
            };
            let layers = self.followed(&seen).await?;
            if layers == seen.layers {
                return Ok(moved);
            }
            let wish = Wish { what: What::FollowLayer, publish: false, described: None };
            let intent = Intent::daemon(reason);
            let mut moves = false;
            let change = self.change_latest_once(key, &intent, wish, |current, turn| {
                let function = existing(key, current)?;
                moves = function.latest.config.layers == seen.config.layers
                    && function.latest.layers != layers;
                if !moves {
                    return Ok(function);
                }
                let layers = layers.clone();
                let latest = Version { layers, modified_at: turn.now, ..function.latest.clone() };
                Ok(with_latest(function, latest))
            });
            match change.await {
                Err(e) if e.code() == Code::NotFound => return Ok(moved),
                change => drop(change?),
            }
            moved |= moves;
        }
        Err(busy(&named(key)))
    }

    /// One change of `$LATEST`, of the settings, or of both: checked against the namespace's rules, recorded, and published if that is asked
    /// for. A layer that moved meanwhile is followed.
    async fn change_latest(
        &self,
        key: &FunctionKey,
        intent: &Intent,
        wish: Wish<'_>,
        edit: impl FnMut(Option<Function>, Turn) -> Result<Function> + Send,
    ) -> Result<Put> {
        let put = self.change_latest_once(key, intent, wish, edit).await?;
        let mut expected = put.function.version.clone();
        expected.config.resolve_memory(self.engine.host_memory_mb());
        self.sandbox.expect(&expected);
        if put.function.function.latest.config.layers.is_empty() {
            return Ok(put);
        }
        match self.follow_layers(key, "a layer moved on during the change").await {
            Ok(true) => {}
            Ok(false) => return Ok(put),
            // What was asked for is done.
            Err(error) => {
                tracing::warn!(%error, function = %key, "the function does not follow its layers");
                return Ok(put);
            }
        }
        let function = self.function_record(key).await?;
        let version = match put.function.version {
            // It was published, with the layers that it had.
            version if version.number.is_some() => version,
            _ => function.latest.clone(),
        };
        Ok(Put { function: FunctionAt { function, version }, ..put })
    }

    pub(super) async fn change_latest_once(
        &self,
        key: &FunctionKey,
        intent: &Intent,
        wish: Wish<'_>,
        mut edit: impl FnMut(Option<Function>, Turn) -> Result<Function> + Send,
    ) -> Result<Put> {
        let rules = self.rules(&key.namespace).await?;
        let changed = self
            .edit(&place(key), intent, |current: Option<Function>, turn| {
                let mut value = edit(current.clone(), turn)?;
                let before = current.as_ref().map(state);
                // Publishing adds to the list of versions only.
                let after = Some(state(&value));
                let unchanged = before == after;
                let always = value.settings.publish == Publish::Always;
                let published = if wish.publish || always && !unchanged {
                    Some(publish(&mut value, wish.described, turn)?)
                } else {
                    None
                };
                self.check(&rules, wish.what, current.as_ref(), &value)?;
                let reserves = |f: &Function| {
                    let config = &f.latest.config;
                    (f.settings.reserved_instances, config.memory_mb, config.memory_share)
                };
                if current.as_ref().map(reserves) != Some(reserves(&value)) {
                    self.engine.check_reserved(&value)?;
                }
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

    /// What the namespace's rules say to a function as it shall be. Its policy says nothing of layers.
    fn check(
        &self,
        rules: &Rules<'_>,
        what: What,
        before: Option<&Function>,
        after: &Function,
    ) -> Result<()> {
        if what != What::FollowLayer {
            let mut config = after.latest.config.clone();
            config.resolve_memory(self.engine.host_memory_mb());
            rules.policy().check(&after.latest.runtime.name, &config, &after.settings)?;
        }
        // What goes back shall not stop at a secret that came later: the webhook says that it is missing.
        if !matches!(what, What::FollowLayer | What::Rollback) {
            after.settings.async_calls.check_secrets(&after.latest.config.environment)?;
        }
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

    /// A page of a namespace's functions by name, and what the next page is after.
    pub(crate) async fn functions(
        &self,
        namespace: &NamespaceName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<FunctionAt>, Option<String>)> {
        self.namespace(namespace).await?;
        let (functions, next) =
            self.page::<Function>(&keys::functions_of(namespace), after, limit).await?;
        Ok((functions.into_iter().map(FunctionAt::from).collect(), next))
    }

    /// Deletes a function with its versions, aliases and logs. Packages stay: others may name them too.
    pub(crate) async fn delete_function(&self, key: &FunctionKey, intent: &Intent) -> Result<()> {
        self.erase(&place(key), intent, |_: &Function| Ok(())).await.map(drop)
    }

    /// The function's document; `not-found` if there is none.
    pub(super) async fn function_record(&self, key: &FunctionKey) -> Result<Function> {
        let stored = self.live::<Function>(&keys::function(key)).await?;
        stored.map(|stored| stored.value).ok_or_else(|| Error::not_found("function", key))
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
        provisioned: BTreeMap::new(),
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
                "code and layers of {} have {all} bytes unpacked: expected at most {} together",
                named(&latest.key),
                model::limits::UNPACKED_BYTES
            ),
        ));
    }
    Ok(())
}
