//! Provisioned instances of a function: how many are kept started for which version or alias. Parts of the function's document.

use model::Result;
use model::change::{Change, What};
use model::error::{Code, Error};
use model::function::{Function, FunctionState};
use model::ids::{FunctionRef, Qualifier};
use model::provisioned::{Provisioned, ProvisionedRecord};
use model::{keys, limits};

use super::Catalog;
use super::functions::existing;
use super::record::{Draft, Edit, Intent, Place};

/// What is kept started for a version or an alias.
#[derive(Clone, Debug)]
pub(crate) struct ProvisionedAt {
    /// The version or alias.
    pub target: FunctionRef,
    /// How many, since when.
    pub record: ProvisionedRecord,
}

impl Catalog {
    /// Keeps instances started for a version or an alias; answers whether there were none before.
    pub(crate) async fn put_provisioned(
        &self,
        target: &FunctionRef,
        provisioned: &Provisioned,
        intent: &Intent,
    ) -> Result<(ProvisionedAt, bool)> {
        provisioned.validate()?;
        let mut config = self.function(target).await?.version.config;
        config.resolve_memory(self.engine.host_memory_mb());
        self.check_host(provisioned.most(), config.memory_mb)?;
        let rules = self.rules(&target.key.namespace).await?;
        rules.check_provisioned(provisioned.most(), config.memory_mb)?;
        let (FunctionRef { key, qualifier }, of) = (target, part(&target.qualifier));
        let revision = |f: &Function| f.provisioned.get(qualifier).map(|record| record.revision);
        let changed = self
            .edit(&place(target, &revision, &change_of(&of)), intent, |current, turn| {
                let mut value: Function = existing(key, current)?;
                if !is_there(&value, qualifier) {
                    return Err(Error::not_found("version or alias", target));
                }
                let before = value.provisioned.get(qualifier).cloned();
                let record = ProvisionedRecord {
                    provisioned: provisioned.clone(),
                    revision: turn.revision,
                    modified_at: turn.now,
                };
                let new = before.is_none();
                if let Some(before) = before.as_ref().filter(|b| b.provisioned == *provisioned) {
                    let result = (before.clone(), false);
                    return Ok(Edit { value, draft: None, body: None, result });
                }
                value.provisioned.insert(qualifier.clone(), record.clone());
                self.check_function(&value)?;
                let draft = Draft {
                    what: if new { What::Create } else { What::Configure },
                    of: Some(of.clone()),
                    before: before.map(|before| FunctionState::Provisioned(before.provisioned)),
                    after: Some(FunctionState::Provisioned(provisioned.clone())),
                };
                Ok(Edit { value, draft: Some(draft), body: None, result: (record, new) })
            })
            .await?;
        let (record, new) = changed.result;
        Ok((ProvisionedAt { target: target.clone(), record }, new))
    }

    /// Keeps none started any more; `not-found` if none were.
    pub(crate) async fn delete_provisioned(
        &self,
        target: &FunctionRef,
        intent: &Intent,
    ) -> Result<()> {
        let (FunctionRef { key, qualifier }, of) = (target, part(&target.qualifier));
        let revision = |f: &Function| f.provisioned.get(qualifier).map(|record| record.revision);
        self.edit(&place(target, &revision, &change_of(&of)), intent, |current, _| {
            let mut value: Function = existing(key, current)?;
            let record = value.provisioned.remove(qualifier).ok_or_else(|| none(target))?;
            let draft = Draft {
                what: What::Delete,
                of: Some(of.clone()),
                before: Some(FunctionState::Provisioned(record.provisioned)),
                after: None,
            };
            Ok(Edit { value, draft: Some(draft), body: None, result: () })
        })
        .await?;
        Ok(())
    }

    /// What is kept started for a version or an alias; `not-found` if nothing is.
    pub(crate) async fn provisioned(&self, target: &FunctionRef) -> Result<ProvisionedAt> {
        let mut function = self.function_record(&target.key).await?;
        let record = function.provisioned.remove(&target.qualifier);
        let record = record.ok_or_else(|| none(target))?;
        Ok(ProvisionedAt { target: target.clone(), record })
    }

    /// Everything that is kept started of a function: at most `limits::PROVISIONED_ENTRIES`.
    pub(crate) async fn all_provisioned(
        &self,
        function: &FunctionRef,
    ) -> Result<Vec<ProvisionedAt>> {
        let key = &function.key;
        let records = self.function_record(key).await?.provisioned.into_iter();
        let at = |(qualifier, record)| {
            let target = FunctionRef { key: key.clone(), qualifier };
            ProvisionedAt { target, record }
        };
        Ok(records.map(at).collect())
    }

    /// Whether the host has the memory.
    fn check_host(&self, instances: u32, memory_mb: u32) -> Result<()> {
        let (wanted, most) =
            (u64::from(instances) * u64::from(memory_mb), self.engine.host_memory_mb());
        if wanted <= most {
            return Ok(());
        }
        Err(over(format!(
            "{instances} instances of {memory_mb} MiB take {wanted} MiB: expected at most {most}, the host's memory for functions"
        )))
    }

    /// Whether the function may have so many, and in so many places.
    fn check_function(&self, function: &Function) -> Result<()> {
        if function.provisioned.len() > limits::PROVISIONED_ENTRIES {
            return Err(over(format!(
                "instances are provisioned for {} versions and aliases: expected at most {}",
                function.provisioned.len(),
                limits::PROVISIONED_ENTRIES
            )));
        }
        let all: u64 = function.provisioned.values().map(|r| u64::from(r.provisioned.most())).sum();
        let most = function.settings.instances_max(self.engine.instances_per_function());
        if all <= u64::from(most) {
            return Ok(());
        }
        let reserved = function.settings.reserved_instances.is_some();
        let by = if reserved { "reserved_instances" } else { "max_instances" };
        Err(over(format!(
            "{all} instances would be provisioned: expected at most {most}, {by} of the function"
        ))
        .with_hint("raise that with `hanshu config set`, or provision fewer"))
    }
}

/// A version or an alias that instances are kept started for stays.
pub(super) fn not_provisioned(function: &Function, qualifier: &Qualifier) -> Result<()> {
    if !function.provisioned.contains_key(qualifier) {
        return Ok(());
    }
    let target = format!("{}:{qualifier}", function.key());
    Err(Error::caller(
        Code::Conflict,
        format!("'{target}' is in use: instances are provisioned for it"),
    )
    .with_hint(format!(
        "remove them first: `hanshu provision {}:{qualifier} --remove`",
        function.key().name
    )))
}

/// The part's name in changes. No alias has a slash.
fn part(qualifier: &Qualifier) -> String {
    format!("provisioned/{qualifier}")
}

fn change_of(of: &str) -> impl Fn(&Change<FunctionState>) -> bool + Sync + '_ {
    move |change| change.of.as_deref() == Some(of)
}

fn place<'a>(
    target: &'a FunctionRef,
    revision: &'a (dyn Fn(&Function) -> Option<u64> + Sync),
    concerns: &'a (dyn Fn(&Change<FunctionState>) -> bool + Sync),
) -> Place<'a, Function> {
    Place {
        document: keys::function(&target.key),
        named: format!("provisioned instances of '{target}'"),
        namespace: Some(&target.key.namespace),
        revision,
        concerns,
    }
}

fn is_there(function: &Function, qualifier: &Qualifier) -> bool {
    match qualifier {
        Qualifier::Latest => true,
        Qualifier::Version(number) => function.published(*number).is_some(),
        Qualifier::Alias(name) => function.aliases.contains_key(name),
    }
}

fn none(target: &FunctionRef) -> Error {
    Error::caller(Code::NotFound, format!("no instances are provisioned for '{target}'"))
}

fn over(message: String) -> Error {
    Error::caller(Code::InvalidParameter, message)
}
