//! One alias, ready for calls: what is worked out when it changes, so that a call has nothing to work out. And what goes on from one form of the alias to
//! the next: the counts of a shift, the copies that were skipped.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::alias::{Alias, AliasRecord, Parameter, Parameters, Rollout};
use model::function::{Fingerprint, Variable, arn};
use model::ids::{AliasName, Digest, FunctionKey, Qualifier, RequestId, VersionRef};

use super::choose::{self, Facts};
use super::event::Fields;
use crate::shadow::Skipped;
use crate::shift::Counters;

/// An alias as calls see it.
#[derive(Debug)]
pub(crate) struct AliasRoute {
    pub(crate) name: AliasName,
    pub(crate) alias: Alias,
    /// The AWS-style name that functions see.
    pub(crate) arn: String,
    pub(crate) overlay: Option<Overlay>,
    /// The shift under way, and what came of its calls.
    pub(crate) shift: Option<(Rollout, Arc<Counters>)>,
    /// Copies for the shadow that were not made; kept as long as the alias has one.
    pub(crate) skipped: Arc<Skipped>,
    fields: Fields,
}

/// Environment variables of an alias, over those of a version.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// Equal for equal variables: versions with equal overlays share their instances.
    pub(crate) id: Fingerprint,
    pub(crate) environment: BTreeMap<String, Variable>,
}

impl AliasRoute {
    /// From its record; `old` is the same alias as it was.
    pub(crate) fn new(
        key: &FunctionKey,
        name: &AliasName,
        record: AliasRecord,
        old: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let AliasRecord { alias, rollout, .. } = record;
        if let Some(old) = old
            && old.alias == alias
            && old.shift.as_ref().map(|(rollout, _)| rollout) == rollout.as_ref()
        {
            return Arc::clone(old);
        }
        let mut fields = Fields::default();
        for parameter in parameters(&alias) {
            if let Parameter::Event(steps) = parameter {
                fields.add(steps);
            }
        }
        let going_on = old.and_then(|old| old.shift.as_ref());
        let shift = rollout.map(|rollout| {
            let counters = match going_on {
                Some((before, counters)) if same_shift(before, &rollout) => Arc::clone(counters),
                _ => Arc::new(Counters::of(&rollout)),
            };
            (rollout, counters)
        });
        Arc::new(Self {
            name: name.clone(),
            arn: arn(key, Some(&Qualifier::Alias(name.clone()))),
            overlay: Overlay::of(&alias),
            shift,
            skipped: old.map_or_else(Arc::default, |old| Arc::clone(&old.skipped)),
            fields,
            alias,
        })
    }

    /// What a call offers to this alias's rules.
    pub(crate) fn facts<'a>(
        &'a self,
        parameters: &'a dyn Parameters,
        event: &'a [u8],
    ) -> Facts<'a> {
        Facts::new(parameters, event, &self.fields)
    }

    /// The version that a call reaches.
    pub(crate) fn choose(
        &self,
        id: &RequestId,
        parameters: &dyn Parameters,
        event: &[u8],
    ) -> Option<VersionRef> {
        choose::choose(&self.alias, &self.facts(parameters, event), id)
    }

    /// The version that gets a copy of a call, if one does.
    pub(crate) fn copied(&self, id: &RequestId) -> Option<VersionRef> {
        let shadow = self.alias.shadow.filter(|shadow| choose::copied(shadow.share, id))?;
        Some(shadow.version)
    }

    /// What its rules and its sticky key read of a call.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        parameters(&self.alias)
    }
}

fn parameters(alias: &Alias) -> impl Iterator<Item = &Parameter> {
    let tested = alias.rules.iter().flat_map(|rule| &rule.when).map(|condition| &condition.on);
    tested.chain(&alias.sticky)
}

/// Whether two forms of a shift are steps of one.
fn same_shift(a: &Rollout, b: &Rollout) -> bool {
    a.to == b.to && a.started_at == b.started_at && a.before == b.before
}

impl Overlay {
    fn of(alias: &Alias) -> Option<Self> {
        if alias.environment.is_empty() {
            return None;
        }
        // The map is sorted, so equal ones give equal bytes.
        let bytes = serde_json::to_vec(&alias.environment).unwrap_or_default();
        let id = Fingerprint::from_digest(&Digest::of(&bytes));
        Some(Self { id, environment: alias.environment.clone() })
    }
}
