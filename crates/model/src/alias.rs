//! Aliases: names for routes to versions.
//!
//! An [`Alias`] says which version a call reaches: the first of its [`rule`]s that matches the call's [`parameter`]s, else one of its
//! weighted targets, where calls with the same sticky key stay together. How a choice is made is the engine's business; here is what may
//! be said. [`rollout`] holds a shift of weights under way, [`compat`] the forms in which other platforms say the same.

pub mod compat;
pub mod parameter;
pub mod rollout;
pub mod rule;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::UnixMillis;
use crate::error::{Code, Error};
use crate::function::{EnvironmentValue, Variable, validate_environment};
use crate::ids::VersionRef;
use crate::limits;

pub use parameter::{Carried, Parameter, Parameters};
pub use rollout::{Percent, Rollout, StopIf};
pub use rule::{Condition, ConditionForm, Rule, RuleForm, Test};

/// A route to versions.
// `V` is an environment value, as in `FunctionConfig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Alias<V = Variable> {
    /// What it is for; at most 1 000 characters.
    #[serde(default)]
    pub description: String,
    /// Where calls go that no rule takes; 1 to 100.
    pub targets: Vec<Target>,
    /// Rules in order, before the targets; at most 100.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<RuleForm>)]
    pub rules: Vec<Rule>,
    /// Calls that agree in this parameter reach the same target, for instance `header.x-user`, `cookie.session` or `event.user.id`. A call
    /// without it goes by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "header.x-user")]
    pub sticky: Option<Parameter>,
    /// Environment variables of this alias, over those of the version.
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, V>,
    /// Another version that gets copies of calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// A version with its share of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `$LATEST` or a published version's number.
    #[schema(value_type = String, example = "7")]
    pub version: VersionRef,
    /// Its share of the calls, by the sum of all weights: 0 to 1 000 000.
    pub weight: u32,
}

/// A version that gets copies of an alias's calls, answers to nobody, and is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// `$LATEST` or a published version's number.
    #[schema(value_type = String, example = "8")]
    pub version: VersionRef,
    /// How many of the calls are copied.
    #[schema(value_type = String, example = "10%")]
    pub share: Percent,
}

/// An alias as it is stored: in the document of its function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRecord {
    /// The route.
    pub alias: Alias,
    /// Revision of the function at which the alias last changed.
    pub revision: u64,
    /// When it was created.
    pub created_at: UnixMillis,
    /// When it last changed.
    pub modified_at: UnixMillis,
    /// The shift of weights under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

impl<V> Alias<V> {
    /// An alias of one version.
    pub fn to(version: VersionRef) -> Self {
        Self {
            description: String::new(),
            targets: vec![Target { version, weight: 1 }],
            rules: Vec::new(),
            sticky: None,
            environment: BTreeMap::new(),
            shadow: None,
        }
    }

    /// The same alias with another environment.
    pub fn with_environment<W>(&self, environment: BTreeMap<String, W>) -> Alias<W> {
        Alias {
            description: self.description.clone(),
            targets: self.targets.clone(),
            rules: self.rules.clone(),
            sticky: self.sticky.clone(),
            environment,
            shadow: self.shadow,
        }
    }

    /// Every version that a call may reach, or a copy of one; some twice.
    pub fn versions(&self) -> impl Iterator<Item = VersionRef> + '_ {
        let targets = self.targets.iter().map(|target| target.version);
        let rules = self.rules.iter().map(|rule| rule.to);
        targets.chain(rules).chain(self.shadow.map(|shadow| shadow.version))
    }
}

impl<V: EnvironmentValue> Alias<V> {
    /// Checks every field against its rule; the error names the field and what was expected. Whether the versions exist is the caller's to
    /// find out.
    pub fn validate(&self) -> Result<(), Error> {
        if self.description.chars().count() > limits::DESCRIPTION_CHARS {
            return bad(format!(
                "description is too long: expected at most {} characters",
                limits::DESCRIPTION_CHARS
            ));
        }
        validate_targets(&self.targets)?;
        if self.rules.len() > limits::ALIAS_RULES {
            return bad(format!(
                "rules are too many: {}, expected at most {}",
                self.rules.len(),
                limits::ALIAS_RULES
            ));
        }
        for (at, rule) in self.rules.iter().enumerate() {
            rule.validate().map_err(|what| {
                Error::caller(Code::InvalidParameter, format!("rules[{at}] {what}"))
            })?;
        }
        if let Some(sticky) = &self.sticky {
            sticky
                .validate_sticky()
                .map_err(|what| Error::caller(Code::InvalidParameter, format!("sticky {what}")))?;
        }
        validate_environment(&self.environment)
    }
}

/// Checks a list of targets.
pub fn validate_targets(targets: &[Target]) -> Result<(), Error> {
    if targets.is_empty() || targets.len() > limits::ALIAS_TARGETS {
        return bad(format!(
            "targets are {}: expected 1 to {}",
            targets.len(),
            limits::ALIAS_TARGETS
        ));
    }
    for (at, target) in targets.iter().enumerate() {
        if target.weight > limits::ALIAS_WEIGHT_MAX {
            return bad(format!(
                "targets[{at}].weight {} is out of range: expected 0 to {}",
                target.weight,
                limits::ALIAS_WEIGHT_MAX
            ));
        }
        if targets.iter().take(at).any(|other| other.version == target.version) {
            return bad(format!(
                "targets[{at}].version {} is there twice: expected each version once",
                target.version
            ));
        }
    }
    if targets.iter().all(|target| target.weight == 0) {
        return bad("targets have no weight: expected at least one above 0".into());
    }
    Ok(())
}

fn bad<T>(message: String) -> Result<T, Error> {
    Err(Error::caller(Code::InvalidParameter, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(json: &str) -> Result<Alias, String> {
        let alias: Alias = serde_json::from_str(json).map_err(|e| e.to_string())?;
        alias.validate().map_err(|e| e.message().to_owned())?;
        Ok(alias)
    }

    #[test]
    fn an_alias_reads_and_writes_alike() {
        let json = r#"{"description":"","targets":[{"version":"7","weight":95},{"version":"$LATEST","weight":5}],
            "rules":[{"when":[{"on":"header.x-beta","exact":"yes"}],"to":"8"}],"sticky":"event.user.id",
            "environment":{"STAGE":"live"},"shadow":{"version":"8","share":"10%"}}"#;
        let read = alias(json).unwrap();
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(json).unwrap());
        let versions: Vec<String> = read.versions().map(|v| v.to_string()).collect();
        assert_eq!(versions, ["7", "$LATEST", "8", "8"]);
    }

    #[test]
    fn each_bad_field_is_named() {
        for (json, part) in [
            (r#"{"targets":[]}"#, "targets are 0: expected 1 to 100"),
            (r#"{"targets":[{"version":"1","weight":0}]}"#, "targets have no weight"),
            (r#"{"targets":[{"version":"1","weight":1000001}]}"#, "targets[0].weight 1000001"),
            (
                r#"{"targets":[{"version":"1","weight":1},{"version":1,"weight":1}]}"#,
                "targets[1].version 1 is there twice",
            ),
            (r#"{"targets":[{"version":"live","weight":1}]}"#, "version 'live' is not valid"),
            (r#"{"targets":[{"version":"0","weight":1}]}"#, "version '0' is not valid"),
            (r#"{"targets":[{"version":"1","weight":1}],"sticky":"path"}"#, "sticky 'path'"),
            (r#"{"targets":[{"version":"1","weight":1}],"sticky":"x"}"#, "parameter 'x'"),
            (
                r#"{"targets":[{"version":"1","weight":1}],"rules":[{"when":[],"to":"1"}]}"#,
                "rules[0] has no conditions",
            ),
            (
                r#"{"targets":[{"version":"1","weight":1}],"environment":{"A=B":""}}"#,
                "environment key \"A=B\"",
            ),
            (r#"{"targets":[{"version":"1","weight":1}],"target":1}"#, "unknown field `target`"),
        ] {
            let message = alias(json).unwrap_err();
            assert!(message.contains(part), "{json}: {message}");
        }
    }
}
