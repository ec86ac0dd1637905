//! `hanshu alias set`: reads a route, changes it, and writes it if nobody else did meanwhile.

use std::fs;
use std::io::Read as _;

use clap::Args;
use model::alias::{Parameter, Rule};
use model::api::{AliasView, PutAlias, VariableView};
use model::limits;
use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::failure::CliError;
use crate::cli::route::{self, To, rule};
use crate::cli::{secrets, values};
use crate::client::Expected;
use crate::client::aliases::AliasKey;

/// Members of a shown alias that are no part of its route.
const SHOWN_ONLY: [&str; 7] =
    ["name", "function", "arn", "url", "shift", "created_at", "modified_at"];

const AFTER_HELP: &str = "\
What is not mentioned stays. An alias that does not exist yet is made; --to says where its calls go. If somebody else changes the alias
meanwhile, nothing is done.

A rule sends the calls that meet all its conditions to a version, before the targets: CONDITION [and CONDITION]… -> VERSION, where a
condition is one of
  PARAM = TEXT               it is this text; for source also a block of addresses such as 10.0.0.0/8
  PARAM ^= PREFIX            it begins so
  PARAM range [1,10)         it is a number in the range; a bound may be left out
  PARAM one-of A, B, C       it is one of these
  PARAM present              it is there; or absent: it is not
and PARAM is header.NAME, query.NAME, cookie.NAME, path, method, source or event.FIELD.FIELD. A text that holds ` and `, `->` or, in a
list, a comma stands in double quotes.

Examples:
  hanshu alias set hello:live --to 7
  hanshu alias set hello:live --to 7=95 --to 8=5 --sticky header.x-user
  hanshu alias set hello:live --rule 'header.x-beta = yes and path ^= /v2/ -> 8'
  hanshu alias set hello:live --clear-rules --no-sticky
  hanshu alias set hello:staging --to '$LATEST' --env STAGE=staging --secret TOKEN=@token.txt
  hanshu alias show hello:live --output json > live.json    and after an editor was at it:
  hanshu alias set hello:live --file live.json";

/// Make an alias, or change where it leads.
#[derive(Debug, Default, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct SetArgs {
    /// The alias
    #[arg(value_name = "NAME:ALIAS")]
    alias: String,
    /// The version its calls go to; repeated, with weights: 7=95 and 8=5; replaces all targets
    #[arg(long, value_name = "VERSION[=WEIGHT]", value_parser = route::to)]
    to: Vec<To>,
    /// Add a rule behind those there are; may be repeated
    #[arg(long, value_name = "RULE", value_parser = rule::parse)]
    rule: Vec<Rule>,
    /// Remove all rules there are; those of --rule come instead
    #[arg(long)]
    clear_rules: bool,
    /// Calls that agree in this parameter reach the same version, for instance header.x-user, cookie.session or event.user.id
    #[arg(long, value_name = "PARAM", conflicts_with = "no_sticky")]
    sticky: Option<Parameter>,
    /// Let every call go by chance
    #[arg(long)]
    no_sticky: bool,
    /// Set an environment variable of this alias, over the version's; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::pair)]
    env: Vec<(String, String)>,
    /// Set a secret environment variable to what @FILE or standard input (-) holds; may be repeated
    #[arg(long, value_name = "KEY=@FILE")]
    secret: Vec<String>,
    /// Remove an environment variable of this alias; may be repeated
    #[arg(long, value_name = "KEY")]
    unset_env: Vec<String>,
    /// What the alias is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Begin with the route in this JSON file (- for standard input), as the API takes it or `alias show --output json` writes it, instead of
    /// the one there is
    #[arg(long, value_name = "FILE")]
    file: Option<String>,
}

impl SetArgs {
    pub(super) fn run(&self, cx: &Context) -> anyhow::Result<()> {
        if !self.says_something() {
            return Err(CliError::new("nothing to change: expected for instance --to VERSION")
                .hint("see `hanshu alias set --help`")
                .into());
        }
        let key = cx.alias(&self.alias)?;
        // Before the daemon is asked: a file that cannot be read needs no daemon to say so.
        let written = self.file.as_deref().map(read).transpose()?;
        let client = cx.client()?;
        let found = client.find_alias(&key)?;
        let mut expected =
            found.as_ref().map_or(Expected::Nothing, |v| Expected::Revision(v.revision));
        let base = match (written, &found) {
            (Some(file), _) => {
                if let Some(revision) = file.revision {
                    expected = Expected::Revision(revision);
                }
                file.put
            }
            (None, Some(view)) => as_request(view),
            (None, None) => PutAlias::default(),
        };
        let put = self.apply(base, &key)?;
        let view = client.put_alias(&key, &put, expected)?;
        let verb = if found.is_some() { "set" } else { "made" };
        Ok(cx.screen.show(&view, |v| format!("{verb} {key}: {}\n{}", super::route(v), v.url))?)
    }

    fn says_something(&self) -> bool {
        let lists = [self.env.is_empty(), self.secret.is_empty(), self.unset_env.is_empty()];
        !(self.to.is_empty() && self.rule.is_empty() && lists.iter().all(|empty| *empty))
            || self.clear_rules
            || self.no_sticky
            || self.sticky.is_some()
            || self.description.is_some()
            || self.file.is_some()
    }

    /// The route with what the options change.
    fn apply(&self, base: PutAlias, key: &AliasKey) -> Result<PutAlias, CliError> {
        let mut put = base;
        if !self.to.is_empty() {
            put.targets = Some(route::targets(&self.to)?);
            put.version = None;
            put.additional_version_weights.clear();
        }
        if put.targets.is_none() && put.version.is_none() {
            return Err(CliError::new(format!(
                "alias {key} does not exist yet: expected --to VERSION"
            ))
            .hint(format!("see the versions with `hanshu versions {}`", key.function.name)));
        }
        if self.clear_rules {
            put.rules.clear();
        }
        put.rules.extend(self.rule.iter().cloned());
        if self.no_sticky || self.sticky.is_some() {
            put.sticky.clone_from(&self.sticky);
        }
        if let Some(description) = &self.description {
            put.description.clone_from(description);
        }
        for name in &self.unset_env {
            if put.environment.remove(name).is_none() {
                return Err(CliError::new(format!(
                    "alias {key} has no environment variable {name}"
                ))
                .hint(format!("see them with `hanshu alias show {key}`")));
            }
        }
        let plain = self.env.iter().cloned();
        put.environment.extend(plain.map(|(name, text)| (name, VariableView::Plain(text))));
        for secret in &self.secret {
            let (name, text) = secrets::pair(secret)?;
            put.environment.insert(name, VariableView::Secret(text));
        }
        Ok(put)
    }
}

/// A shown route as the request that leaves it as it is: secrets stay by their mark.
fn as_request(view: &AliasView) -> PutAlias {
    let config = &view.config;
    PutAlias {
        description: config.description.clone(),
        targets: Some(config.targets.clone()),
        rules: config.rules.clone(),
        sticky: config.sticky.clone(),
        environment: config.environment.clone(),
        shadow: config.shadow,
        ..PutAlias::default()
    }
}

/// A route from a file.
#[derive(Debug)]
struct Written {
    put: PutAlias,
    /// The revision that it was shown at.
    revision: Option<u64>,
}

fn read(file: &str) -> Result<Written, CliError> {
    let bad = |what: String| CliError::new(format!("{file}: {what}"));
    let most = u64::try_from(limits::CONTROL_BODY_BYTES).unwrap_or(u64::MAX);
    let mut text = String::new();
    let done = if file == "-" {
        std::io::stdin().take(most).read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|opened| opened.take(most).read_to_string(&mut text))
    };
    done.map_err(|e| bad(format!("cannot be read: {e}")))?;
    parse(&text).map_err(bad)
}

fn parse(text: &str) -> Result<Written, String> {
    let mut route: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut revision = None;
    if let Some(members) = route.as_object_mut() {
        revision = members.remove("revision").and_then(|revision| revision.as_u64());
        members.retain(|name, _| !SHOWN_ONLY.contains(&name.as_str()));
    }
    let put = serde_json::from_value(route).map_err(|e| e.to_string())?;
    Ok(Written { put, revision })
}

#[cfg(test)]
mod tests {
    use model::secret::SecretText;
    use serde_json::json;

    use super::super::text::tests::view;
    use super::*;

    fn key() -> AliasKey {
        AliasKey {
            function: model::ids::FunctionRef::parse("default", "hello").unwrap().key,
            name: "live".parse().unwrap(),
        }
    }

    #[test]
    fn what_is_not_mentioned_stays() {
        let args = SetArgs {
            rule: vec![rule::parse("path = /a -> 8").unwrap()],
            env: vec![("B".into(), "c".into())],
            unset_env: vec!["A".into()],
            ..SetArgs::default()
        };
        let put = args.apply(as_request(&view()), &key()).unwrap();
        assert_eq!(
            serde_json::to_value(put).unwrap(),
            json!({
                "description": "", "targets": [{"version": "7", "weight": 95}, {"version": "8", "weight": 5}],
                "rules": [
                    {"when": [{"on": "header.x-beta", "exact": "yes"}], "to": "8"},
                    {"when": [{"on": "path", "exact": "/a"}], "to": "8"},
                ],
                "sticky": "header.x-user", "environment": {"B": "c", "T": {"secret": true}},
                "shadow": {"version": "9", "share": "10%"},
            })
        );
    }

    #[test]
    fn what_is_taken_back_goes() {
        let args = SetArgs {
            to: vec![route::to("9").unwrap()],
            clear_rules: true,
            no_sticky: true,
            ..SetArgs::default()
        };
        let put = args.apply(as_request(&view()), &key()).unwrap();
        assert!(put.rules.is_empty() && put.sticky.is_none());
        assert_eq!(route::targets_text(&put.targets.unwrap()), "9");
    }

    #[test]
    fn a_new_alias_needs_a_version() {
        let args = SetArgs { no_sticky: true, ..SetArgs::default() };
        let e = args.apply(PutAlias::default(), &key()).unwrap_err();
        assert!(e.to_string().contains("--to VERSION"), "{e}");
        assert!(e.hint_text().unwrap().contains("hanshu versions hello"));
        let args = SetArgs { unset_env: vec!["NO".into()], ..SetArgs::default() };
        let e = args.apply(as_request(&view()), &key()).unwrap_err();
        assert!(e.to_string().contains("no environment variable NO"), "{e}");
        assert!(!SetArgs::default().says_something());
    }

    #[test]
    fn what_is_shown_can_be_set() {
        let mut shown = view();
        shown.config.environment.insert("S".into(), VariableView::Secret(SecretText::new("x")));
        let read = parse(&serde_json::to_string(&shown).unwrap()).unwrap();
        assert_eq!(read.revision, Some(12));
        assert_eq!(
            serde_json::to_value(read.put).unwrap(),
            serde_json::to_value(as_request(&shown)).unwrap()
        );
        let other = parse(r#"{"version":"7","additional_version_weights":{"8":0.05}}"#).unwrap();
        assert_eq!((other.put.version.unwrap().to_string().as_str(), other.revision), ("7", None));
        assert!(parse(r#"{"target":1}"#).unwrap_err().contains("unknown field `target`"));
    }
}
