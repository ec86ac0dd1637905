//! `hanshu alias shift`: moves an alias's calls to another version, step by step.

mod watch;

use std::process::ExitCode;

use clap::Args;
use model::alias::{Percent, StopIf};
use model::api::{AliasView, StartShift};
use model::ids::VersionRef;

use super::text::shift_whole;
use crate::cli::context::Context;
use crate::cli::{route, values};
use crate::client::aliases::AliasKey;

const AFTER_HELP: &str = "\
The daemon moves the weights and compares both versions over the same time; the shift goes on whether anybody watches or not. When one of
--stop-if holds, every call goes where it went before, and the reason is in the history. Without --to the shift under way is shown.

A condition is a figure of the new version over a bound: errors > 1%, p99 > 2x (of the old version's), p50 > 300ms, average > 1.5x; the
figures are errors, average, p50, p90, p95 and p99.

Exit codes with --watch: 0 every call goes to the new version; 1 it was stopped.

Examples:
  hanshu alias shift hello:live --to 8
  hanshu alias shift hello:live --to 8 --canary 1%,10%,50%,100% --every 10m --stop-if 'errors > 1%' --stop-if 'p99 > 2x' --watch
  hanshu alias shift hello:live             how it is going
  hanshu alias shift hello:live --stop      take it back";

/// Move an alias's calls to another version step by step, and back by itself if that is worse.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ShiftArgs {
    /// The alias
    #[arg(value_name = "NAME:ALIAS")]
    alias: String,
    /// The version the calls shall go to
    #[arg(long, value_name = "VERSION", value_parser = route::version)]
    to: Option<VersionRef>,
    /// Share of the new version in each step, ascending, the last 100% [default: 5%,30%,100%]
    #[arg(long, value_name = "SHARE,…", value_delimiter = ',', requires = "to")]
    canary: Vec<Percent>,
    /// How long a step takes, 1s to 7d; also the time over which the versions are compared [default: 2m]
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds, requires = "to")]
    every: Option<u32>,
    /// What stops it; may be repeated: any of them does [default: errors > 1%]
    #[arg(long, value_name = "CONDITION", requires = "to")]
    stop_if: Vec<StopIf>,
    /// Do not judge the new version by fewer calls than this [default: 20]
    #[arg(long, value_name = "N", requires = "to")]
    min_calls: Option<u64>,
    /// Show how it goes until it is done or stopped
    #[arg(long)]
    watch: bool,
    /// Stop the shift under way and take it back
    #[arg(long, conflicts_with_all = ["to", "watch"])]
    stop: bool,
}

impl ShiftArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let key = cx.alias(&self.alias)?;
        let client = cx.client()?;
        let view = match self.to {
            Some(to) => client.start_shift(&key, &self.request(to))?,
            None if self.stop => client.stop_shift(&key)?,
            None => client.alias(&key)?,
        };
        if self.watch {
            return watch::watch(cx, &client, &key, &view);
        }
        cx.screen.show(&view, |view| self.text(&key, view))?;
        if self.to.is_some() {
            let next = format!("watch it: hanshu alias shift {key} --watch");
            cx.screen.note(&cx.screen.dim(&next));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What is not given is as the API has it.
    fn request(&self, to: VersionRef) -> StartShift {
        let mut request = StartShift::to(to);
        if !self.canary.is_empty() {
            request.canary.clone_from(&self.canary);
        }
        if !self.stop_if.is_empty() {
            request.stop_if.clone_from(&self.stop_if);
        }
        request.every_ms = self.every.map_or(request.every_ms, u64::from);
        request.min_calls = self.min_calls.unwrap_or(request.min_calls);
        request
    }

    fn text(&self, key: &AliasKey, view: &AliasView) -> String {
        match &view.shift {
            _ if self.stop => format!("stopped; {key}: {}", super::route(view)),
            Some(shift) if self.to.is_none() => shift_whole(shift),
            _ if self.to.is_some() => format!("{key}: {}", super::route(view)),
            _ => format!("no shift of {key} is under way; it leads to {}", super::route(view)),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        shift: ShiftArgs,
    }

    fn read(line: &[&str]) -> Result<ShiftArgs, clap::Error> {
        let line = ["shift", "f:live"].iter().chain(line);
        Line::try_parse_from(line).map(|line| line.shift)
    }

    #[test]
    fn what_is_not_given_is_as_the_api_has_it() {
        let args = read(&["--to", "8"]).unwrap();
        let plain = serde_json::to_value(args.request(args.to.unwrap())).unwrap();
        let api = StartShift::to(VersionRef::Number(8));
        assert_eq!(plain, serde_json::to_value(api).unwrap());
        let line = [
            "--to",
            "8",
            "--canary",
            "1%,50%,100%",
            "--every",
            "10m",
            "--stop-if",
            "p99 > 2x",
            "--stop-if",
            "errors > 0.5%",
            "--min-calls",
            "50",
            "--watch",
        ];
        let args = read(&line).unwrap();
        assert_eq!(
            serde_json::to_value(args.request(args.to.unwrap())).unwrap(),
            serde_json::json!({
                "to": "8", "canary": ["1%", "50%", "100%"], "every_ms": 600_000, "stop_if": ["p99 > 2x", "errors > 0.5%"],
                "min_calls": 50
            })
        );
    }

    #[test]
    fn options_of_a_new_shift_need_one() {
        for line in [
            &["--canary", "5%,100%"][..],
            &["--every", "1m"],
            &["--stop", "--to", "8"],
            &["--stop", "--watch"],
            &["--to", "live"],
            &["--to", "8", "--stop-if", "p42 > 1"],
            &["--to", "8", "--canary", "200%"],
        ] {
            read(line).unwrap_err();
        }
        read(&["--stop"]).unwrap();
        read(&[]).unwrap();
        read(&["--watch"]).unwrap();
    }
}
