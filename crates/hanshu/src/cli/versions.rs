//! `hanshu versions`: what was published of a function.
//!
//! [`diff`] writes what differs between two.

mod diff;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use model::api::VersionView;

use super::context::Context;
use super::delete;
use super::download::{self, Target};
use super::failure::CliError;
use super::screen;
use super::show;

const AFTER_HELP: &str = "\
A version is code, configuration and layers as they were when it was published; it never changes, and its number is never given again.

Examples:
  hanshu versions hello
  hanshu versions publish hello --reason 'release 1.4'
  hanshu versions diff hello 3 5
  hanshu versions diff hello 5                 against $LATEST
  hanshu versions download hello:3 --to old.zip
  hanshu versions delete hello:3";

/// List the published versions of a function; publish, show, compare, download and delete them.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct VersionsArgs {
    /// The function
    #[arg(required = true)]
    name: Option<String>,
    #[command(subcommand)]
    command: Option<Operation>,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// List the published versions of a function, as `hanshu versions NAME` does whatever the function is called
    List {
        /// The function
        name: String,
    },
    /// Publish $LATEST as a numbered version; unchanged, it gives the version that it is already
    Publish {
        /// The function
        name: String,
    },
    /// Show everything about a version
    Show {
        /// The version
        #[arg(value_name = "NAME:VERSION")]
        at: String,
        /// Show the values of environment variables as well, but for those of secrets, which nobody is told
        #[arg(long)]
        values: bool,
    },
    Diff(diff::DiffArgs),
    /// Download the package of a version
    Download {
        /// The version
        #[arg(value_name = "NAME:VERSION")]
        at: String,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a version that no alias leads to
    Delete {
        /// The version
        #[arg(value_name = "NAME:VERSION")]
        at: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

impl VersionsArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        match self.command {
            None => list(cx, &self.name.unwrap_or_default())?,
            Some(Operation::List { name }) => list(cx, &name)?,
            Some(Operation::Publish { name }) => publish(cx, &name)?,
            Some(Operation::Show { at, values }) => {
                let (key, number) = cx.version(&at)?;
                let view = cx.client()?.version(&key, number)?;
                cx.screen.show(&view, |view| show::text(view, values))?;
            }
            Some(Operation::Diff(args)) => args.run(cx)?,
            Some(Operation::Download { at, target }) => {
                let (key, number) = cx.version(&at)?;
                let client = cx.client()?;
                let default = format!("{}-{number}.zip", key.name);
                download::download(cx, &target, &default, |file| {
                    client.download_code(&key, model::ids::VersionRef::Number(number), file)
                })?;
            }
            Some(Operation::Delete { at, yes }) => {
                let (key, number) = cx.version(&at)?;
                let what = format!("version {number} of {key}");
                let name = format!("{}:{number}", key.name);
                return delete::delete(cx, yes, &what, &name, || {
                    cx.client()?.delete_version(&key, number)
                });
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(cx: &Context, name: &str) -> anyhow::Result<()> {
    let versions = cx.client()?.versions(&cx.function(name)?)?;
    let row = |v: &VersionView| {
        let aliases = if v.aliases.is_empty() { "-".to_owned() } else { v.aliases.join(", ") };
        vec![v.version.to_string(), v.published_at.clone(), screen::bytes(v.size_bytes), aliases]
    };
    let none = format!("nothing published yet: publish with `hanshu versions publish {name}`");
    Ok(cx.screen.list(&versions, &["VERSION", "PUBLISHED", "SIZE", "ALIASES"], row, &none)?)
}

fn publish(cx: &Context, name: &str) -> Result<(), CliError> {
    let (view, new) = cx.client()?.publish(&cx.function(name)?)?;
    cx.screen
        .show(&view, |view| {
            let version = format!("{}:{}", view.name, view.version);
            if new {
                format!("published {version}")
            } else {
                format!("{version} is what $LATEST is already: nothing published")
            }
        })
        .map_err(|e| CliError::new(e.to_string()))
}
