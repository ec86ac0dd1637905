//! `hanshu show`: everything about one function.

use std::process::ExitCode;

use clap::Args;
use model::api::{AliasView, AttachedLayerView, ConfigView, FunctionView, VariableView};
use model::network::NetworkPolicy;

use serde::Serialize;

use super::alias;
use super::context::Context;
use super::screen;

/// Show everything about a function, its layers and aliases included.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The function, or NAME:QUALIFIER for a version of it
    name: String,
    /// Show the values of environment variables as well, but for those of secrets, which nobody is told
    #[arg(long)]
    values: bool,
}

impl ShowArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let target = cx.target(&self.name, None)?;
        let qualifier = target.qualifier.to_string();
        let key = target.key;
        let client = cx.client()?;
        let view = client.function(&key, Some(&qualifier))?;
        let shown = Shown { view, aliases: client.aliases(&key)? };
        cx.screen.show(&shown, |shown| {
            let aliases = shown.aliases.iter().map(alias_line);
            let lines: Vec<String> =
                std::iter::once(text(&shown.view, self.values)).chain(aliases).collect();
            lines.join("\n")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A function with its aliases.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    view: FunctionView,
    aliases: Vec<AliasView>,
}

fn alias_line(view: &AliasView) -> String {
    format!("{:<12} {} → {}", "alias", view.name, alias::route(view))
}

/// As the configuration names it, and what that was when it was deployed.
fn layers(view: &FunctionView) -> impl Iterator<Item = String> {
    let named = view.config.layers.iter();
    named.zip(&view.layers).map(|(named, AttachedLayerView { version, unpacked_bytes, .. })| {
        let unpacked = screen::bytes(*unpacked_bytes);
        let followed = named.to_string();
        let at = if followed.ends_with(&format!(":{version}")) {
            String::new()
        } else {
            format!("version {version}, ")
        };
        format!("{:<12} {followed} ({at}{unpacked} unpacked)", "layer")
    })
}

/// As it was given, and what that is here.
fn memory(config: &ConfigView) -> String {
    match config.memory_share {
        Some(share) => format!("{share} of the host's for functions: {} MiB", config.memory_mb),
        None => format!("{} MiB", config.memory_mb),
    }
}

fn cpu(config: &ConfigView) -> String {
    let origin = if config.cpu_weight.is_some() { "" } else { " by memory" };
    let weight = format!("weight {}{origin}", config.effective_cpu_weight());
    match config.cpu_cores {
        Some(cores) => format!("{weight}, at most {cores} processors"),
        None => weight,
    }
}

/// Everything about a version of a function.
pub(super) fn text(view: &FunctionView, with_values: bool) -> String {
    let FunctionView { config, settings, code, .. } = view;
    let runtime = format!(
        "{} (runs on {} {})",
        config.runtime, view.resolved_runtime.name, view.resolved_runtime.version
    );
    let auth = serde_json::to_value(settings.url_auth).unwrap_or_default();
    let fields = [
        ("function", format!("{}/{}", view.namespace, view.name)),
        ("version", view.version.clone()),
        ("description", config.description.clone()),
        ("url", view.url.clone()),
        ("url access", auth.as_str().unwrap_or_default().to_owned()),
        ("arn", view.arn.clone()),
        ("runtime", runtime),
        ("handler", config.handler.clone()),
        ("timeout", screen::milliseconds(u64::from(config.timeout_ms) * 1000)),
        ("memory", memory(config)),
        ("cpu", cpu(config)),
        ("processes", config.processes.to_string()),
        ("open files", config.open_files.to_string()),
        ("/tmp", format!("{} MiB", config.tmp_mb)),
        ("output", format!("{}/s", screen::bytes(config.output_bytes_per_second.into()))),
        ("network", network(&config.network)),
        (
            "instances",
            match (settings.reserved_instances, settings.max_instances) {
                (Some(0), _) => "none: it is switched off".into(),
                (Some(n), _) => format!("{n} of its own"),
                (None, Some(n)) => format!("at most {n}"),
                (None, None) => "the daemon's default".into(),
            },
        ),
        (
            "code",
            format!(
                "{} ({} unpacked)",
                screen::bytes(code.size_bytes),
                screen::bytes(code.unpacked_bytes)
            ),
        ),
        ("sha-256", code.digest.clone()),
        ("created", view.created_at.clone()),
        ("modified", view.modified_at.clone()),
    ];
    let mut lines = vec![screen::fields(&fields)];
    lines.extend(layers(view));
    for (key, value) in &config.environment {
        // A screen is easily shown to others: values only when asked for. The daemon does not tell those of secrets.
        lines.push(match value {
            VariableView::Plain(value) if with_values => {
                format!("{:<12} {key}={value}", "environment")
            }
            VariableView::Plain(_) => format!("{:<12} {key}=…", "environment"),
            VariableView::Secret(_) | VariableView::Kept => format!("{:<12} {key}", "secret"),
        });
    }
    lines.extend(settings.tags.iter().map(|(k, v)| format!("{:<12} {k}={v}", "tag")));
    lines.join("\n")
}

/// A policy in a line.
fn network(policy: &NetworkPolicy) -> String {
    let mut parts = vec![policy.mode.as_str().to_owned()];
    parts.extend(policy.allow.iter().map(|reach| format!("+ {reach}")));
    let limit = policy.bandwidth.map(|b| screen::bytes(b.bytes_per_second()));
    parts.extend(limit.map(|bytes| format!("at most {bytes} a second")));
    parts.join(", ")
}
