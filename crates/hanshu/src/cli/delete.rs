//! `hanshu delete`: removes a function with everything that belongs to it.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::failure::CliError;
use super::screen::Format;

/// Delete a function with its versions and logs.
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
        let (namespace, name) = cx.function(&self.name)?;
        let what = format!("function {namespace}/{name} with its versions and logs");
        if !self.yes && !confirmed(cx, &what)? {
            cx.screen.note("nothing deleted");
            return Ok(ExitCode::SUCCESS);
        }
        cx.client()?.delete_function(&namespace, &name)?;
        match cx.screen.format() {
            Format::Json => cx.screen.json(&json!({ "deleted": name }))?,
            Format::Text => cx.screen.note(&format!("deleted {name}")),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks a person; a program has to say `--yes`.
pub(super) fn confirmed(cx: &Context, what: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(CliError::new(format!("deleting {what} needs a yes"))
            .hint("pass --yes: there is no terminal to ask on")
            .into());
    }
    cx.screen.note(&format!("delete {what}? [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
