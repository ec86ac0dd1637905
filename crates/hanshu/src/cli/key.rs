//! `hanshu key`: who may talk to the daemon.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use model::api::{CreateKey, KeyView, NewKeyView};
use model::ids::NamespaceName;

use super::context::Context;
use super::delete;
use super::failure::CliError;

const AFTER_HELP: &str = "\
The name of a key stands beside every change that is made with it. A key for one namespace sees nothing of the others.

Examples:
  hanshu key create ci
  hanshu key create team-web --for-namespace web
  export $(hanshu key create deploy --for-namespace web --aws)
  hanshu key delete ci";

/// Make, list and delete the keys that the daemon asks for.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    command: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Make a key and print it, this once
    Create {
        /// What it is called in the history: letters, digits, '-', '_', at most 64
        name: String,
        /// The one namespace that it opens [default: all, and the daemon itself]
        #[arg(long, value_name = "NAMESPACE")]
        for_namespace: Option<String>,
        /// Print its access key instead, as AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…
        #[arg(long, requires = "for_namespace")]
        aws: bool,
    },
    /// List the keys, without the keys themselves
    List,
    /// Delete a key: it opens nothing any more
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

impl KeyArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        match self.command {
            Operation::Create { name, for_namespace, aws } => {
                if let Some(namespace) = &for_namespace {
                    NamespaceName::new(namespace).map_err(CliError::from)?;
                }
                let new = CreateKey { name, namespace: for_namespace };
                let made = cx.client()?.create_key(&new)?;
                cx.screen
                    .show(&made, |made| if aws { access_key(made) } else { made.key.clone() })?;
                cx.screen.note(
                    &cx.screen
                        .dim("keep it now: it is not shown again; pass it by --key or HANSHU_KEY"),
                );
            }
            Operation::List => {
                let head = ["KEY", "NAMESPACE", "CREATED", "CREATED BY"];
                cx.screen.list(&cx.client()?.keys()?, &head, row, "no keys")?;
            }
            Operation::Delete { name, yes } => {
                let what = format!("key {name}");
                return delete::delete(cx, yes, &what, &name, || cx.client()?.delete_key(&name));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What clients of the AWS Lambda API find in their environment.
fn access_key(made: &NewKeyView) -> String {
    format!(
        "AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}",
        made.record.access_key_id.as_deref().unwrap_or_default(),
        made.secret_access_key.as_deref().unwrap_or_default()
    )
}

fn row(key: &KeyView) -> Vec<String> {
    let or = |text: &Option<String>, none: &str| text.clone().unwrap_or_else(|| none.to_owned());
    vec![
        key.name.clone(),
        or(&key.namespace, "all"),
        or(&key.created_at, "-"),
        or(&key.created_by, "-"),
    ]
}
