//! `hanshu layer`: packages of dependencies that functions share.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, Subcommand};
use model::api::{LayerVersionView, LayerView, NotMoved};
use model::ids::Qualifier;
use model::layer::LayerKey;
use serde_json::json;

use super::context::Context;
use super::delete;
use super::download::{self, Target};
use super::failure::CliError;
use super::progress::Progress;
use super::screen;
use crate::client::Client;
use crate::package;

const AFTER_HELP: &str = "\
A layer is unpacked under /opt of the functions that name it, read-only: `hanshu deploy --layer NAME:VERSION`. Python finds modules in
python/, Node.js in nodejs/node_modules/, programs are found in bin/, libraries in lib/. A function that names NAME:ALIAS follows the alias.

Examples:
  pip install --target numpy/python numpy
  hanshu layer publish numpy numpy --runtime python3.11
  hanshu layer alias numpy:stable --to 2
  hanshu deploy sum --layer numpy:stable
  hanshu layer delete numpy:1";

/// Packages of dependencies that functions share.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct LayerArgs {
    #[command(subcommand)]
    command: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Publish a version of a layer; the same content as the newest gives that
    Publish(PublishArgs),
    /// List the layers of a namespace
    List,
    /// Show a layer: its newest version and its aliases
    Show {
        /// The layer
        name: String,
    },
    /// List the versions of a layer
    Versions {
        /// The layer
        name: String,
    },
    /// Download a version of a layer
    Download {
        /// The version
        #[arg(value_name = "NAME:VERSION")]
        at: String,
        #[command(flatten)]
        target: Target,
    },
    /// Delete a version of a layer, or the layer with all of them
    Delete {
        /// The layer, or one version of it
        #[arg(value_name = "NAME[:VERSION]")]
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    Alias(AliasArgs),
}

#[derive(Debug, Args)]
struct PublishArgs {
    /// The layer; it is made if it is missing
    name: String,
    /// A .zip, or a folder, which is packed as it stands, version control and caches left out
    path: PathBuf,
    /// What it is
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// A runtime it is meant for; may be repeated [default: any]
    #[arg(long, value_name = "RUNTIME")]
    runtime: Vec<String>,
}

/// Point an alias of a layer to a version, which rolls forward the functions that follow it; or delete the alias
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true))]
struct AliasArgs {
    /// The alias
    #[arg(value_name = "NAME:ALIAS")]
    alias: String,
    /// The version it shall lead to
    #[arg(long, value_name = "VERSION", group = "what")]
    to: Option<u64>,
    /// Delete it; refused while a function follows it
    #[arg(long, group = "what")]
    delete: bool,
}

impl LayerArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        match self.command {
            Operation::Publish(args) => args.run(cx)?,
            Operation::List => list(cx)?,
            Operation::Show { name } => {
                let view = cx.client()?.layer(&cx.layer(&name)?)?;
                cx.screen.show(&view, text)?;
            }
            Operation::Versions { name } => {
                let versions = cx.client()?.layer_versions(&cx.layer(&name)?)?;
                let head = ["VERSION", "PUBLISHED", "SIZE", "UNPACKED", "RUNTIMES", "DESCRIPTION"];
                let none =
                    format!("no versions: publish one with `hanshu layer publish {name} PATH`");
                cx.screen.list(&versions, &head, row, &none)?;
            }
            Operation::Download { at, target } => {
                let (key, number) = version_of(cx, &at)?;
                let client = cx.client()?;
                let default = format!("{}-{number}.zip", key.name);
                download::download(cx, &target, &default, |file| {
                    client.download_layer(&key, number, file)
                })?;
            }
            Operation::Delete { name, yes } => return delete(cx, &name, yes),
            Operation::Alias(args) => return args.run(cx),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl PublishArgs {
    fn run(&self, cx: &Context) -> anyhow::Result<()> {
        let key = cx.layer(&self.name)?;
        let client = cx.client()?;
        let progress = Progress::new(cx.screen);
        let zip = package::layer(&self.path)?;
        let bytes = u64::try_from(zip.len()).unwrap_or(u64::MAX);
        let step = progress.bytes(&format!("uploading {}", screen::bytes(bytes)), bytes);
        let mut source = step.read(zip.as_slice());
        let (view, new) =
            client.publish_layer(&key, &self.description, &self.runtime, &mut source, bytes)?;
        drop(source);
        drop(step);
        Ok(cx.screen.show(&view, |view| {
            let version = format!("{}:{}", view.layer, view.version);
            if new {
                let unpacked = screen::bytes(view.code.unpacked_bytes);
                format!(
                    "published {version} ({} packed, {unpacked} unpacked)",
                    screen::bytes(bytes)
                )
            } else {
                format!("{version} is the same already: nothing published")
            }
        })?)
    }
}

impl AliasArgs {
    fn run(&self, cx: &Context) -> anyhow::Result<ExitCode> {
        let (key, Qualifier::Alias(alias)) = cx.layer_at(&self.alias)? else {
            return Err(CliError::new(format!(
                "'{}' names no alias: expected NAME:ALIAS",
                self.alias
            ))
            .hint("an alias's name has letters, digits, '-' or '_', and not digits alone")
            .into());
        };
        let client = cx.client()?;
        let Some(version) = self.to else {
            client.delete_layer_alias(&key, &alias)?;
            let name = format!("{}:{alias}", key.name);
            cx.screen.done(&json!({ "deleted": name }), &format!("deleted {name}"))?;
            return Ok(ExitCode::SUCCESS);
        };
        let moved = client.put_layer_alias(&key, &alias, version)?;
        cx.screen.show(&moved, |moved| {
            let mut lines =
                vec![format!("{}:{} leads to version {}", key.name, moved.name, moved.version)];
            lines.extend(moved.functions.iter().map(|function| format!("moved {function}")));
            lines.join("\n")
        })?;
        for NotMoved { name, why } in &moved.not_moved {
            cx.screen.note(&format!("warning: {name} keeps the version that it has: {why}"));
        }
        Ok(if moved.not_moved.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn list(cx: &Context) -> anyhow::Result<()> {
    let layers = cx.client()?.layers(&cx.namespace()?)?;
    let row = |layer: &LayerView| {
        let latest = layer.latest.as_ref();
        let version = latest.map_or("-".to_owned(), |v| v.version.to_string());
        let published = latest.map_or("-".to_owned(), |v| v.published_at.clone());
        let size = latest.map_or("-".to_owned(), |v| screen::bytes(v.code.size_bytes));
        vec![layer.name.clone(), version, size, published, aliases(layer)]
    };
    let none = "no layers yet: publish one with `hanshu layer publish NAME PATH`";
    Ok(cx.screen.list(&layers, &["LAYER", "NEWEST", "SIZE", "PUBLISHED", "ALIASES"], row, none)?)
}

/// `stable → 2, next → 3`.
fn aliases(layer: &LayerView) -> String {
    let each = layer.aliases.iter().map(|alias| format!("{} → {}", alias.name, alias.version));
    let all: Vec<String> = each.collect();
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

fn row(version: &LayerVersionView) -> Vec<String> {
    vec![
        version.version.to_string(),
        version.published_at.clone(),
        screen::bytes(version.code.size_bytes),
        screen::bytes(version.code.unpacked_bytes),
        runtimes(version),
        version.description.clone(),
    ]
}

fn runtimes(version: &LayerVersionView) -> String {
    if version.runtimes.is_empty() { "any".to_owned() } else { version.runtimes.join(", ") }
}

fn text(layer: &LayerView) -> String {
    let mut fields = vec![("layer", format!("{}/{}", layer.namespace, layer.name))];
    match &layer.latest {
        None => fields.push(("newest", "none: all were deleted".to_owned())),
        Some(latest) => fields.extend([
            ("newest", latest.version.to_string()),
            ("description", latest.description.clone()),
            ("runtimes", runtimes(latest)),
            ("size", screen::bytes(latest.code.size_bytes)),
            ("unpacked", screen::bytes(latest.code.unpacked_bytes)),
            ("sha-256", latest.code.digest.clone()),
            ("published", latest.published_at.clone()),
        ]),
    }
    fields.extend([
        ("aliases", aliases(layer)),
        ("created", layer.created_at.clone()),
        ("revision", layer.revision.to_string()),
    ]);
    screen::fields(&fields)
}

fn version_of(cx: &Context, text: &str) -> Result<(LayerKey, u64), CliError> {
    match cx.layer_at(text)? {
        (key, Qualifier::Version(number)) => Ok((key, number)),
        (key, _) => Err(CliError::new(format!("'{text}' names no version: expected NAME:VERSION"))
            .hint(format!("see them with `hanshu layer versions {}`", key.name))),
    }
}

fn delete(cx: &Context, name: &str, yes: bool) -> anyhow::Result<ExitCode> {
    let client = || -> Result<Client, CliError> { cx.client() };
    if name.contains(':') {
        let (key, number) = version_of(cx, name)?;
        let what = format!("version {number} of layer {key}");
        return delete::delete(cx, yes, &what, name, || {
            client()?.delete_layer_version(&key, number)
        });
    }
    let key = cx.layer(name)?;
    let what = format!("layer {key} with its versions");
    delete::delete(cx, yes, &what, name, || client()?.delete_layer(&key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_without_versions_can_be_shown() {
        let mut layer: LayerView = serde_json::from_value(json!({
            "namespace": "default", "name": "l", "created_at": "c", "revision": 4,
            "aliases": [{"name": "stable", "version": 2}, {"name": "next", "version": 3}]
        }))
        .unwrap();
        assert!(text(&layer).contains("newest       none"));
        assert_eq!(aliases(&layer), "stable → 2, next → 3");
        layer.aliases.clear();
        assert_eq!(aliases(&layer), "-");
    }
}
