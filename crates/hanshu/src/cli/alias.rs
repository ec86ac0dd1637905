//! `hanshu alias`: names for routes to versions.
//!
//! [`set`] changes a route, [`resolve`] explains it, [`shift`] moves its calls step by step, [`shadow`] copies them.

mod resolve;
mod set;
mod shadow;
mod shift;
mod text;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use super::history::{self, HistoryOptions};
use super::{delete, rollback};
use crate::client::history::Subject;

pub(super) use text::route;

const AFTER_HELP: &str = "\
In the folder of a function (one with a hanshu.toml), ALIAS alone means that function's.

Examples:
  hanshu alias set hello:live --to 7
  hanshu alias shift hello:live --to 8 --canary 5%,30%,100% --every 2m --watch
  hanshu alias rollback hello:live --reason 'orders fail'";

/// Names for routes to versions: set, shift, shadow, explain and roll them back.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct AliasArgs {
    #[command(subcommand)]
    command: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// List the aliases of a function
    List {
        /// The function
        name: String,
    },
    /// Show everything about an alias
    Show {
        /// The alias
        #[arg(value_name = "NAME:ALIAS")]
        alias: String,
        /// Show the values of environment variables as well, but for those of secrets, which nobody is told
        #[arg(long)]
        values: bool,
    },
    Set(set::SetArgs),
    /// Delete an alias
    Delete {
        /// The alias
        #[arg(value_name = "NAME:ALIAS")]
        alias: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Bring an alias back to how it was before its last change, or at an earlier revision
    Rollback {
        /// The alias
        #[arg(value_name = "NAME:ALIAS")]
        alias: String,
        /// The revision to go back to: see `hanshu alias history` [default: the one before the last]
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// List the changes of an alias, newest first
    History {
        /// The alias
        #[arg(value_name = "NAME:ALIAS")]
        alias: String,
        #[command(flatten)]
        options: HistoryOptions,
    },
    Resolve(resolve::ResolveArgs),
    Shift(shift::ShiftArgs),
    Shadow(shadow::ShadowArgs),
    Diff(shadow::DiffArgs),
}

impl AliasArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        match self.command {
            Operation::List { name } => list(cx, &name)?,
            Operation::Show { alias, values } => {
                let view = cx.client()?.alias(&cx.alias(&alias)?)?;
                cx.screen.show(&view, |view| text::whole(view, values))?;
            }
            Operation::Set(args) => args.run(cx)?,
            Operation::Delete { alias, yes } => {
                let key = cx.alias(&alias)?;
                let (what, name) = (format!("alias {key}"), key.to_string());
                return delete::delete(cx, yes, &what, &name, || cx.client()?.delete_alias(&key));
            }
            Operation::Rollback { alias, revision } => rollback::alias(cx, &alias, revision)?,
            Operation::History { alias, options } => {
                let key = cx.alias(&alias)?;
                history::show(cx, &Subject::Function(key.function, Some(key.name)), &options)?;
            }
            Operation::Resolve(args) => args.run(cx)?,
            Operation::Shift(args) => return args.run(cx),
            Operation::Shadow(args) => args.run(cx)?,
            Operation::Diff(args) => args.run(cx)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(cx: &Context, name: &str) -> anyhow::Result<()> {
    let aliases = cx.client()?.aliases(&cx.function(name)?)?;
    let head = ["ALIAS", "TARGETS", "RULES", "STICKY", "SHIFT", "SHADOW", "MODIFIED"];
    let none = format!("no aliases yet: set one with `hanshu alias set {name}:live --to VERSION`");
    Ok(cx.screen.list(&aliases, &head, text::row, &none)?)
}
