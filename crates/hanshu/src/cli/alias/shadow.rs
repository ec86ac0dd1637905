//! `hanshu alias shadow` and `hanshu alias diff`: copies of calls to another version, and what they showed.

use clap::Args;
use model::alias::{Percent, Shadow};
use model::api::{ShadowExample, ShadowReport};
use model::ids::VersionRef;

use crate::cli::context::Context;
use crate::cli::differences;
use crate::cli::route;
use crate::cli::screen::{self, Screen, milliseconds};

const AFTER_HELP: &str = "\
Callers get the answer of the version that the alias leads to; the copy's answer is compared with it and dropped. The copied version runs
whatever it does: let it have no effects that must not happen twice.

Examples:
  hanshu alias shadow hello:live --to 8 --share 10%
  hanshu alias diff hello:live
  hanshu alias shadow hello:live --off";

/// Send copies of an alias's calls to another version and compare the answers.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ShadowArgs {
    /// The alias
    #[arg(value_name = "NAME:ALIAS")]
    alias: String,
    /// The version that gets the copies
    #[arg(long, value_name = "VERSION", value_parser = route::version, required_unless_present = "off")]
    to: Option<VersionRef>,
    /// How many of the calls are copied
    #[arg(long, value_name = "SHARE", default_value = "10%", requires = "to")]
    share: Percent,
    /// End it; what it showed stays for `alias diff`
    #[arg(long, conflicts_with = "to")]
    off: bool,
}

impl ShadowArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<()> {
        let key = cx.alias(&self.alias)?;
        let client = cx.client()?;
        let view = match self.to {
            Some(version) => client.set_shadow(&key, &Shadow { version, share: self.share })?,
            None => client.end_shadow(&key)?,
        };
        cx.screen.show(&view, |view| format!("{key}: {}", super::route(view)))?;
        if view.config.shadow.is_some() {
            let next = format!("see what it shows: hanshu alias diff {key}");
            cx.screen.note(&cx.screen.dim(&next));
        }
        Ok(())
    }
}

/// Show what the shadow of an alias showed: how many answers differ, and in what.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The alias
    #[arg(value_name = "NAME:ALIAS")]
    alias: String,
    /// Show at most so many examples
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
}

impl DiffArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<()> {
        let key = cx.alias(&self.alias)?;
        let report = cx.client()?.shadow_report(&key)?;
        cx.screen.show(&report, |report| text(&cx.screen, report, self.limit))?;
        if report.compared == 0 {
            let next = format!(
                "nothing compared yet: `hanshu alias shadow {key} --to VERSION` begins, then the alias has to be called"
            );
            cx.screen.note(&next);
        }
        Ok(())
    }
}

fn text(screen: &Screen, report: &ShadowReport, limit: usize) -> String {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
    let means = format!(
        "{} of the answers, {} of the shadow's",
        milliseconds(report.mean_us),
        milliseconds(report.shadow_mean_us)
    );
    let mut lines = vec![screen::fields(&[
        ("version", or_none(&report.version)),
        ("shadow", or_none(&report.shadow)),
        ("since", or_none(&report.since)),
        ("compared", report.compared.to_string()),
        ("same", report.same.to_string()),
        ("status", format!("{} differ", report.status)),
        ("body", format!("{} differ", report.body)),
        ("not copied", report.skipped.to_string()),
        ("mean time", if report.compared > 0 { means } else { String::new() }),
    ])];
    lines.extend(report.examples.iter().take(limit).map(|one| example(screen, one)));
    lines.join("\n")
}

fn example(screen: &Screen, example: &ShadowExample) -> String {
    let ShadowExample { time, request_id, shadow_request_id, us, shadow_us, differences } = example;
    let (us, shadow_us) = (milliseconds(*us), milliseconds(*shadow_us));
    let mut lines =
        vec![format!("\n{time}  call {request_id} ({us}), copy {shadow_request_id} ({shadow_us})")];
    let found = differences::lines(screen, differences);
    lines.extend(found.into_iter().map(|line| format!("  {line}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::screen::Format;
    use crate::config::environment::Environment;

    #[test]
    fn figures_come_before_examples() {
        let screen = Screen::detect(Format::Text, &Environment::of(&[("NO_COLOR", "1")]));
        let report: ShadowReport = serde_json::from_value(json!({
            "version": "7", "shadow": "8", "since": "s", "compared": 10, "same": 9, "status": 0, "body": 1, "skipped": 2,
            "mean_us": 1500, "shadow_mean_us": 2500, "examples": [
                {"time": "t", "request_id": "a", "shadow_request_id": "b", "us": 1000, "shadow_us": 2000,
                 "differences": [{"path": "body.total", "before": 1, "after": 2}]}
            ]
        }))
        .unwrap();
        let shown = text(&screen, &report, 1);
        for line in [
            "body         1 differ",
            "mean time    1.50 ms of the answers, 2.50 ms of the shadow's",
            "t  call a (1.00 ms), copy b (2.00 ms)",
            "  ~ body.total: 1 → 2",
        ] {
            assert!(shown.lines().any(|l| l == line), "{shown}");
        }
        assert!(!text(&screen, &report, 0).contains("call a"));
        assert!(!text(&screen, &ShadowReport::default(), 1).contains("mean time"));
    }
}
