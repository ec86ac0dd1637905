//! Shows a shift until it is done or stopped.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use model::api::{AliasView, ChangeView, ShiftView};
use model::change::What;
use serde_json::json;

use super::super::text::{sample, shift as shift_text};
use crate::cli::context::Context;
use crate::cli::failure::{CliError, EXIT_FUNCTION_FAILED};
use crate::cli::progress::Progress;
use crate::cli::screen::Format;
use crate::client::Client;
use crate::client::aliases::AliasKey;
use crate::client::history::Subject;

/// How often the daemon is asked.
const PAUSE: Duration = Duration::from_secs(1);
/// So many times in a row the daemon may not answer: it may be started anew meanwhile.
const SILENCES: u32 = 120;
/// Changes among which the end is looked for: those of a few shifts of the most steps.
const CHANGES: usize = 500;

/// Follows the shift that `view` shows.
pub(super) fn watch(
    cx: &Context,
    client: &Client,
    key: &AliasKey,
    view: &AliasView,
) -> anyhow::Result<ExitCode> {
    let Some(first) = &view.shift else {
        return Err(CliError::new(format!("no shift of {key} is under way"))
            .hint(format!("begin one: hanshu alias shift {key} --to VERSION"))
            .into());
    };
    let progress = Progress::new(cx.screen);
    let bar = progress.step(&format!("shifting {key} to {}", first.to));
    let mut now = first.clone();
    let mut told = 0;
    loop {
        bar.say(&line(&now));
        if now.step != told {
            told = now.step;
            match cx.screen.format() {
                Format::Json => cx.screen.json_line(&now)?,
                Format::Text if !cx.screen.moving() => cx.screen.note(&line(&now)),
                Format::Text => {}
            }
        }
        thread::sleep(PAUSE);
        let shift = patiently(|| client.alias(key))?.shift;
        match shift.filter(|shift| shift.started_at == first.started_at) {
            Some(shift) => now = shift,
            None => break,
        }
    }
    drop(bar);
    let subject = Subject::Function(key.function.clone(), Some(key.name.clone()));
    let changes = patiently(|| client.history(&subject, CHANGES))?;
    told_end(cx, key, &now, end(&changes, view.revision))
}

/// The change that ended the shift which was seen at a revision; `changes` are newest first.
fn end(changes: &[ChangeView], seen: u64) -> Option<&ChangeView> {
    let ends = |change: &&ChangeView| {
        change.revision > seen && !matches!(change.what, What::ShiftStep | What::ShiftStart)
    };
    changes.iter().rev().find(ends)
}

fn told_end(
    cx: &Context,
    key: &AliasKey,
    last: &ShiftView,
    end: Option<&ChangeView>,
) -> anyhow::Result<ExitCode> {
    let done = end.is_some_and(|end| end.what == What::ShiftDone);
    match cx.screen.format() {
        Format::Json => cx.screen.json_line(&json!({ "done": done, "change": end }))?,
        Format::Text if done => {
            cx.screen.line(&format!("done: every call of {key} goes to {}", last.to))?;
        }
        Format::Text => cx.screen.line(&format!("{} {key} {}", stopped(end), why(end)))?,
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FUNCTION_FAILED) })
}

fn stopped(end: Option<&ChangeView>) -> &'static str {
    match end.map(|end| end.what) {
        Some(What::ShiftStop) => "stopped: the calls of",
        _ => "ended: the shift of",
    }
}

fn why(end: Option<&ChangeView>) -> String {
    let Some(end) = end else { return "ended; its history does not say how".to_owned() };
    let what = match end.what {
        What::ShiftStop => "go where they went before".to_owned(),
        other => format!("ended by {}", other.as_str()),
    };
    let reason = end.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{what} (revision {}, by {}){reason}", end.revision, end.who)
}

fn line(shift: &ShiftView) -> String {
    format!("{} · new {} · old {}", shift_text(shift), sample(&shift.new), sample(&shift.old))
}

/// Asks again while the daemon does not answer at all; what it refuses is an error at once.
fn patiently<T>(ask: impl Fn() -> Result<T, CliError>) -> Result<T, CliError> {
    let mut silences = 0;
    loop {
        match ask() {
            Err(e)
                if silences < SILENCES && matches!(e.code_text(), None | Some("unavailable")) =>
            {
                silences += 1;
                thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, what: What) -> ChangeView {
        serde_json::from_value(json!({
            "revision": revision, "at": "", "who": "hanshu", "what": what, "reason": "errors of the new version is 5.00%",
            "differences": []
        }))
        .unwrap()
    }

    #[test]
    fn the_end_is_the_first_change_that_is_no_step() {
        let changes = [
            change(9, What::Configure),
            change(8, What::ShiftStop),
            change(7, What::ShiftStep),
            change(6, What::ShiftStart),
            change(5, What::ShiftDone),
        ];
        assert_eq!(end(&changes, 6).unwrap().revision, 8);
        assert_eq!(end(&changes, 9).map(|c| c.revision), None);
        let end = end(&changes, 6);
        assert_eq!(stopped(end), "stopped: the calls of");
        assert_eq!(
            why(end),
            "go where they went before (revision 8, by hanshu): errors of the new version is 5.00%"
        );
        assert!(why(Some(&change(9, What::Delete))).starts_with("ended by delete (revision 9"));
    }

    #[test]
    fn refusals_are_not_waited_out() {
        let refused = || Err::<(), _>(CliError::new("no").code("not-found"));
        patiently(refused).unwrap_err();
        assert_eq!(patiently(|| Ok(1)).unwrap(), 1);
    }
}
