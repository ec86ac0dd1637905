//! Layers: published, named by aliases, attached to functions.
//!
//! A function's configuration refers to layers; what a reference means is worked out when the function is deployed, and is part of its
//! version. When a layer's alias moves, `$LATEST` of every function that follows it moves too ([`Catalog::move_followers`]): after the alias,
//! so that the alias is the truth that a start after a crash goes by, and a deploy that read the alias before looks at it again afterwards.

use std::collections::BTreeMap;

use model::Result;
use model::change::{Change, What};
use model::error::{Code, Error};
use model::function::{CodeRef, Function, Version};
use model::ids::{AliasName, FunctionKey, NamespaceName, RequestId};
use model::layer::{AttachedLayer, Layer, LayerAt, LayerKey, LayerRef, LayerState, LayerVersion};
use model::{keys, limits};
use serde_json::Value;

use super::Catalog;
use super::differ::as_json;
use super::record::{Document, Draft, Edit, Intent, Place, missing};

/// What a layer's new version is published with.
#[derive(Debug)]
pub(crate) struct NewLayerVersion {
    /// The package.
    pub code: CodeRef,
    /// What it is.
    pub description: String,
    /// Runtimes that it is meant for; none means any.
    pub runtimes: Vec<String>,
}

/// What became of the functions that follow an alias.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    /// Names of those that moved.
    pub moved: Vec<String>,
    /// Names of those that did not, and why.
    pub not_moved: Vec<(String, Error)>,
}

impl Document for Layer {
    type State = LayerState;

    fn change(&self) -> Option<&Change<LayerState>> {
        self.change.as_ref()
    }

    fn set_change(&mut self, change: Change<LayerState>) {
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

    fn state(&self) -> Option<LayerState> {
        self.versions.last().cloned().map(LayerState::Version)
    }

    fn comparable(state: &LayerState) -> Value {
        as_json(state)
    }

    async fn clear(&self, _: &Catalog) -> Result<()> {
        Ok(())
    }
}

fn place(key: &LayerKey) -> Place<'_, Layer> {
    Place {
        document: keys::layer(key),
        named: named(key),
        namespace: Some(&key.namespace),
        revision: &|layer: &Layer| Some(layer.newest()),
        concerns: &|_| true,
    }
}

fn named(key: &LayerKey) -> String {
    format!("layer '{key}'")
}

fn existing(key: &LayerKey, current: Option<Layer>) -> Result<Layer> {
    current.ok_or_else(|| missing(&named(key)))
}

impl Catalog {
    /// Publishes a version of a layer, which is created with its first one. What the newest version is already is not published again; the
    /// answer says whether it is new.
    pub(crate) async fn publish_layer(
        &self,
        key: &LayerKey,
        new: NewLayerVersion,
        intent: &Intent,
    ) -> Result<(LayerVersion, bool)> {
        new.validate()?;
        let rules = self.rules(&key.namespace).await?;
        let changed = self
            .edit(&place(key), intent, |current: Option<Layer>, turn| {
                let mut value = current.unwrap_or_else(|| Layer {
                    key: key.clone(),
                    id: RequestId::generate(),
                    created_at: turn.now,
                    versions: Vec::new(),
                    next_version: turn.next_version,
                    aliases: BTreeMap::new(),
                    change: None,
                    deleted: false,
                });
                if let Some(newest) = value.versions.last().filter(|newest| new.is(newest)) {
                    let result = (newest.clone(), false);
                    return Ok(Edit { value, draft: None, body: None, result });
                }
                if value.versions.len() >= limits::LAYER_VERSIONS {
                    return Err(too_many(key, "versions", limits::LAYER_VERSIONS));
                }
                rules.check_code(0, new.code.size_bytes)?;
                let version = LayerVersion {
                    number: value.next_version,
                    code: new.code,
                    description: new.description.clone(),
                    runtimes: new.runtimes.clone(),
                    published_at: turn.now,
                };
                value.next_version += 1;
                value.versions.push(version.clone());
                let draft = Draft {
                    what: What::Publish,
                    of: Some(version.number.to_string()),
                    before: None,
                    after: Some(LayerState::Version(version.clone())),
                };
                Ok(Edit { value, draft: Some(draft), body: None, result: (version, true) })
            })
            .await?;
        Ok(changed.result)
    }

    /// The layer; `not-found` if there is none.
    pub(crate) async fn layer(&self, key: &LayerKey) -> Result<Layer> {
        let stored = self.live::<Layer>(&keys::layer(key)).await?;
        stored.map(|stored| stored.value).ok_or_else(|| Error::not_found("layer", key))
    }

    /// One version of a layer; `not-found` if there is none.
    pub(crate) async fn layer_version(&self, key: &LayerKey, number: u64) -> Result<LayerVersion> {
        let layer = self.layer(key).await?;
        layer.at(&LayerAt::Version(number)).cloned().ok_or_else(|| no_version(key, number))
    }

    /// A page of a namespace's layers by name, and what the next page is after.
    pub(crate) async fn layers(
        &self,
        namespace: &NamespaceName,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Layer>, Option<String>)> {
        self.namespace(namespace).await?;
        self.page(&keys::layers_of(namespace), after, limit).await
    }

    /// Deletes a version of a layer; `conflict` while an alias points to it. Functions that have it keep it.
    pub(crate) async fn delete_layer_version(
        &self,
        key: &LayerKey,
        number: u64,
        intent: &Intent,
    ) -> Result<()> {
        let of = number.to_string();
        self.edit(&place(key), intent, |current, _| {
            let mut value = existing(key, current)?;
            let at = value.versions.binary_search_by_key(&number, |v| v.number);
            let at = at.map_err(|_| no_version(key, number))?;
            if let Some((alias, _)) = value.aliases.iter().find(|(_, points)| **points == number) {
                return Err(Error::caller(
                    Code::Conflict,
                    format!("version '{key}:{number}' is in use: alias '{alias}' points to it"),
                )
                .with_hint("move or delete the alias first"));
            }
            let version = value.versions.remove(at);
            let draft = Draft {
                what: What::Delete,
                of: Some(of.clone()),
                before: Some(LayerState::Version(version)),
                after: None,
            };
            Ok(Edit { value, draft: Some(draft), body: None, result: () })
        })
        .await?;
        Ok(())
    }

    /// Deletes a layer with its versions and aliases; `conflict` while a function follows one of them. Functions that have a version of it keep
    /// it.
    pub(crate) async fn delete_layer(&self, key: &LayerKey, intent: &Intent) -> Result<()> {
        let aliased = |at: &LayerAt| matches!(at, LayerAt::Alias(_));
        self.refuse_followed(key, aliased, &named(key)).await?;
        self.erase(&place(key), intent, |_: &Layer| Ok(())).await.map(drop)
    }

    /// Points an alias of a layer to a version, and moves the functions that follow it.
    pub(crate) async fn put_layer_alias(
        &self,
        key: &LayerKey,
        name: &AliasName,
        number: u64,
        intent: &Intent,
    ) -> Result<Followers> {
        self.edit(&place(key), intent, |current, _| {
            let mut value = existing(key, current)?;
            if value.at(&LayerAt::Version(number)).is_none() {
                return Err(no_version(key, number));
            }
            if !value.aliases.contains_key(name) && value.aliases.len() >= limits::LAYER_ALIASES {
                return Err(too_many(key, "aliases", limits::LAYER_ALIASES));
            }
            let before = value.aliases.insert(name.clone(), number);
            let draft = (before != Some(number)).then(|| Draft {
                what: if before.is_some() { What::Configure } else { What::Create },
                of: Some(name.to_string()),
                before: before.map(LayerState::Alias),
                after: Some(LayerState::Alias(number)),
            });
            Ok(Edit { value, draft, body: None, result: () })
        })
        .await?;
        self.move_followers(key, name).await
    }

    /// Deletes an alias of a layer; `conflict` while a function follows it.
    pub(crate) async fn delete_layer_alias(
        &self,
        key: &LayerKey,
        name: &AliasName,
        intent: &Intent,
    ) -> Result<()> {
        let this = |at: &LayerAt| matches!(at, LayerAt::Alias(alias) if alias == name);
        self.refuse_followed(key, this, &format!("alias '{key}:{name}'")).await?;
        self.edit(&place(key), intent, |current, _| {
            let mut value = existing(key, current)?;
            let number = value
                .aliases
                .remove(name)
                .ok_or_else(|| Error::not_found("alias", format!("{key}:{name}")))?;
            let draft = Draft {
                what: What::Delete,
                of: Some(name.to_string()),
                before: Some(LayerState::Alias(number)),
                after: None,
            };
            Ok(Edit { value, draft: Some(draft), body: None, result: () })
        })
        .await?;
        Ok(())
    }

    /// Fails with `conflict` where a function refers to a layer by what `at` names.
    async fn refuse_followed(
        &self,
        key: &LayerKey,
        at: impl Fn(&LayerAt) -> bool,
        named: &str,
    ) -> Result<()> {
        let followers = self.followers(key, at).await?;
        let Some(function) = followers.first() else { return Ok(()) };
        Err(Error::caller(
            Code::Conflict,
            format!("{named} is in use: function '{function}' follows it"),
        )
        .with_hint("give these functions another layer first"))
    }

    /// What the references of a version mean now where they name aliases. What is gone stays what it was: who has it keeps it.
    pub(super) async fn followed(&self, version: &Version) -> Result<Vec<AttachedLayer>> {
        let mut layers = version.layers.clone();
        for (reference, layer) in version.config.layers.iter().zip(&mut layers) {
            if matches!(reference.at, LayerAt::Version(_)) {
                continue;
            }
            let now = self.attach(&version.key.namespace, std::slice::from_ref(reference)).await;
            match now {
                Err(e) if e.code() == Code::NotFound => {}
                now => now?.into_iter().for_each(|now| *layer = now),
            }
        }
        Ok(layers)
    }

    /// What a configuration's references to layers mean now; `not-found` names the one that means nothing.
    pub(super) async fn attach(
        &self,
        namespace: &NamespaceName,
        layers: &[LayerRef],
    ) -> Result<Vec<AttachedLayer>> {
        let mut attached = Vec::with_capacity(layers.len());
        for reference in layers {
            let key = LayerKey { namespace: namespace.clone(), name: reference.name.clone() };
            let layer = self.layer(&key).await?;
            let version = layer.at(&reference.at).ok_or_else(|| {
                Error::not_found("layer version", format!("{namespace}/{reference}"))
                    .with_hint(format!("see `hanshu layer versions {}`", key.name))
            })?;
            attached.push(AttachedLayer {
                name: key.name,
                version: version.number,
                code: version.code,
            });
        }
        Ok(attached)
    }

    /// Gives every function that follows an alias of a layer the version it points to now. One that cannot move keeps what it has, and keeps no
    /// other from it.
    async fn move_followers(&self, key: &LayerKey, name: &AliasName) -> Result<Followers> {
        let reason = format!("alias {name} of layer {} moved on", key.name);
        let this = |at: &LayerAt| matches!(at, LayerAt::Alias(alias) if alias == name);
        let mut followers = Followers::default();
        for function in self.followers(key, this).await? {
            let name = function.name.to_string();
            match self.follow_layers(&function, &reason).await {
                Ok(true) => followers.moved.push(name),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, %function, reason, "the function keeps the layers that it has");
                    followers.not_moved.push((name, error));
                }
            }
        }
        Ok(followers)
    }

    /// Functions that refer to a layer by what `at` names.
    async fn followers(
        &self,
        key: &LayerKey,
        at: impl Fn(&LayerAt) -> bool,
    ) -> Result<Vec<FunctionKey>> {
        let follows = |layer: &LayerRef| layer.name == key.name && at(&layer.at);
        let (mut followers, mut after) = (Vec::new(), None);
        let prefix = keys::functions_of(&key.namespace);
        while let Some(functions) =
            self.walk::<Function>(&prefix, &mut after, limits::PAGE_ENTRIES).await?
        {
            let live = functions.into_iter().map(|(_, f)| f.value).filter(|f| !f.deleted);
            let following = live.filter(|f| f.latest.config.layers.iter().any(follows));
            followers.extend(following.map(|f| f.latest.key));
        }
        Ok(followers)
    }
}

impl NewLayerVersion {
    fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::caller(Code::InvalidParameter, message));
        if self.description.chars().count() > limits::DESCRIPTION_CHARS {
            return bad(format!(
                "description is too long: expected at most {} characters",
                limits::DESCRIPTION_CHARS
            ));
        }
        let named = |name: &String| !name.is_empty() && name.len() <= limits::HANDLER_CHARS;
        if self.runtimes.len() > limits::POLICY_RUNTIMES || !self.runtimes.iter().all(named) {
            return bad(format!(
                "runtimes is not valid: expected at most {} names of runtimes, for instance python3.11",
                limits::POLICY_RUNTIMES
            ));
        }
        Ok(())
    }

    fn is(&self, version: &LayerVersion) -> bool {
        version.code.digest == self.code.digest
            && version.description == self.description
            && version.runtimes == self.runtimes
    }
}

fn no_version(key: &LayerKey, number: u64) -> Error {
    Error::not_found("layer version", format!("{key}:{number}"))
        .with_hint(format!("see `hanshu layer versions {}`", key.name))
}

fn too_many(key: &LayerKey, what: &str, most: usize) -> Error {
    Error::caller(
        Code::InvalidParameter,
        format!("{} has {most} {what}: expected no more", named(key)),
    )
    .with_hint("delete those that are not needed any more")
}
