//! `hanshu alias resolve`: which version an event would reach, and why.

use clap::Args;
use model::api::{ResolveCall, ResolvedView, RuleVerdict};

use crate::cli::context::Context;
use crate::cli::route::percent;
use crate::cli::values;

const AFTER_HELP: &str = "\
Nothing is called. A rule about something that is not given here does not match, as for a call that does not have it.

Examples:
  hanshu alias resolve hello:live --header x-beta=yes
  hanshu alias resolve hello:live --event '{\"user\":{\"id\":7}}'
  hanshu alias resolve hello:live --method POST --path /v2/orders --source 10.1.2.3 --event @event.json";

/// Tell which version an event would reach, and why.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ResolveArgs {
    /// The alias
    #[arg(value_name = "NAME:ALIAS")]
    alias: String,
    /// A header of the call; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::pair)]
    header: Vec<(String, String)>,
    /// A query parameter of the call; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::pair)]
    query: Vec<(String, String)>,
    /// A cookie of the call; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::pair)]
    cookie: Vec<(String, String)>,
    /// The path behind the function's name
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// The HTTP method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// The address of the caller
    #[arg(long, value_name = "IP")]
    source: Option<std::net::IpAddr>,
    /// The event: JSON, @FILE, or - for standard input [default: {}]
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    event: Option<String>,
}

impl ResolveArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<()> {
        let key = cx.alias(&self.alias)?;
        let call = ResolveCall {
            headers: self.header.into_iter().map(|(k, v)| (k.to_ascii_lowercase(), v)).collect(),
            query: self.query.into_iter().collect(),
            cookies: self.cookie.into_iter().collect(),
            path: self.path,
            method: self.method.map(|method| method.to_ascii_uppercase()),
            source: self.source.map(|source| source.to_string()),
            event: serde_json::from_slice(&values::payload(self.event.as_deref())?)?,
        };
        let resolved = cx.client()?.resolve(&key, &call)?;
        Ok(cx.screen.show(&resolved, text)?)
    }
}

fn text(resolved: &ResolvedView) -> String {
    let version = resolved.version.map_or("by chance".to_owned(), |v| format!("version {v}"));
    let mut lines = vec![format!("{version}: {}", resolved.why)];
    lines.extend(resolved.sticky.as_ref().map(|value| format!("  sticky key '{value}'")));
    let chance = |c: &model::api::Chance| format!("  version {} {}", c.version, percent(c.percent));
    lines.extend(resolved.chances.iter().map(chance));
    lines.extend(resolved.rules.iter().map(verdict));
    lines.join("\n")
}

fn verdict(verdict: &RuleVerdict) -> String {
    let RuleVerdict { rule, matched, failed } = verdict;
    match (matched, failed) {
        (true, _) => format!("  rule {rule} matched"),
        (false, Some(failed)) => format!("  rule {rule} did not match: {failed}"),
        (false, None) => format!("  rule {rule} did not match"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_reason_stands_beside_the_version() {
        let read = |json| text(&serde_json::from_value(json).unwrap());
        let ruled = json!({"version": "8", "why": "rule 2 matches", "rule": 2, "rules": [
            {"rule": 1, "matched": false, "failed": "header.x-beta = yes: the call has none"}, {"rule": 2, "matched": true}
        ]});
        assert_eq!(
            read(ruled),
            "version 8: rule 2 matches\n  rule 1 did not match: header.x-beta = yes: the call has none\n  rule 2 matched"
        );
        let chance = json!({"why": "no rule matches and there is no sticky key", "chances": [
            {"version": "7", "percent": 95.0}, {"version": "8", "percent": 5.0}
        ]});
        assert_eq!(
            read(chance),
            "by chance: no rule matches and there is no sticky key\n  version 7 95%\n  version 8 5%"
        );
    }
}
