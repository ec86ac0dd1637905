//! `hanshu dead-letters` and `redrive`: calls that were given up, one by one and all of them.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use model::api::{CallState, SweepDead, SweptDead};
use model::clock::{Clock as _, SystemClock};
use model::ids::NamespaceName;
use serde_json::json;

use super::calls::{self, ListArgs};
use super::context::Context;
use super::failure::CliError;
use super::progress::{Progress, Step};
use super::{delete, screen, values};
use crate::client::Client;

/// Calls of one request of a purge.
const PURGE_CALLS: usize = 500;
/// So many requests a second at most: what a rate asks for is divided among them.
const REQUESTS_PER_SECOND: u32 = 4;
/// How long no request may succeed before it is given up: a daemon that is started anew, a queue that is full.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause after a request that did not succeed.
const PAUSE: Duration = Duration::from_secs(1);

const AFTER_HELP: &str = "\
A dead call is kept for 14 days, unless its function says otherwise (`async.keep_dead`), with its event and its history.

With --all, calls go on from where they stand if the command or the daemon is interrupted: what was redriven is not dead any more, so the same
command goes on with the rest. A daemon that is started anew, and a queue that is full, are waited for, a minute at most.

Examples:
  hanshu dead-letters nightly
  hanshu redrive 01a2213c-4cce-7398-8692-487b867acce7
  hanshu redrive --all --function nightly --rate 50/s
  hanshu redrive --all --since 2d --reason timeout
  hanshu dead-letters purge --function nightly --until 1d";

/// List asynchronous calls that were given up, the newest first; or forget them.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct DeadLettersArgs {
    #[command(flatten)]
    list: ListArgs,
    #[command(subcommand)]
    command: Option<Operation>,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Forget dead calls before their time, with their events
    Purge {
        #[command(flatten)]
        which: WhichArgs,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// Which dead calls; all of the namespace's where nothing is said.
#[derive(Clone, Debug, Args)]
struct WhichArgs {
    /// Of this function only
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Only those accepted since then: 10m, 2h, 1d, or a time such as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those accepted before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only those whose last attempt came out so, as `calls show` says it: handler, timeout, throttled and others
    #[arg(long, value_name = "OUTCOME")]
    reason: Option<String>,
}

impl WhichArgs {
    fn request(&self, cx: &Context, limit: usize) -> Result<SweepDead, CliError> {
        let now = SystemClock.now().timestamp();
        let moment =
            |text: &Option<String>| text.as_ref().map(|text| values::moment(text, now)).transpose();
        let function = self.function.as_ref().map(|name| cx.function(name)).transpose()?;
        Ok(SweepDead {
            function: function.map(|key| key.name.to_string()),
            since: moment(&self.since)?,
            until: moment(&self.until)?,
            outcome: self.reason.clone(),
            limit: Some(limit),
            ..SweepDead::default()
        })
    }
}

impl DeadLettersArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let Some(Operation::Purge { which, yes }) = self.command else {
            return calls::list(cx, &self.list, Some(CallState::Dead), "no dead calls");
        };
        let namespace = cx.namespace()?;
        let request = which.request(cx, PURGE_CALLS)?;
        let what = match &request.function {
            Some(function) => format!("the dead calls of function {namespace}/{function}"),
            None => format!("the dead calls of namespace {namespace}"),
        };
        if !yes && !delete::confirmed(cx, &what)? {
            cx.screen.note("nothing deleted");
            return Ok(ExitCode::SUCCESS);
        }
        let sweep = Sweep { client: cx.client()?, namespace, word: "purged", every: None };
        let step = Progress::new(cx.screen).step("purging");
        let purged = sweep.run(request, &step, Client::purge_dead)?;
        drop(step);
        let text = format!("purged {}", screen::count(purged, "call"));
        cx.screen.done(&json!({ "purged": purged }), &text)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Have dead calls run again, with the same event.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct RedriveArgs {
    /// Request ids
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// All dead calls, those accepted first at the front
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    which: WhichArgs,
    /// With --all: so many a second at most, for instance 50 or 50/s
    #[arg(long, default_value = "100/s", value_parser = rate)]
    rate: u32,
}

fn rate(text: &str) -> Result<u32, String> {
    values::within(text.strip_suffix("/s").unwrap_or(text), 1, 4_000)
        .map_err(|e| format!("'{text}' is no rate: {e} calls a second, for instance 50/s"))
}

impl RedriveArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let (client, namespace) = (cx.client()?, cx.namespace()?);
        if self.all {
            let (calls, every) = paced(self.rate);
            let request = self.which.request(cx, calls)?;
            let sweep = Sweep { client, namespace, word: "redriven", every: Some(every) };
            let step = Progress::new(cx.screen).step("redriving");
            let redriven = sweep.run(request, &step, Client::redrive_dead)?;
            drop(step);
            let text = format!("redriven {}", screen::count(redriven, "call"));
            cx.screen.done(&json!({ "redriven": redriven }), &text)?;
            return Ok(ExitCode::SUCCESS);
        }
        let WhichArgs { function, since, until, reason } = &self.which;
        if [function, since, until, reason].into_iter().any(Option::is_some) {
            let message = "--function, --since, --until and --reason go with --all, not with ids";
            return Err(CliError::new(message).into());
        }
        for id in &self.ids {
            client.redrive_call(&namespace, id)?;
            cx.screen.done(&json!({ "redriven": id }), &format!("redriven {id}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How many calls a request has, and how long one takes at least, for so many a second.
fn paced(rate: u32) -> (usize, Duration) {
    let calls = (rate / REQUESTS_PER_SECOND).max(1);
    (usize::try_from(calls).unwrap_or(usize::MAX), Duration::from_secs(1) * calls / rate)
}

/// Requests over dead calls, one after the other.
struct Sweep {
    client: Client,
    namespace: NamespaceName,
    /// What they are once it is done.
    word: &'static str,
    /// How long a request takes at least.
    every: Option<Duration>,
}

impl Sweep {
    /// Asks until there are no more; returns how many there were.
    fn run(
        &self,
        mut request: SweepDead,
        step: &Step,
        ask: impl Fn(&Client, &NamespaceName, &SweepDead) -> Result<SweptDead, CliError>,
    ) -> Result<u64, CliError> {
        let (mut done, mut succeeded) = (0, Instant::now());
        loop {
            let begun = Instant::now();
            match ask(&self.client, &self.namespace, &request) {
                Ok(swept) => {
                    done += swept.done as u64;
                    step.say(&format!("{} {}", self.word, screen::count(done, "call")));
                    if !swept.more {
                        return Ok(done);
                    }
                    (request.after, request.died_before) = (swept.after, Some(swept.died_before));
                    succeeded = begun;
                    let pause = self.every.unwrap_or_default();
                    thread::sleep(pause.saturating_sub(begun.elapsed()));
                }
                // The call that it went on from was forgotten: begin with the first again.
                Err(e) if e.code_text() == Some("not-found") && request.after.is_some() => {
                    request.after = None;
                }
                Err(e) if may_pass(&e) && succeeded.elapsed() < PATIENCE => {
                    step.say(&format!(
                        "{} {}, waiting: {e}",
                        self.word,
                        screen::count(done, "call")
                    ));
                    thread::sleep(PAUSE);
                }
                Err(e) => {
                    let said = screen::count(done, "call");
                    let hint = "the same command goes on with the rest";
                    let code = e.code_text().unwrap_or("unavailable").to_owned();
                    let message = format!("{} {said}, then: {e}", self.word);
                    return Err(CliError::new(message).hint(hint).code(code));
                }
            }
        }
    }
}

/// A refusal has a code; without one the daemon was not reached.
fn may_pass(error: &CliError) -> bool {
    error.code_text().is_none_or(|code| matches!(code, "queue-full" | "unavailable" | "throttled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_by_requests_of_some_calls() {
        assert_eq!((rate("50/s"), rate("7")), (Ok(50), Ok(7)));
        for bad in ["0", "50/m", "fast", "4001/s"] {
            assert!(rate(bad).unwrap_err().contains("for instance 50/s"), "{bad}");
        }
        for per_second in [1, 3, 4, 50, 100, 4_000] {
            let (calls, every) = paced(per_second);
            let found = calls as f64 / every.as_secs_f64();
            assert!((found - f64::from(per_second)).abs() < 0.01, "{per_second}: {found}");
            assert!(calls <= 1_000 && every <= Duration::from_secs(1));
        }
    }
}
