//! Routes as other platforms write them, in our words: without loss, or refused.
//!
//! [`ScfMatch`]: a rule of Tencent SCF (API `CreateAlias`, `RoutingConfig.AddtionVersionMatchs`). [`targets`]: AWS Lambda's `FunctionVersion`
//! with `RoutingConfig.AdditionalVersionWeights`.

use std::collections::BTreeMap;

use super::parameter::Parameter;
use super::rule::{Condition, Rule, Test};
use super::{Target, bad};
use crate::error::Error;
use crate::ids::VersionRef;
use crate::limits::ALIAS_WEIGHT_MAX;

/// What the key of an SCF rule begins with.
const SCF_HEADERS: &str = "invoke.headers.";

/// A rule as SCF has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScfMatch {
    /// Where matching calls go.
    pub version: VersionRef,
    /// `invoke.headers.NAME`.
    pub key: String,
    /// `exact` or `range`.
    pub method: String,
    /// The text, or the range as `(a,b)` or `[a,b]`.
    pub expression: String,
}

impl ScfMatch {
    /// The rule in our form; else what is wrong with it.
    pub fn rule(&self) -> Result<Rule, String> {
        let name = self.key.strip_prefix(SCF_HEADERS).ok_or_else(|| {
            let key: String = self.key.chars().take(80).flat_map(char::escape_debug).collect();
            format!("Key '{key}' is not valid: expected invoke.headers.NAME")
        })?;
        let on: Parameter = format!("header.{name}").parse()?;
        let test = match self.method.as_str() {
            "exact" => Test::Exact(self.expression.clone()),
            "range" => Test::Range(self.expression.parse()?),
            _ => return Err("Method is not valid: expected exact or range".into()),
        };
        Ok(Rule { when: vec![Condition { on, test }], to: self.version })
    }
}

/// The targets that AWS Lambda's routing stands for: `additional` versions with their share of the calls, from 0 to 1, and `main` with the
/// rest. Shares finer than a millionth are refused.
pub fn targets(
    main: VersionRef,
    additional: &BTreeMap<VersionRef, f64>,
) -> Result<Vec<Target>, Error> {
    let mut rest = ALIAS_WEIGHT_MAX;
    let mut targets = Vec::with_capacity(additional.len() + 1);
    for (&version, &share) in additional {
        let parts = share * f64::from(ALIAS_WEIGHT_MAX);
        let exact = (0.0..=1.0).contains(&share) && (parts - parts.round()).abs() < 1e-6;
        // The cast of a float keeps to the bounds of the type.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to 1 000 000, as checked"
        )]
        let weight = parts.round() as u32;
        match rest.checked_sub(weight) {
            Some(left) if exact => rest = left,
            _ => {
                return bad(format!(
                    "AdditionalVersionWeights of version {version} is {share}: expected 0 to 1 in steps of 0.000001, together at most 1"
                ));
            }
        }
        if version == main {
            return bad(format!(
                "AdditionalVersionWeights names version {version}, which is FunctionVersion: expected another"
            ));
        }
        targets.push(Target { version, weight });
    }
    targets.insert(0, Target { version: main, weight: rest });
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scf_rules_are_ours() {
        for (method, expression, value, other) in [
            ("exact", "beta", "beta", "Beta"),
            ("range", "[1,10]", "10", "11"),
            ("range", "(1,10)", "2", "1"),
        ] {
            let json = serde_json::json!({
                "Version": "2", "Key": "invoke.headers.User", "Method": method, "Expression": expression,
            });
            let rule: Rule = serde_json::from_value(json).unwrap();
            assert_eq!(rule.to, VersionRef::Number(2));
            assert!(rule.when[0].holds(Some(value)) && !rule.when[0].holds(Some(other)));
            assert_eq!((rule.when.len(), &rule.when[0].on), (1, &"header.user".parse().unwrap()));
        }
    }

    #[test]
    fn scf_rules_are_checked() {
        let rule = |key: &str, method: &str, expression: &str| {
            let scf = ScfMatch {
                version: VersionRef::Latest,
                key: key.into(),
                method: method.into(),
                expression: expression.into(),
            };
            scf.rule().unwrap_err()
        };
        assert!(rule("invoke.body.User", "exact", "a").contains("invoke.headers.NAME"));
        assert!(rule("invoke.headers.User", "prefix", "a").contains("exact or range"));
        assert!(rule("invoke.headers.User", "range", "1-3").contains("[1,10]"));
    }

    #[test]
    fn additional_weights_are_targets() {
        let number = VersionRef::Number;
        let additional = BTreeMap::from([(number(2), 0.1), (number(3), 0.000_001)]);
        let found = targets(number(1), &additional).unwrap();
        let weights_of: Vec<u32> = found.iter().map(|t| t.weight).collect();
        assert_eq!(weights_of, [899_999, 100_000, 1]);
        let versions: Vec<_> = found.iter().map(|t| t.version).collect();
        assert_eq!(versions, [1, 2, 3].map(number));
        for (version, share) in [(2, 1.1), (2, -0.1), (2, 0.000_000_5), (1, 0.1)] {
            let additional = BTreeMap::from([(number(version), share)]);
            let e = targets(number(1), &additional).unwrap_err();
            assert!(e.message().contains("AdditionalVersionWeights"), "{e}");
        }
        let both = BTreeMap::from([(number(2), 0.6), (number(3), 0.6)]);
        assert!(targets(number(1), &both).is_err());
    }
}
