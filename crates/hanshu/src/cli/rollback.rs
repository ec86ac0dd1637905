//! `hanshu rollback`: brings a function or an alias back to how it was.

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::failure::CliError;
use super::history;

const AFTER_HELP: &str = "\
A roll-back is a change like others: it has a revision of its own, and can be rolled back.

Examples:
  hanshu rollback hello 3                        $LATEST gets code, configuration and layers of version 3
  hanshu rollback hello:live                     the alias, to before its last change
  hanshu rollback hello:live --revision 12       the alias, to how it was at revision 12";

/// Bring $LATEST back to a version, or an alias back to an earlier revision.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct RollbackArgs {
    /// The function, with a version behind it; or NAME:ALIAS
    name: String,
    /// The version that $LATEST goes back to
    #[arg(value_name = "VERSION", conflicts_with = "revision")]
    to: Option<u64>,
    /// The revision that the alias goes back to: see `hanshu history NAME:ALIAS` [default: the one before the last]
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
}

impl RollbackArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        match (self.to, self.name.contains(':')) {
            (Some(version), false) => function(cx, &self.name, version)?,
            (None, true) => alias(cx, &self.name, self.revision)?,
            (Some(_), true) => {
                return Err(CliError::new(format!(
                    "'{}' names an alias: expected --revision N, or nothing, behind it",
                    self.name
                ))
                .hint(format!("its revisions: hanshu history {}", self.name))
                .into());
            }
            (None, false) => {
                return Err(CliError::new(format!(
                    "what '{0}' goes back to is missing: expected {0} VERSION, or {0}:ALIAS",
                    self.name
                ))
                .hint(format!("its versions: hanshu versions {}", self.name))
                .into());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn function(cx: &Context, name: &str, version: u64) -> anyhow::Result<()> {
    let key = cx.function(name)?;
    let view = cx.client()?.roll_back_function(&key, version)?;
    Ok(cx.screen.show(&view, |view| {
        format!(
            "{}:$LATEST is as version {version} again, at revision {}",
            view.name, view.revision
        )
    })?)
}

/// Rolls an alias back.
pub(super) fn alias(cx: &Context, text: &str, revision: Option<u64>) -> anyhow::Result<()> {
    let key = cx.alias(text)?;
    let view = cx.client()?.roll_back_alias(&key, revision)?;
    cx.screen.show(&view, |view| {
        format!("{key}: {}, at revision {}", super::alias::route(view), view.revision)
    })?;
    history::note_of(cx, &key);
    Ok(())
}
