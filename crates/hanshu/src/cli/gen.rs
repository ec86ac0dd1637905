//! `hanshu gen`: reference pages made from the code, for `cargo x gen`. Not for people, so not in the help.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Arg, Args, Command, CommandFactory as _, ValueEnum};

use super::Cli;
use super::context::Context;
use crate::config::reference::reference_markdown;

/// Print a reference page made from the code.
#[derive(Debug, Args)]
pub(crate) struct GenArgs {
    /// Which page
    page: Page,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Page {
    /// `docs/reference/config.md`
    ConfigReference,
    /// `docs/reference/cli.md`
    CliReference,
    /// `docs/reference/openapi.json`
    Openapi,
}

impl GenArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let page = match self.page {
            Page::ConfigReference => reference_markdown(),
            Page::CliReference => cli_markdown(),
            Page::Openapi => openapi_pretty()?,
        };
        cx.screen.raw(page.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The document as the daemon serves it, in lines, so that a change of it can be read.
fn openapi_pretty() -> anyhow::Result<String> {
    let document: serde_json::Value = serde_json::from_slice(&server::openapi_json())?;
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn cli_markdown() -> String {
    let mut command = Cli::command();
    // Fills in what is derived: full names, global options.
    command.build();
    let mut page = String::from(
        "# Command line\n\nMade by `cargo x gen` from `crates/hanshu/src/cli`: change it there.\n",
    );
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    // Writing to a String cannot fail, here and below.
    write!(page, "\n{about}\n").unwrap_or_default();
    if let Some(after) = command.get_after_help() {
        write!(page, "\n```text\n{after}\n```\n").unwrap_or_default();
    }
    page.push_str("\n## Global options\n\n");
    for argument in command.get_arguments().filter(|a| a.is_global_set()) {
        write_argument(&mut page, argument);
    }
    for sub in command.get_subcommands().filter(|s| !s.is_hide_set() && s.get_name() != "help") {
        write_command(&mut page, sub, "hanshu", 2);
    }
    page
}

fn write_command(page: &mut String, command: &Command, parent: &str, level: usize) {
    let name = format!("{parent} {}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    write!(page, "\n{} `{name}`\n\n{about}\n\n", "#".repeat(level)).unwrap_or_default();
    for argument in command.get_arguments() {
        let own = !argument.is_global_set()
            && argument.get_id() != "help"
            && argument.get_id() != "version";
        if own {
            write_argument(page, argument);
        }
    }
    if let Some(after) = command.get_after_help() {
        write!(page, "\n```text\n{after}\n```\n").unwrap_or_default();
    }
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
        write_command(page, sub, &name, level + 1);
    }
}

fn write_argument(page: &mut String, argument: &Arg) {
    let value = argument
        .get_value_names()
        .filter(|_| argument.get_action().takes_values())
        .map(|names| names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(" "));
    let mut forms: Vec<String> = Vec::new();
    forms.extend(argument.get_short().map(|s| format!("-{s}")));
    forms.extend(argument.get_long().map(|l| format!("--{l}")));
    let written = match (forms.is_empty(), value) {
        (true, value) => value.unwrap_or_else(|| argument.get_id().to_string()),
        (false, Some(value)) => format!("{} {value}", forms.join(", ")),
        (false, None) => forms.join(", "),
    };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    writeln!(page, "- `{written}`: {help}").unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_on_the_page() {
        let page = cli_markdown();
        for sub in Cli::command().get_subcommands().filter(|s| !s.is_hide_set()) {
            assert!(page.contains(&format!("`hanshu {}`", sub.get_name())), "{}", sub.get_name());
        }
        assert!(page.contains("`hanshu config set`"));
        assert!(page.contains("--payload"));
        assert!(!page.contains("hanshu gen"));
    }
}
