//! Aliases: created, replaced, brought back, deleted; parts of their function's document.

use model::Result;
use model::alias::{Alias, AliasRecord, Rollout, Shadow, Target, compat};
use model::api::PutAlias;
use model::change::{Change, What};
use model::error::{Code, Error};
use model::function::{Function, FunctionState};
use model::ids::{AliasName, FunctionKey, Qualifier};
use model::{keys, limits};

use super::Catalog;
use super::functions::{existing, named};
use super::provisioned::not_provisioned;
use super::record::{Draft, Edit, Intent, Place, Turn};

/// An alias with its function.
#[derive(Clone, Debug)]
pub(crate) struct AliasAt {
    /// The function.
    pub function: FunctionKey,
    /// The alias's name.
    pub name: AliasName,
    /// The alias.
    pub record: AliasRecord,
}

/// What became of a change of an alias.
#[derive(Debug)]
pub(crate) struct PutAliasOutcome {
    /// The alias.
    pub alias: AliasAt,
    /// Whether it did not exist before.
    pub created: bool,
}

/// How an alias shall be.
pub(super) struct Wanted {
    pub what: What,
    pub alias: Alias,
    pub rollout: Option<Rollout>,
    /// Whether it is recorded without how the alias was before and is after.
    pub brief: bool,
}

impl Catalog {
    /// Creates an alias, or replaces one whole; a shift under way ends.
    pub(crate) async fn put_alias(
        &self,
        key: &FunctionKey,
        name: &AliasName,
        put: PutAlias,
        intent: &Intent,
    ) -> Result<PutAliasOutcome> {
        let targets = targets(&put)?;
        let wanted = Alias {
            description: put.description,
            targets,
            rules: put.rules,
            sticky: put.sticky,
            environment: put.environment,
            shadow: put.shadow,
        };
        wanted.validate()?;
        self.change_alias(key, name, intent, |function, current, _| {
            let stored = current.map(|record| record.alias.environment.clone()).unwrap_or_default();
            let environment = self.environment(key, &stored).replaced(&wanted.environment)?;
            let what = if current.is_some() { What::Configure } else { What::Create };
            let alias = wanted.with_environment(environment);
            alias.validate()?;
            has_versions(function, &alias)?;
            Ok(Wanted { what, alias, rollout: None, brief: false })
        })
        .await
    }

    /// Gives an alias a shadow, or takes it away.
    pub(crate) async fn put_shadow(
        &self,
        key: &FunctionKey,
        name: &AliasName,
        shadow: Option<Shadow>,
        intent: &Intent,
    ) -> Result<AliasAt> {
        let changed = self
            .change_alias(key, name, intent, |function, current, _| {
                let record = current.ok_or_else(|| no_alias(key, name))?.clone();
                let alias = Alias { shadow, ..record.alias };
                has_versions(function, &alias)?;
                Ok(Wanted { what: What::Configure, alias, rollout: record.rollout, brief: false })
            })
            .await?;
        Ok(changed.alias)
    }

    /// Brings an alias back to how it was at an earlier revision; without one, to how it was before its last change, where a shift counts as one
    /// change. A deleted alias comes back. A shift under way ends.
    pub(crate) async fn rollback_alias(
        &self,
        key: &FunctionKey,
        name: &AliasName,
        revision: Option<u64>,
        intent: &Intent,
    ) -> Result<AliasAt> {
        let alias = match revision {
            Some(revision) => self.alias_at(key, name, revision).await?,
            None => self.alias_before(key, name).await?,
        };
        let changed = self
            .change_alias(key, name, intent, |function, _, _| {
                has_versions(function, &alias)?;
                Ok(Wanted {
                    what: What::Rollback,
                    alias: alias.clone(),
                    rollout: None,
                    brief: false,
                })
            })
            .await?;
        Ok(changed.alias)
    }

    /// How an alias was at a revision.
    async fn alias_at(&self, key: &FunctionKey, name: &AliasName, revision: u64) -> Result<Alias> {
        let change = self.change::<Function>(&keys::function(key), &named(key), revision).await?;
        match change.after {
            Some(FunctionState::Alias { alias, .. })
                if change.of.as_deref() == Some(name.as_str()) =>
            {
                Ok(*alias)
            }
            _ => Err(Error::caller(
                Code::InvalidParameter,
                format!("revision {revision} is no state of alias '{key}:{name}'"),
            )
            .with_hint(format!("its revisions: `hanshu history {}:{name}`", key.name))),
        }
    }

    /// How an alias was before its last change.
    async fn alias_before(&self, key: &FunctionKey, name: &AliasName) -> Result<Alias> {
        let document = keys::function(key);
        let mut before = None;
        loop {
            let (changes, more) = self
                .changes::<Function>(&document, Some(name.as_str()), before, limits::PAGE_ENTRIES)
                .await?;
            // A shift leads back to where it began, whatever became of it: no state within it is one to go back to.
            let outside = |change: &&Change<_>| {
                !matches!(change.what, What::ShiftStep | What::ShiftDone | What::ShiftStop)
            };
            match changes.iter().find(outside).map(|change| &change.before) {
                Some(Some(FunctionState::Alias { alias, rollout })) => {
                    let within = rollout.as_ref().map(|rollout| rollout.before.clone());
                    let targets = within.unwrap_or_else(|| alias.targets.clone());
                    return Ok(Alias { targets, ..Alias::clone(alias) });
                }
                None if more => before = changes.last().map(|change| change.revision),
                _ => {
                    return Err(Error::caller(
                        Code::InvalidParameter,
                        format!("alias '{key}:{name}' has no earlier state"),
                    ));
                }
            }
        }
    }

    /// The alias; `not-found` if there is none.
    pub(crate) async fn alias(&self, key: &FunctionKey, name: &AliasName) -> Result<AliasAt> {
        let mut function = self.function_record(key).await?;
        let record = function.aliases.remove(name).ok_or_else(|| no_alias(key, name))?;
        Ok(AliasAt { function: key.clone(), name: name.clone(), record })
    }

    /// A page of a function's aliases by name, and whether more follow.
    pub(crate) async fn aliases(
        &self,
        key: &FunctionKey,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<AliasAt>, bool)> {
        let function = self.function_record(key).await?;
        let behind = |name: &AliasName| after.is_none_or(|after| name.as_str() > after);
        let mut aliases: Vec<_> = function
            .aliases
            .into_iter()
            .filter(|(name, _)| behind(name))
            .take(limit.saturating_add(1))
            .map(|(name, record)| AliasAt { function: key.clone(), name, record })
            .collect();
        let more = aliases.len() > limit;
        aliases.truncate(limit);
        Ok((aliases, more))
    }

    /// Deletes an alias.
    pub(crate) async fn delete_alias(
        &self,
        key: &FunctionKey,
        name: &AliasName,
        intent: &Intent,
    ) -> Result<()> {
        let changed = self
            .edit(&place(key, name, &revision_of(name), &change_of(name)), intent, |current, _| {
                let mut value: Function = existing(key, current)?;
                not_provisioned(&value, &Qualifier::Alias(name.clone()))?;
                let record = value.aliases.remove(name).ok_or_else(|| no_alias(key, name))?;
                let draft = Draft {
                    what: What::Delete,
                    of: Some(name.to_string()),
                    before: Some(state(&record)),
                    after: None,
                };
                Ok(Edit { value, draft: Some(draft), body: None, result: () })
            })
            .await?;
        self.forget_shadow(&changed.stored.value.id, name).await;
        Ok(())
    }

    /// One change of an alias: `wanted` is given its function and the alias as it is.
    pub(super) async fn change_alias(
        &self,
        key: &FunctionKey,
        name: &AliasName,
        intent: &Intent,
        mut wanted: impl FnMut(&Function, Option<&AliasRecord>, Turn) -> Result<Wanted> + Send,
    ) -> Result<PutAliasOutcome> {
        let changed = self
            .edit(
                &place(key, name, &revision_of(name), &change_of(name)),
                intent,
                |current, turn| {
                    let mut value: Function = existing(key, current)?;
                    let current = value.aliases.get(name).cloned();
                    let Wanted { what, alias, rollout, brief } =
                        wanted(&value, current.as_ref(), turn)?;
                    let created_at = current.as_ref().map_or(turn.now, |record| record.created_at);
                    let record = AliasRecord {
                        alias,
                        rollout,
                        revision: turn.revision,
                        created_at,
                        modified_at: turn.now,
                    };
                    let before = current.as_ref().map(state);
                    let after = state(&record);
                    if before.as_ref() == Some(&after) {
                        let result = current.unwrap_or(record);
                        return Ok(Edit {
                            value,
                            draft: None,
                            body: None,
                            result: (result, false),
                        });
                    }
                    let created = before.is_none();
                    if created && value.aliases.len() >= limits::ALIASES {
                        return Err(too_many(key, value.aliases.len()));
                    }
                    value.aliases.insert(name.clone(), record.clone());
                    let (before, after) = if brief { (None, None) } else { (before, Some(after)) };
                    let draft = Draft { what, of: Some(name.to_string()), before, after };
                    Ok(Edit { value, draft: Some(draft), body: None, result: (record, created) })
                },
            )
            .await?;
        let (record, created) = changed.result;
        let alias = AliasAt { function: key.clone(), name: name.clone(), record };
        Ok(PutAliasOutcome { alias, created })
    }
}

/// The place of an alias in its function's document.
fn place<'a>(
    key: &'a FunctionKey,
    name: &'a AliasName,
    revision: &'a (dyn Fn(&Function) -> Option<u64> + Sync),
    concerns: &'a (dyn Fn(&Change<FunctionState>) -> bool + Sync),
) -> Place<'a, Function> {
    Place {
        document: keys::function(key),
        named: format!("alias '{key}:{name}'"),
        namespace: Some(&key.namespace),
        revision,
        concerns,
    }
}

fn revision_of(name: &AliasName) -> impl Fn(&Function) -> Option<u64> + Sync + '_ {
    |function| function.aliases.get(name).map(|record| record.revision)
}

fn change_of(name: &AliasName) -> impl Fn(&Change<FunctionState>) -> bool + Sync + '_ {
    |change| change.of.as_deref() == Some(name.as_str())
}

/// Where a request says that calls go.
fn targets(put: &PutAlias) -> Result<Vec<Target>> {
    match (&put.targets, put.version) {
        (Some(targets), None) if put.additional_version_weights.is_empty() => Ok(targets.clone()),
        (None, Some(version)) => compat::targets(version, &put.additional_version_weights),
        _ => Err(Error::caller(
            Code::InvalidParameter,
            "targets are not clear: expected `targets`, or `version` with or without `additional_version_weights`",
        )),
    }
}

/// Every version that an alias names has to be there.
pub(super) fn has_versions(function: &Function, alias: &Alias) -> Result<()> {
    match alias.versions().find(|version| !function.has(*version)) {
        None => Ok(()),
        Some(version) => Err(Error::not_found("version", format!("{}:{version}", function.key()))
            .with_hint(format!(
                "list the versions there are with `hanshu versions {}`",
                function.key().name
            ))),
    }
}

/// What a change of an alias is recorded with.
fn state(record: &AliasRecord) -> FunctionState {
    FunctionState::Alias { alias: Box::new(record.alias.clone()), rollout: record.rollout.clone() }
}

pub(super) fn no_alias(key: &FunctionKey, name: &AliasName) -> Error {
    Error::not_found("alias", format!("{key}:{name}"))
        .with_hint(format!("list the aliases there are with `hanshu alias list {}`", key.name))
}

fn too_many(key: &FunctionKey, there: usize) -> Error {
    Error::caller(
        Code::InvalidParameter,
        format!("{} has {there} aliases: expected at most {}", named(key), limits::ALIASES),
    )
    .with_hint("delete aliases that are not needed any more")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_said_in_one_way() {
        let put = |json: &str| targets(&serde_json::from_str::<PutAlias>(json).unwrap());
        assert_eq!(put(r#"{"targets":[{"version":"1","weight":3}]}"#).unwrap()[0].weight, 3);
        let divided = put(r#"{"version":"1","additional_version_weights":{"2":0.25}}"#).unwrap();
        let weights: Vec<u32> = divided.iter().map(|t| t.weight).collect();
        assert_eq!(weights, [750_000, 250_000]);
        for bad in [
            "{}",
            r#"{"targets":[{"version":"1","weight":3}],"version":"1"}"#,
            r#"{"targets":[{"version":"1","weight":3}],"additional_version_weights":{"2":0.1}}"#,
            r#"{"additional_version_weights":{"2":0.1}}"#,
        ] {
            assert!(put(bad).unwrap_err().message().contains("expected `targets`"), "{bad}");
        }
    }
}
