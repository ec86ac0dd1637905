//! `hanshu namespaces`: groups of functions and layers, with what they may use and be ([`limits`]).

mod limits;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use model::api::{CreateNamespace, NamespaceView, PatchNamespace};
use model::ids::NamespaceName;
use serde_json::json;

use self::limits::{PolicyArgs, QuotaArgs};
use super::context::Context;
use super::delete;
use super::failure::CliError;

const CHANGE_HELP: &str = "\
Quotas are of all functions of the namespace together; `none` takes one away. The policy is checked when a function is deployed or
configured: what runs already goes on.

Examples:
  hanshu namespaces create team --functions 50 --memory-mb 4096 --calls-per-second 200
  hanshu namespaces set team --code-bytes 10GiB --instances none
  hanshu namespaces set team --allow-runtime nodejs20 --allow-network none --timeout-max 30s --require-key
  hanshu namespaces set team --policy-none";

const DELETE_HELP: &str = "\
Examples:
  hanshu namespaces delete team
  hanshu namespaces delete team --everything";

/// Groups of functions and layers: list, create, show, limit and delete them.
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
    #[command(after_help = CHANGE_HELP)]
    Create {
        /// A letter, then letters, digits, '-' or '_', at most 60 characters
        name: String,
        /// What it is for
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        #[command(flatten)]
        quotas: QuotaArgs,
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Show a namespace: its quotas with what is used of them, and its policy
    Show {
        /// Its name
        name: String,
    },
    /// Change description, quotas or policy of a namespace; what is not mentioned stays
    #[command(after_help = CHANGE_HELP)]
    Set {
        /// Its name
        name: String,
        /// What it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        #[command(flatten)]
        quotas: QuotaArgs,
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Delete a namespace that holds nothing, or one with everything in it
    #[command(after_help = DELETE_HELP)]
    Delete {
        /// Its name
        name: String,
        /// Delete its functions and layers as well
        #[arg(long)]
        everything: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

impl NamespacesArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        match self.command {
            Operation::List => list(cx)?,
            Operation::Create { name, description, quotas, policy } => {
                let mut new = CreateNamespace {
                    name: named(&name)?.to_string(),
                    description,
                    ..CreateNamespace::default()
                };
                quotas.apply(&mut new.quotas);
                policy.apply(&mut new.policy);
                let made = cx.client()?.create_namespace(&new)?;
                cx.screen.done(&made, &format!("created namespace {}", made.name))?;
            }
            Operation::Show { name } => {
                let view = cx.client()?.namespace(&named(&name)?)?;
                cx.screen.show(&view, limits::text)?;
            }
            Operation::Set { name, description, quotas, policy } => {
                set(cx, &named(&name)?, description, &quotas, &policy)?;
            }
            Operation::Delete { name, everything, yes } => {
                return delete_one(cx, &named(&name)?, everything, yes);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn named(name: &str) -> Result<NamespaceName, CliError> {
    Ok(name.parse::<NamespaceName>()?)
}

fn list(cx: &Context) -> anyhow::Result<()> {
    let row = |n: &NamespaceView| {
        let functions = n.used.functions.to_string();
        vec![n.name.clone(), functions, n.created_at.clone(), n.description.clone()]
    };
    let head = ["NAMESPACE", "FUNCTIONS", "CREATED", "DESCRIPTION"];
    Ok(cx.screen.list(&cx.client()?.namespaces()?, &head, row, "no namespaces")?)
}

/// Reads it, changes it, and writes it if nobody else did meanwhile.
fn set(
    cx: &Context,
    name: &NamespaceName,
    description: Option<String>,
    quotas: &QuotaArgs,
    policy: &PolicyArgs,
) -> anyhow::Result<()> {
    let client = cx.client()?;
    let mut view = client.namespace(name)?;
    let patch = PatchNamespace {
        description,
        quotas: quotas.apply(&mut view.quotas).then_some(view.quotas),
        policy: policy.apply(&mut view.policy).then_some(view.policy),
    };
    if patch.description.is_none() && patch.quotas.is_none() && patch.policy.is_none() {
        return Err(CliError::new("nothing to change: expected for instance --functions 50")
            .hint("see `hanshu namespaces set --help`")
            .into());
    }
    let changed = client.patch_namespace(name, &patch, view.revision)?;
    Ok(cx.screen.show(&changed, limits::text)?)
}

fn delete_one(
    cx: &Context,
    name: &NamespaceName,
    everything: bool,
    yes: bool,
) -> anyhow::Result<ExitCode> {
    if !everything {
        let what = format!("namespace {name}");
        return delete::delete(cx, yes, &what, name.as_str(), || {
            cx.client()?.delete_namespace(name, false)
        });
    }
    let client = cx.client()?;
    if !yes {
        let used = client.namespace(name)?.used;
        let functions = super::screen::count(used.functions, "function");
        let what = format!("namespace {name} with {functions} and everything else in it");
        let typed = delete::asked(cx, &what, &format!("delete {what}? type its name"))?;
        if typed != name.as_str() {
            cx.screen.note("nothing deleted");
            return Ok(ExitCode::SUCCESS);
        }
    }
    client.delete_namespace(name, true)?;
    cx.screen.done(
        &json!({ "deleted": name, "everything": true }),
        &format!("deleted namespace {name} with everything in it"),
    )?;
    Ok(ExitCode::SUCCESS)
}
