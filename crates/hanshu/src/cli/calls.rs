//! `hanshu calls` and `cancel`: what became of asynchronous calls.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use model::api::{AttemptView, CallState, CallSummary, CallView};
use model::ids::FunctionName;
use serde_json::json;

use super::context::Context;
use super::failure::EXIT_FUNCTION_FAILED;
use super::screen::{self, Format};
use crate::client::calls::CallFilter;

/// Calls of one request for a list.
const PAGE: usize = 1_000;
/// One request waits so long at most; the next one goes on.
const WAIT_SECONDS: u64 = 30;

const AFTER_HELP: &str = "\
A call is kept for 24 hours once it has succeeded or was cancelled, for 14 days once it is dead, unless its function says otherwise
(`hanshu config set NAME async.keep_result=2d async.keep_dead=30d`).

Examples:
  hanshu calls                                 the newest, of every function
  hanshu calls nightly --state waiting
  hanshu calls show 01a2213c-4cce-7398-8692-487b867acce7 --wait
  hanshu dead-letters nightly";

/// List asynchronous calls, the newest first; show one with its attempts and its result.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct CallsArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Only those that stand so
    #[arg(long, value_enum)]
    state: Option<State>,
    #[command(subcommand)]
    command: Option<Operation>,
}

/// Which calls to list.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Of this function only
    name: Option<String>,
    /// Show at most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Show all that is kept of a call
    Show {
        /// Its request id, as `hanshu invoke --async` prints it
        id: String,
        /// Wait until it has ended
        #[arg(long)]
        wait: bool,
    },
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    /// It waits for its time, or its turn
    Waiting,
    /// It runs
    Running,
    /// The function answered
    Succeeded,
    /// Given up
    Dead,
    /// Called off
    Cancelled,
}

impl From<State> for CallState {
    fn from(state: State) -> Self {
        match state {
            State::Waiting => Self::Waiting,
            State::Running => Self::Running,
            State::Succeeded => Self::Succeeded,
            State::Dead => Self::Dead,
            State::Cancelled => Self::Cancelled,
        }
    }
}

impl CallsArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        match self.command {
            Some(Operation::Show { id, wait }) => show(cx, &id, wait),
            None => {
                let none = "no asynchronous calls: make one with `hanshu invoke NAME --async`";
                list(cx, &self.list, self.state.map(Into::into), none)
            }
        }
    }
}

/// Call asynchronous calls off; those that run are ended.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Their request ids
    #[arg(required = true)]
    ids: Vec<String>,
}

impl CancelArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let (client, namespace) = (cx.client()?, cx.namespace()?);
        for id in &self.ids {
            client.cancel_call(&namespace, id)?;
            cx.screen.done(&json!({ "cancelled": id }), &format!("cancelled {id}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Calls by page, at most so many.
fn found(
    cx: &Context,
    name: Option<&String>,
    state: Option<CallState>,
    most: usize,
) -> anyhow::Result<Vec<CallSummary>> {
    let function = name.map(|name| cx.function(name)).transpose()?;
    let mut filter = CallFilter {
        namespace: cx.namespace()?,
        function: function.map(|key| -> FunctionName { key.name }),
        state,
        after: None,
        limit: PAGE.min(most),
    };
    let (client, mut all) = (cx.client()?, Vec::new());
    loop {
        let page = client.calls(&filter)?;
        all.extend(page.items);
        filter.after = page.next;
        if all.len() >= most || filter.after.is_none() {
            all.truncate(most);
            return Ok(all);
        }
    }
}

/// Lists calls; `none` is said where there are none.
pub(super) fn list(
    cx: &Context,
    args: &ListArgs,
    state: Option<CallState>,
    none: &str,
) -> anyhow::Result<ExitCode> {
    let most = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let calls = found(cx, args.name.as_ref(), state, most)?;
    let row = |c: &CallSummary| {
        let when = c.ended_at.as_ref().or(c.due_at.as_ref()).cloned();
        vec![
            c.id.clone(),
            c.function.clone(),
            c.state.as_str().to_owned(),
            c.attempts.to_string(),
            c.accepted_at.clone(),
            when.unwrap_or_else(|| "-".into()),
        ]
    };
    let head = ["ID", "FUNCTION", "STATE", "ATTEMPTS", "ACCEPTED", "DUE OR ENDED"];
    cx.screen.list(&calls, &head, row, none)?;
    Ok(ExitCode::SUCCESS)
}

fn show(cx: &Context, id: &str, wait: bool) -> anyhow::Result<ExitCode> {
    let (client, namespace) = (cx.client()?, cx.namespace()?);
    let mut call = client.call(&namespace, id, if wait { WAIT_SECONDS } else { 0 })?;
    while wait && matches!(call.summary.state, CallState::Waiting | CallState::Running) {
        call = client.call(&namespace, id, WAIT_SECONDS)?;
    }
    if cx.screen.format() == Format::Json {
        cx.screen.json(&call)?;
    } else {
        cx.screen.line(&text(&call))?;
    }
    let failed = wait && call.summary.state != CallState::Succeeded;
    Ok(if failed { ExitCode::from(EXIT_FUNCTION_FAILED) } else { ExitCode::SUCCESS })
}

fn text(call: &CallView) -> String {
    let summary = &call.summary;
    let mut fields = vec![
        ("call", summary.id.clone()),
        ("function", summary.function.clone()),
        ("state", summary.state.as_str().to_owned()),
        ("accepted", summary.accepted_at.clone()),
    ];
    let optional = [("due", &summary.due_at), ("ended", &summary.ended_at)];
    fields.extend(optional.into_iter().filter_map(|(name, at)| Some((name, at.clone()?))));
    fields.push(("attempts", summary.attempts.to_string()));
    fields.extend(call.destination.as_ref().map(|told| {
        let CallSummary { id, function, state, .. } = &told.call;
        let why = told.message.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        ("told to", format!("{function} by {id}, {}{why}", state.as_str()))
    }));
    let values = [("result", &call.result), ("event", &call.event)];
    fields.extend(values.into_iter().filter_map(|(name, v)| Some((name, v.as_ref()?.to_string()))));
    let fields: Vec<_> = fields.into_iter().map(|(name, v)| (name, screen::tame(&v))).collect();
    let mut text = screen::fields(&fields);
    for attempt in &call.history {
        text.push('\n');
        text.push_str(&screen::tame(&line(attempt)));
    }
    text
}

/// One attempt in a line.
fn line(attempt: &AttemptView) -> String {
    let mut line = format!("  {}  ", attempt.at);
    if let Some(version) = &attempt.version {
        line.push_str(&format!("attempt {} by version {version}, ", attempt.attempt));
    }
    line.push_str(&attempt.outcome);
    if let Some(ms) = attempt.duration_ms {
        line.push_str(&format!(" after {ms} ms"));
    }
    if let Some(message) = &attempt.message {
        line.push_str(&format!(": {message}"));
    }
    line
}
