//! `hanshu logs`: what a function wrote, or writes from now on.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::process::ExitCode;
use std::thread;

use clap::Args;
use model::api::LogLineView;
use model::clock::{Clock as _, SystemClock};
use model::ids::RequestId;
use model::limits;
use model::ports::LogStream;

use super::context::Context;
use super::screen::Format;
use super::values;
use crate::client::Client;
use crate::client::follow::{Event, Events, LogFilter, RECONNECT_PAUSE};

const AFTER_HELP: &str = "\
Examples:
  hanshu logs hello                       the newest 100 lines
  hanshu logs hello -f                    and what comes, until Ctrl-C
  hanshu logs hello --since 10m --contains error
  hanshu logs hello --request ID          one call's lines
  hanshu logs hello --output json         one JSON object a line";

/// Show what a function wrote.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct LogsArgs {
    /// The function
    name: String,
    /// Go on with what comes, until Ctrl-C; waits for the daemon if it goes away
    #[arg(long, short)]
    follow: bool,
    /// Show at most so many of the newest lines
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = limit)]
    limit: usize,
    /// Only lines of one call
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only lines since then: 10m, 2h, 1d, or a time such as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// Only lines that hold this text, upper and lower case alike
    #[arg(long, value_name = "TEXT")]
    contains: Option<String>,
}

fn limit(text: &str) -> Result<usize, String> {
    values::within(text, 1, u64::try_from(limits::LOG_QUERY_LINES).unwrap_or(u64::MAX))
}

impl LogsArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let function = cx.function(&self.name)?;
        if let Some(id) = &self.request {
            id.parse::<RequestId>().map_err(super::failure::CliError::from)?;
        }
        let now = SystemClock.now().timestamp();
        let filter = LogFilter {
            function,
            request: self.request,
            since: self.since.map(|s| values::moment(&s, now)).transpose()?,
            contains: self.contains,
            limit: self.limit,
        };
        let client = cx.client()?;
        if self.follow {
            return follow(cx, &client, filter);
        }
        for line in client.logs(&filter)? {
            show(cx, &line)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Shows the newest lines, then what comes. Opens the tail again when the daemon comes back; ends by Ctrl-C or a refusal.
fn follow(cx: &Context, client: &Client, mut filter: LogFilter) -> anyhow::Result<ExitCode> {
    let mut seen = Seen::default();
    let mut opened = false;
    let mut lost = false;
    loop {
        match client.follow(&filter) {
            Ok(events) => {
                if std::mem::take(&mut lost) {
                    cx.screen.note("the daemon is back");
                }
                opened = true;
                show_events(cx, events, &mut seen)?;
            }
            // A refusal has a code; without one the daemon was not reached.
            Err(e) if e.code_text().is_some() || !opened => return Err(e.into()),
            Err(_) => {}
        }
        if !std::mem::replace(&mut lost, true) {
            cx.screen.note("the daemon went away; waiting for it to come back (Ctrl-C ends)");
        }
        // What was written in between is asked for when it is back.
        filter.since = seen.reconnect().or(filter.since);
        thread::sleep(RECONNECT_PAUSE);
    }
}

fn show_events(cx: &Context, events: Events, seen: &mut Seen) -> std::io::Result<()> {
    for event in events {
        match event {
            Event::Line(line) if seen.is_new(&line) => show(cx, &line)?,
            Event::Line(_) => {}
            Event::Dropped(number) => {
                cx.screen.note(&format!("{number} lines were skipped: this reader is too slow"));
            }
        }
    }
    Ok(())
}

/// Where a tail was when it was lost, so that the next one neither repeats nor misses a line. Lines are kept as hashes.
#[derive(Debug, Default)]
struct Seen {
    /// The newest time shown, and the lines that have it.
    newest: String,
    at_newest: Vec<u64>,
    /// Lines that the next tail shows again.
    repeated: Vec<u64>,
}

impl Seen {
    /// The time from which the next tail starts.
    fn reconnect(&mut self) -> Option<String> {
        self.repeated.clone_from(&self.at_newest);
        Some(self.newest.clone()).filter(|t| !t.is_empty())
    }

    /// Whether a line was not shown by an earlier tail.
    fn is_new(&mut self, line: &LogLineView) -> bool {
        if take(&mut self.repeated, hash(line)) {
            return false;
        }
        // RFC 3339 in UTC with a fixed number of digits sorts as text.
        if line.time > self.newest {
            self.newest.clone_from(&line.time);
            self.at_newest.clear();
        }
        if line.time == self.newest {
            self.at_newest.push(hash(line));
        }
        true
    }
}

/// Removes one occurrence.
fn take(hashes: &mut Vec<u64>, hash: u64) -> bool {
    let at = hashes.iter().position(|h| *h == hash);
    at.map(|i| hashes.swap_remove(i)).is_some()
}

fn hash(line: &LogLineView) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&line.time, &line.request_id, line.stream, &line.text).hash(&mut hasher);
    hasher.finish()
}

fn show(cx: &Context, line: &LogLineView) -> std::io::Result<()> {
    match cx.screen.format() {
        Format::Json => cx.screen.json_line(line),
        Format::Text => cx.screen.line(&text(line)),
    }
}

/// A line for a person: time, call, where from, text.
pub(super) fn text(line: &LogLineView) -> String {
    let call = line.request_id.as_deref().unwrap_or("-");
    let stream = match line.stream {
        LogStream::Stdout => "out",
        LogStream::Stderr => "err",
        LogStream::Platform => "platform",
    };
    format!("{} {call} {stream} {}", line.time, line.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str, text: &str) -> LogLineView {
        LogLineView {
            time: time.into(),
            version: "$LATEST".into(),
            request_id: None,
            stream: LogStream::Stdout,
            text: text.into(),
        }
    }

    #[test]
    fn a_reconnect_neither_repeats_nor_misses() {
        let mut seen = Seen::default();
        assert_eq!(seen.reconnect(), None);
        for text in ["a", "b", "b"] {
            assert!(seen.is_new(&line("2", text)));
        }
        // A line of another instance may come late.
        assert!(seen.is_new(&line("1", "late")));
        assert_eq!(seen.reconnect().as_deref(), Some("2"));
        assert!(!seen.is_new(&line("2", "a")));
        assert!(!seen.is_new(&line("2", "b")));
        assert!(!seen.is_new(&line("2", "b")));
        assert!(seen.is_new(&line("2", "b")));
        assert!(seen.is_new(&line("3", "c")));
    }
}
