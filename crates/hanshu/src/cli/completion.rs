//! `hanshu completion`: a shell's completion script.

use std::process::ExitCode;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::Cli;
use super::context::Context;

const AFTER_HELP: &str = "\
Examples:
  hanshu completion bash > ~/.local/share/bash-completion/completions/hanshu
  hanshu completion zsh > ~/.zfunc/_hanshu
  hanshu completion fish > ~/.config/fish/completions/hanshu.fish";

/// Print a shell's completion script.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

impl CompletionArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "hanshu", &mut script);
        cx.screen.raw(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
