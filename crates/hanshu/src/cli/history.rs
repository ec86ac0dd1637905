//! `hanshu history`: what was changed, by whom, from where, and why.

use std::process::ExitCode;

use clap::Args;
use model::api::{ChangeView, Difference};
use model::ids::Qualifier;
use model::limits;

use super::context::Context;
use super::failure::CliError;
use super::screen;
use super::{differences, values};
use crate::client::aliases::AliasKey;
use crate::client::history::Subject;

const AFTER_HELP: &str = "\
Every change is kept: of functions, versions, aliases, layers and namespaces. Say why you make one with --reason.

Examples:
  hanshu history hello
  hanshu history hello:live --limit 5
  hanshu history hello --revision 12       one change, whole
  hanshu history --layer numpy
  hanshu history --of-namespace -n team    quotas and policy";

/// Longest text in the table's last column, in characters.
const CHANGED_CHARS: usize = 100;

/// List what was changed, by whom, from where and why, newest first.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct HistoryArgs {
    /// The function, or NAME:ALIAS for one alias of it
    #[arg(required_unless_present_any = ["layer", "of_namespace"])]
    name: Option<String>,
    /// Of this layer instead, or of one alias of it
    #[arg(long, value_name = "NAME[:ALIAS]", conflicts_with_all = ["name", "of_namespace"])]
    layer: Option<String>,
    /// Of the namespace itself instead: description, quotas and policy
    #[arg(long, conflicts_with = "name")]
    of_namespace: bool,
    #[command(flatten)]
    options: HistoryOptions,
}

/// How much of a history is shown.
#[derive(Debug, Args)]
pub(super) struct HistoryOptions {
    /// Show this change whole, with everything it changed
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    /// Show at most so many of the newest changes
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = limit, conflicts_with = "revision")]
    limit: usize,
}

fn limit(text: &str) -> Result<usize, String> {
    values::within(text, 1, limits::HISTORY_CHANGES)
}

impl HistoryArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let subject = match (&self.name, &self.layer) {
            (Some(name), _) => function(cx, name)?,
            (None, Some(name)) => layer(cx, name)?,
            (None, None) => Subject::Namespace(cx.namespace()?),
        };
        show(cx, &subject, &self.options)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn function(cx: &Context, name: &str) -> Result<Subject, CliError> {
    let target = cx.target(name, None)?;
    match target.qualifier {
        Qualifier::Latest => Ok(Subject::Function(target.key, None)),
        Qualifier::Alias(alias) => Ok(Subject::Function(target.key, Some(alias))),
        Qualifier::Version(number) => Err(CliError::new(format!(
            "version {number} never changes: expected NAME or NAME:ALIAS"
        ))
        .hint(format!("see when it was published: hanshu history {}", target.key.name))),
    }
}

fn layer(cx: &Context, name: &str) -> Result<Subject, CliError> {
    if !name.contains(':') {
        return Ok(Subject::Layer(cx.layer(name)?, None));
    }
    match cx.layer_at(name)? {
        (key, Qualifier::Alias(alias)) => Ok(Subject::Layer(key, Some(alias))),
        (key, _) => Err(CliError::new("a version never changes: expected NAME or NAME:ALIAS")
            .hint(format!("see when it was published: hanshu history --layer {}", key.name))),
    }
}

/// Shows the history of something.
pub(super) fn show(
    cx: &Context,
    subject: &Subject,
    options: &HistoryOptions,
) -> anyhow::Result<()> {
    let client = cx.client()?;
    if let Some(revision) = options.revision {
        let change = client.revision(subject, revision)?;
        return Ok(cx.screen.show(&change, |change| whole(cx, change))?);
    }
    let changes = client.history(subject, options.limit)?;
    let head = ["REVISION", "AT", "WHO", "FROM", "WHAT", "OF", "REASON AND CHANGES"];
    Ok(cx.screen.list(&changes, &head, row, "no changes yet")?)
}

/// Tells how to see what was undone.
pub(super) fn note_of(cx: &Context, key: &AliasKey) {
    cx.screen.note(&cx.screen.dim(&format!("see what changed: hanshu history {key} --limit 1")));
}

fn row(change: &ChangeView) -> Vec<String> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let parts = [change.reason.clone().unwrap_or_default(), differences::summary(&telling(change))];
    let told: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let told = screen::tame(&told.join(" · "));
    vec![
        change.revision.to_string(),
        change.at.clone(),
        change.who.clone(),
        or_none(&change.from),
        change.what.as_str().to_owned(),
        or_none(&change.of),
        differences::shorten(&told, CHANGED_CHARS),
    ]
}

/// What a change changed, without how a shift is kept: that it began, went on or ended stands beside it.
fn telling(change: &ChangeView) -> Vec<Difference> {
    let kept =
        |difference: &&Difference| !matches!(&*difference.path, "shift" | "shift.step_since");
    change.differences.iter().filter(kept).cloned().collect()
}

fn whole(cx: &Context, change: &ChangeView) -> String {
    let text = |text: &Option<String>| screen::tame(text.as_deref().unwrap_or_default());
    let fields = screen::fields(&[
        ("revision", change.revision.to_string()),
        ("at", change.at.clone()),
        ("who", change.who.clone()),
        ("from", text(&change.from)),
        ("what", change.what.as_str().to_owned()),
        ("of", text(&change.of)),
        ("reason", text(&change.reason)),
    ]);
    let mut lines = vec![fields];
    lines.extend(differences::lines(&cx.screen, &change.differences));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_tells_who_what_and_why() {
        let change: ChangeView = serde_json::from_value(json!({
            "revision": 12, "at": "t", "who": "ci", "from": "10.0.0.1", "what": "shift-stop", "of": "live",
            "reason": "errors", "differences": [
                {"path": "shift", "after": {"step": 0}}, {"path": "targets[0].weight", "before": 1, "after": 2}
            ]
        }))
        .unwrap();
        assert_eq!(
            row(&change),
            [
                "12",
                "t",
                "ci",
                "10.0.0.1",
                "shift-stop",
                "live",
                "errors · targets[0].weight: 1 → 2"
            ]
        );
        let change: ChangeView = serde_json::from_value(json!({
            "revision": 1, "at": "t", "who": "hanshu", "what": "create", "differences": []
        }))
        .unwrap();
        assert_eq!(row(&change), ["1", "t", "hanshu", "-", "create", "-", ""]);
    }
}
