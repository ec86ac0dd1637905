//! Which version a call would reach, and why, in words for people.

use model::Result;
use model::alias::{Alias, Condition, Parameters, Test};
use model::api::{Chance, ResolvedView, RuleVerdict};
use model::ids::{FunctionRef, Qualifier, VersionRef};

use super::Routes;
use super::choose::{self, Decision, Facts};

/// Most characters of a value that is shown.
const SHOWN_CHARS: usize = 80;

impl Routes {
    /// See [`crate::Engine::explain`].
    pub(crate) fn explain(
        &self,
        target: &FunctionRef,
        parameters: &dyn Parameters,
        event: &[u8],
    ) -> Result<ResolvedView> {
        let (_, alias) = self.find(target)?;
        Ok(match (&alias, &target.qualifier) {
            (Some(alias), _) => of_alias(&alias.alias, &alias.facts(parameters, event)),
            (None, Qualifier::Version(number)) => {
                plain(VersionRef::Number(*number), format!("the call names version {number}"))
            }
            (None, _) => plain(VersionRef::Latest, "the call names $LATEST".into()),
        })
    }
}

fn plain(version: VersionRef, why: String) -> ResolvedView {
    ResolvedView {
        version: Some(version),
        why,
        rule: None,
        sticky: None,
        chances: Vec::new(),
        rules: Vec::new(),
    }
}

fn of_alias(alias: &Alias, facts: &Facts<'_>) -> ResolvedView {
    let rules = verdicts(alias, facts);
    let rule = rules.last().filter(|verdict| verdict.matched).map(|verdict| verdict.rule);
    let view = match choose::decide(alias, facts) {
        Decision::Rule(version) => {
            let number = rule.unwrap_or_default();
            plain(version, format!("all conditions of rule {number} hold"))
        }
        Decision::Sticky(key) => {
            let name = alias.sticky.as_ref().map(ToString::to_string).unwrap_or_default();
            let why = format!(
                "no rule matches, and calls whose {name} is '{}' stay together",
                shown(&key)
            );
            let version = choose::sticky(&alias.targets, &key);
            let sticky = Some(key.into_owned());
            ResolvedView { version, sticky, ..plain(VersionRef::Latest, why) }
        }
        Decision::Chance => by_chance(alias),
    };
    ResolvedView { rule, rules, ..view }
}

fn by_chance(alias: &Alias) -> ResolvedView {
    let rest = if alias.rules.is_empty() { "" } else { "no rule matches, and " };
    let mut weighted = alias.targets.iter().filter(|target| target.weight > 0);
    if let (Some(only), None) = (weighted.next(), weighted.next()) {
        return plain(only.version, format!("{rest}all weight is on version {}", only.version));
    }
    let why = match &alias.sticky {
        None => format!("{rest}the weights decide"),
        Some(key) => format!("{rest}the weights decide, as the call has no {key}"),
    };
    let sum: f64 = alias.targets.iter().map(|target| f64::from(target.weight)).sum();
    let chances = alias.targets.iter().map(|target| Chance {
        version: target.version,
        percent: 100.0 * f64::from(target.weight) / sum,
    });
    ResolvedView { version: None, chances: chances.collect(), ..plain(VersionRef::Latest, why) }
}

/// Each rule, up to the one that matches.
fn verdicts(alias: &Alias, facts: &Facts<'_>) -> Vec<RuleVerdict> {
    let mut verdicts = Vec::new();
    for (at, rule) in alias.rules.iter().enumerate() {
        let failed = choose::failed(&rule.when, facts);
        let matched = failed.is_none();
        let failed = failed.map(|condition| {
            let has = match facts.get(&condition.on) {
                Some(value) => format!("the call has '{}'", shown(&value)),
                None => "the call has none".into(),
            };
            format!("{}: {has}", wanted(condition))
        });
        verdicts.push(RuleVerdict { rule: at + 1, matched, failed });
        if matched {
            break;
        }
    }
    verdicts
}

fn wanted(Condition { on, test }: &Condition) -> String {
    match test {
        Test::Exact(text) => format!("{on} is '{}'", shown(text)),
        Test::Prefix(text) => format!("{on} begins with '{}'", shown(text)),
        Test::Range(range) => format!("{on} lies in {range}"),
        Test::Present(true) => format!("{on} is there"),
        Test::Present(false) => format!("{on} is not there"),
        Test::OneOf(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| format!("'{text}'")).collect();
            format!("{on} is one of {}", shown(&texts.join(", ")))
        }
    }
}

/// A stranger's text, cut to a length that fits a line.
fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        out.push('…');
    }
    out
}
