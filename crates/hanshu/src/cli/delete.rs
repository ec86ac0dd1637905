//! `hanshu delete`: removes a function with everything that belongs to it.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::CliError;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Delete a function with its versions, aliases and logs.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The function
    name: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

impl DeleteArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let key = cx.function(&self.name)?;
        let what = format!("function {key} with its versions, aliases and logs");
        delete(cx, self.yes, &what, key.name.as_str(), || cx.client()?.delete_function(&key))
    }
}

/// Deletes something, once a person or `--yes` said so.
pub(super) fn delete(
    cx: &Context,
    yes: bool,
    what: &str,
    name: &str,
    delete: impl FnOnce() -> Result<(), CliError>,
) -> anyhow::Result<ExitCode> {
    if !yes && !confirmed(cx, what)? {
        cx.screen.note("nothing deleted");
        return Ok(ExitCode::SUCCESS);
    }
    delete()?;
    cx.screen.done(&json!({ "deleted": name }), &format!("deleted {name}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks a person; a program has to say `--yes`.
pub(super) fn confirmed(cx: &Context, what: &str) -> anyhow::Result<bool> {
    let answer = asked(cx, what, &format!("delete {what}? [y/N]"))?;
    Ok(matches!(answer.as_str(), "y" | "Y" | "yes"))
}

/// What a person answers to `question`; a program has to say `--yes`.
pub(super) fn asked(cx: &Context, what: &str, question: &str) -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        return Err(CliError::new(format!("deleting {what} needs a yes"))
            .hint("pass --yes: there is no terminal to ask on")
            .into());
    }
    cx.screen.note(question);
    let mut answer = String::new();
    // An answer is a name at most; whoever types more means something else.
    io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}
