//! `hanshu namespaces`: groups of functions.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use model::api::CreateNamespace;
use model::ids::NamespaceName;
use serde_json::json;

use super::context::Context;
use super::delete::confirmed;
use super::failure::CliError;
use super::screen::Format;

/// List, create and delete namespaces.
#[derive(Debug, Args)]
pub(crate) struct NamespacesArgs {
    #[command(subcommand)]
    command: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// List the namespaces
    List,
    /// Create a namespace
    Create {
        /// A letter, then letters, digits, '-' or '_', at most 60 characters
        name: String,
        /// What it is for
        #[arg(long, default_value = "")]
        description: String,
        /// Most live instances of its functions together [default: the daemon's]
        #[arg(long, value_name = "N")]
        max_instances: Option<u32>,
    },
    /// Delete a namespace that holds no functions
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

impl NamespacesArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        match self.command {
            Operation::List => list(cx)?,
            Operation::Create { name, description, max_instances } => {
                let name = name.parse::<NamespaceName>().map_err(CliError::from)?.to_string();
                let new = CreateNamespace { name, description, max_instances };
                let made = cx.client()?.create_namespace(&new)?;
                match cx.screen.format() {
                    Format::Json => cx.screen.json(&made)?,
                    Format::Text => cx.screen.note(&format!("created namespace {}", made.name)),
                }
            }
            Operation::Delete { name, yes } => {
                let name = name.parse::<NamespaceName>().map_err(CliError::from)?;
                if !yes && !confirmed(cx, &format!("namespace {name}"))? {
                    cx.screen.note("nothing deleted");
                    return Ok(ExitCode::SUCCESS);
                }
                cx.client()?.delete_namespace(&name)?;
                match cx.screen.format() {
                    Format::Json => cx.screen.json(&json!({ "deleted": name }))?,
                    Format::Text => cx.screen.note(&format!("deleted namespace {name}")),
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(cx: &Context) -> anyhow::Result<()> {
    let namespaces = cx.client()?.namespaces()?;
    if cx.screen.format() == Format::Json {
        return Ok(cx.screen.json(&namespaces)?);
    }
    let row = |n: model::api::NamespaceView| vec![n.name, n.created_at, n.description];
    let rows: Vec<_> = namespaces.into_iter().map(row).collect();
    Ok(cx.screen.table(&["NAMESPACE", "CREATED", "DESCRIPTION"], &rows)?)
}
