//! `hanshu invoke`: calls a function and shows what came of it.

use std::process::ExitCode;

use clap::Args;
use model::api::LogLineView;
use model::ids::{FunctionRef, Qualifier};
use model::invocation::{InvocationKind, StartPath, Timings};
use serde_json::{Value, json};

use super::context::Context;
use super::failure::EXIT_FUNCTION_FAILED;
use super::screen::{Format, milliseconds};
use super::{logs, values};
use crate::client::Client;
use crate::client::follow::LogFilter;
use crate::client::invoke::{How, Invoked};

/// Log lines that one call is shown with.
const LOG_LINES: usize = 1_000;

const AFTER_HELP: &str = "\
The function's answer goes to standard output exactly as it wrote it, and as it writes if it answers in pieces; its error, log and timings go to standard error.
Exit codes: 0 it answered; 1 it failed; 2 it could not be called.

Examples:
  hanshu invoke hello
  hanshu invoke hello --payload '{\"name\":\"Ada\"}' --logs --timings
  hanshu invoke resize:3 --payload @event.json > out.json
  generate | hanshu invoke sum --payload - | jq .total
  hanshu invoke nightly --async
  hanshu invoke reminder --async --delay 15m
  hanshu invoke pay --idempotency-key order-7 --payload @order.json";

/// Call a function.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct InvokeArgs {
    /// The function, or NAME:QUALIFIER for a version or alias of it
    name: String,
    /// The event: JSON, @FILE, or - for standard input [default: {}]
    #[arg(long, short, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    payload: Option<String>,
    /// Have it run later, and print the request id
    #[arg(long = "async", conflicts_with = "dry_run")]
    later: bool,
    /// With --async: due after this time, for instance 90s, 15m or 2d; at most 7d
    #[arg(long, requires = "later", value_name = "TIME", value_parser = values::seconds)]
    delay: Option<u64>,
    /// The call's key, 1 to 255 visible characters: calls of the same key are one call, with one result
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Only check that the call would be accepted
    #[arg(long)]
    dry_run: bool,
    /// The version or alias to call [default: $LATEST]
    #[arg(long, value_name = "QUALIFIER")]
    qualifier: Option<String>,
    /// Show what the function wrote during the call
    #[arg(long)]
    logs: bool,
    /// Show where the time went
    #[arg(long)]
    timings: bool,
}

impl InvokeArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let target = cx.target(&self.name, self.qualifier.as_deref())?;
        let kind = match (self.later, self.dry_run) {
            (true, _) => InvocationKind::Async,
            (false, true) => InvocationKind::DryRun,
            (false, false) => InvocationKind::Sync,
        };
        let payload = values::payload(self.payload.as_deref())?;
        let client = cx.client()?;
        let mut ends_a_line = true;
        let mut show = |piece: &[u8]| {
            ends_a_line = piece.ends_with(b"\n");
            cx.screen.raw(piece)
        };
        let shown = cx.screen.format() == Format::Text;
        let how = How { kind, delay_seconds: self.delay, key: self.idempotency_key.as_deref() };
        let done = client.invoke(&target, how, &payload, shown.then_some(&mut show))?;
        if cx.screen.read_by_a_person() && !ends_a_line {
            cx.screen.line("")?;
        }
        let lines = if self.logs { lines_of(&client, &target, &done)? } else { Vec::new() };
        if cx.screen.format() == Format::Json {
            cx.screen.json(&document(kind, &done, &lines))?;
        } else {
            self.show(cx, &target, kind, &done, &lines)?;
        }
        Ok(if done.failure.is_some() {
            ExitCode::from(EXIT_FUNCTION_FAILED)
        } else {
            ExitCode::SUCCESS
        })
    }

    fn show(
        &self,
        cx: &Context,
        target: &FunctionRef,
        kind: InvocationKind,
        done: &Invoked,
        lines: &[LogLineView],
    ) -> anyhow::Result<()> {
        for line in lines {
            cx.screen.note(&logs::text(line));
        }
        match (kind, &done.failure) {
            (InvocationKind::Async, _) => cx.screen.line(&done.request_id)?,
            (InvocationKind::DryRun, _) => cx.screen.note("the call would be accepted"),
            (InvocationKind::Sync, Some(_)) if done.in_pieces => {
                let error = cx.screen.red("error");
                cx.screen.note(&format!("{error}: the answer broke off: the function failed"));
                cx.screen.note(&format!(
                    "  hint: hanshu logs {} --request {}",
                    self.name, done.request_id
                ));
            }
            (InvocationKind::Sync, None) if done.in_pieces => {}
            (InvocationKind::Sync, Some(failure)) => {
                cx.screen
                    .note(&format!("{}: the function failed ({failure})", cx.screen.red("error")));
                cx.screen.note(&pretty_error(&done.body));
                cx.screen.note(&format!(
                    "  hint: hanshu logs {} --request {}",
                    self.name, done.request_id
                ));
            }
            (InvocationKind::Sync, None) => {
                cx.screen.raw(&done.body)?;
                if cx.screen.read_by_a_person() && !done.body.ends_with(b"\n") {
                    cx.screen.line("")?;
                }
            }
        }
        // An alias leads to several versions: which one it was explains the answer.
        if matches!(target.qualifier, Qualifier::Alias(_)) && !done.version.is_empty() {
            cx.screen.note(&cx.screen.dim(&format!("version {} ran", done.version)));
        }
        if self.timings
            && let Some(timings) = &done.timings
        {
            cx.screen.note(&cx.screen.dim(&timings_text(timings)));
        }
        Ok(())
    }
}

fn lines_of(
    client: &Client,
    target: &FunctionRef,
    done: &Invoked,
) -> anyhow::Result<Vec<LogLineView>> {
    Ok(client.logs(&LogFilter {
        function: target.key.clone(),
        request: Some(done.request_id.clone()),
        since: None,
        contains: None,
        limit: LOG_LINES,
    })?)
}

/// The stable JSON form.
fn document(kind: InvocationKind, done: &Invoked, lines: &[LogLineView]) -> Value {
    let body: Value = serde_json::from_slice(&done.body)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&done.body).into_owned()));
    let status = match (kind, &done.failure) {
        (InvocationKind::Async, _) => "accepted",
        (InvocationKind::DryRun, _) => "would-be-accepted",
        (InvocationKind::Sync, None) => "ok",
        (InvocationKind::Sync, Some(_)) => "failed",
    };
    let (result, error) = match (kind, &done.failure) {
        (InvocationKind::Sync, None) => (body, Value::Null),
        (InvocationKind::Sync, Some(_)) => (Value::Null, body),
        _ => (Value::Null, Value::Null),
    };
    json!({
        "status": status,
        "request_id": done.request_id,
        "version": done.version,
        "result": result,
        "failure": done.failure,
        "error": error,
        "timings": done.timings,
        "logs": lines,
    })
}

/// The error in the function's language, for a person: type and message, then the trace.
fn pretty_error(body: &[u8]) -> String {
    let Ok(Value::Object(error)) = serde_json::from_slice(body) else {
        return format!("  {}", String::from_utf8_lossy(body));
    };
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let trace = error.get("trace").or_else(|| error.get("stackTrace")).and_then(Value::as_array);
    // Node.js repeats type and message as the first line of its trace.
    let head = format!("{}: {}", text("errorType"), text("errorMessage"));
    let frames = trace.into_iter().flatten().filter_map(Value::as_str).filter(|f| *f != head);
    let mut lines = vec![format!("  {head}")];
    lines.extend(frames.flat_map(str::lines).map(|l| format!("    {}", l.trim())));
    lines.join("\n")
}

fn timings_text(t: &Timings) -> String {
    let part = |name: &str, us: u64| format!("{name} {}", milliseconds(us));
    let total = milliseconds(t.total_us);
    let queue = part("queue", t.queue_us);
    let handler = part("handler", t.handler_us);
    if !t.cold && t.thaw_us > 0 {
        let thaw = part("thaw", t.thaw_us);
        return format!("warm {total}: {queue} · {thaw} · {handler}");
    }
    if !t.cold {
        return format!("warm {total}: {queue} · {handler}");
    }
    let start =
        [part("sandbox", t.sandbox_us), part("runtime", t.runtime_us), part("code", t.code_us)];
    let path = t.start.map_or("", StartPath::as_str);
    format!("cold {total}, {path}: {queue} · {} · {handler}", start.join(" · "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoked(failure: Option<&str>, body: &str) -> Invoked {
        Invoked {
            request_id: "id".into(),
            version: "$LATEST".into(),
            failure: failure.map(str::to_owned),
            body: body.as_bytes().to_vec(),
            timings: None,
            in_pieces: false,
        }
    }

    #[test]
    fn errors_of_both_languages_are_readable() {
        let node = pretty_error(br#"{"errorType":"TypeError","errorMessage":"no","trace":["TypeError: no","    at x"]}"#);
        assert_eq!(node, "  TypeError: no\n    at x");
        let python = pretty_error(br#"{"errorMessage":"no","errorType":"KeyError","stackTrace":["  File \"a\", line 1\n    x\n"]}"#);
        assert!(python.starts_with("  KeyError: no\n    File"), "{python}");
        assert_eq!(pretty_error(b"plain"), "  plain");
    }

    #[test]
    fn the_json_form_keeps_result_and_error_apart() {
        let ok = document(InvocationKind::Sync, &invoked(None, "[1]"), &[]);
        assert_eq!((&ok["status"], &ok["result"]), (&json!("ok"), &json!([1])));
        let bad =
            document(InvocationKind::Sync, &invoked(Some("handler"), r#"{"errorType":"E"}"#), &[]);
        assert_eq!(bad["status"], "failed");
        assert_eq!(bad["error"]["errorType"], "E");
        assert!(bad["result"].is_null());
    }

    #[test]
    fn timings_of_a_warm_call_leave_the_start_out() {
        let mut t = Timings { total_us: 900, handler_us: 500, thaw_us: 70, ..Timings::default() };
        assert_eq!(
            timings_text(&t),
            "warm 0.90 ms: queue 0.00 ms · thaw 0.07 ms · handler 0.50 ms"
        );
        t.thaw_us = 0;
        assert_eq!(timings_text(&t), "warm 0.90 ms: queue 0.00 ms · handler 0.50 ms");
        t.cold = true;
        t.start = Some(StartPath::PreStarted);
        assert!(timings_text(&t).starts_with("cold 0.90 ms, pre-started: "));
        assert!(timings_text(&t).contains("sandbox"));
    }
}
