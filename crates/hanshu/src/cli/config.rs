//! `hanshu config`: a function's configuration, field by field.

use std::process::ExitCode;
use std::str::FromStr;

use clap::{Args, Subcommand};
use model::api::{FunctionView, PatchConfig, VariableView};
use model::function::{Publish, UrlAuth};
use model::layer::LayerRef;
use model::limits;
use model::network::NetworkPolicy;
use serde_json::json;

mod async_calls;
mod idempotency;

use super::context::Context;
use super::failure::CliError;
use super::screen::Format;
use super::{secrets, values};

const SET_HELP: &str = "\
Keys: description, runtime, handler, timeout (500ms, 20s, 5m) or timeout_ms, memory_mb or memory_share (25%), cpu_weight, cpu_cores,
processes, open_files, tmp_mb, output_bytes_per_second, instance_concurrency, readiness_path, instance_calls, files (true or false), max_instances, reserved_instances, max_queued_calls, max_queued_bytes (1GiB), url_auth (key or none), network (none, egress or
private), layers (NAME:VERSION or NAME:ALIAS, separated by commas; empty for none), publish (on-request or always), env.NAME, secret.NAME and
tag.NAME. What is not mentioned stays. All changes are made in one step.

Asynchronous calls: async.attempts, async.max_age, async.keep_result and async.keep_dead (90s, 6h, 7d); async.retry.first, async.retry.factor,
async.retry.ceiling and async.retry.jitter (20%), or async.retry.pauses (10s,1m,10m). async.on_success and async.on_failure say who
is told of a call's end: .function, or .webhook and .secret, the name of a secret variable. What is set of async.retry, async.on_success or async.on_failure replaces all of it.

Calls that are one call: idempotency.key (event.FIELD, header.NAME, query.NAME or cookie.NAME), idempotency.window (24h), idempotency.required and
idempotency.any_event (true or false). What is set of idempotency replaces all of it.

network replaces the whole network policy: network.allow (CIDR[:PORT[-PORT]][/tcp|/udp], separated by commas) and
network.bandwidth (bytes per second, for instance 10MB) go with it.

A secret is an environment variable that is stored encrypted and never shown again. Its value is read from @FILE or, as -, from standard
input, so that it stays out of the shell's history and the list of processes; a line break at its end does not count.

Examples:
  hanshu config set hello timeout=20s memory_mb=256
  hanshu config set hello env.LEVEL=debug tag.team=web --unset env.OLD
  hanshu config set hello memory_share=25% cpu_cores=0.5
  hanshu config set hello secret.TOKEN=@token.txt
  pass show api | hanshu config set hello secret.TOKEN=-
  hanshu config set hello network=private network.allow=10.1.2.0/24:5432,10.1.2.9 network.bandwidth=10MB
  hanshu config set hello layers=numpy:3,tools:stable publish=always
  hanshu config set hello layers=               without layers
  hanshu config set hello async.attempts=5 async.retry.pauses=10s,1m,10m
  hanshu config set hello reserved_instances=5  instances of its own: always to be had, and never more
  hanshu config set hello reserved_instances=0  switched off; --unset reserved_instances switches it on again";

/// Show and change a function's configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    /// Change some fields of a function's configuration
    #[command(after_help = SET_HELP)]
    Set {
        /// The function
        name: String,
        /// What to set
        #[arg(value_name = "KEY=VALUE")]
        fields: Vec<String>,
        /// Remove env.NAME, secret.NAME, tag.NAME, memory_share, cpu_weight, cpu_cores, reserved_instances, max_queued_calls, max_queued_bytes, async.FIELD or idempotency; may be repeated
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
    },
    /// Show a function's configuration in the form that `config set` takes, values of variables included, but for secrets
    Show {
        /// The function
        name: String,
    },
}

impl ConfigArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let view = match self.command {
            Operation::Set { name, fields, unset } => {
                let key = cx.function(&name)?;
                let patch = patch(&fields, &unset)?;
                cx.client()?.patch_config(&key, &patch)?
            }
            Operation::Show { name } => {
                let key = cx.function(&name)?;
                cx.client()?.function(&key, None)?
            }
        };
        if cx.screen.format() == Format::Json {
            cx.screen.json(&json!({ "config": view.config, "settings": view.settings }))?;
        } else {
            for line in lines(&view) {
                cx.screen.line(&line)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn patch(fields: &[String], unset: &[String]) -> Result<PatchConfig, CliError> {
    if fields.is_empty() && unset.is_empty() {
        return Err(CliError::new("nothing to change: expected KEY=VALUE or --unset KEY")
            .hint("see `hanshu config set --help` for the keys"));
    }
    let mut patch = PatchConfig::default();
    for field in fields {
        // The field is not repeated: it may be half of a secret.
        let (key, value) =
            field.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
                CliError::new("what to set is not valid: expected KEY=VALUE")
                    .hint("see `hanshu config set --help` for the keys")
            })?;
        set(&mut patch, key, value)?;
    }
    patch.network = network(fields)?;
    for key in unset {
        match key.as_str() {
            "memory_share" => patch.memory_share = Some(None),
            "cpu_weight" => patch.cpu_weight = Some(None),
            "cpu_cores" => patch.cpu_cores = Some(None),
            "reserved_instances" => patch.reserved_instances = Some(None),
            "max_queued_calls" => patch.max_queued_calls = Some(None),
            "max_queued_bytes" => patch.max_queued_bytes = Some(None),
            "idempotency" => patch.idempotency = Some(None),
            _ if key.starts_with("async.") => async_calls::unset(&mut patch, key)?,
            _ => entry(&mut patch, key, None).ok_or_else(|| {
                CliError::new(format!(
                    "'{key}' cannot be removed: expected env.NAME, secret.NAME, tag.NAME, memory_share, cpu_weight, cpu_cores, reserved_instances, max_queued_calls, max_queued_bytes, async.FIELD or idempotency"
                ))
            })?,
        }
    }
    if patch.memory_mb.is_some() && patch.memory_share.is_some() {
        return Err(CliError::new(
            "memory_mb and memory_share are both given: expected one of them",
        ));
    }
    Ok(patch)
}

fn set(patch: &mut PatchConfig, key: &str, value: &str) -> Result<(), CliError> {
    let number = || {
        value.parse().map_err(|_| {
            CliError::new(format!("{key} '{value}' is not valid: expected a whole number"))
        })
    };
    match key {
        "description" => patch.description = Some(value.to_owned()),
        "runtime" => patch.runtime = Some(value.to_owned()),
        "handler" => patch.handler = Some(value.to_owned()),
        "timeout_ms" => patch.timeout_ms = Some(number()?),
        "timeout" => {
            patch.timeout_ms = Some(values::milliseconds(value).map_err(CliError::new)?);
        }
        "memory_mb" => patch.memory_mb = Some(number()?),
        "memory_share" => patch.memory_share = Some(Some(parsed(key, value)?)),
        "cpu_weight" => patch.cpu_weight = Some(Some(number()?)),
        "cpu_cores" => patch.cpu_cores = Some(Some(parsed(key, value)?)),
        "processes" => patch.processes = Some(number()?),
        "open_files" => patch.open_files = Some(number()?),
        "tmp_mb" => patch.tmp_mb = Some(number()?),
        "output_bytes_per_second" => patch.output_bytes_per_second = Some(number()?),
        "instance_concurrency" => patch.instance_concurrency = Some(Some(number()?)),
        "instance_calls" => patch.instance_calls = Some(Some(number()?)),
        "files" => patch.files = Some(Some(truth(key, value)?)),
        "readiness_path" => patch.readiness_path = Some(Some(value.to_owned())),
        // Read together: network().
        "network" | "network.allow" | "network.bandwidth" => {}
        "max_instances" => patch.max_instances = Some(number()?),
        "reserved_instances" => patch.reserved_instances = Some(Some(number()?)),
        "max_queued_calls" => patch.max_queued_calls = Some(Some(large(key, value)?)),
        "max_queued_bytes" => patch.max_queued_bytes = Some(Some(size(key, value)?)),
        "url_auth" => {
            patch.url_auth = Some(match value {
                "key" => UrlAuth::Key,
                "none" => UrlAuth::None,
                _ => {
                    return Err(CliError::new(format!(
                        "url_auth '{value}' is not valid: expected key or none"
                    )));
                }
            });
        }
        "publish" => {
            patch.publish = Some(match value {
                "always" => Publish::Always,
                "on-request" => Publish::OnRequest,
                _ => {
                    return Err(CliError::new(format!(
                        "publish '{value}' is not valid: expected on-request or always"
                    )));
                }
            });
        }
        "layers" => patch.layers = Some(layers(value)?),
        _ if key.starts_with("async.") => async_calls::set(patch, key, value)?,
        _ if key.starts_with("idempotency.") => idempotency::set(patch, key, value)?,
        _ if key.starts_with("secret.") => {
            let name = key.trim_start_matches("secret.");
            let text = secrets::read(name, value)?;
            let environment = patch.environment.get_or_insert_default();
            environment.insert(name.to_owned(), Some(VariableView::Secret(text)));
        }
        _ => entry(patch, key, Some(value.to_owned())).ok_or_else(|| {
            CliError::new(format!("'{key}' is not a field of a function's configuration"))
                .hint("see `hanshu config set --help` for the keys")
        })?,
    }
    Ok(())
}

/// Layers separated by commas; none of an empty text.
fn layers(value: &str) -> Result<Vec<LayerRef>, CliError> {
    let layers = value.split(',').map(str::trim).filter(|layer| !layer.is_empty());
    layers.map(str::parse).collect::<Result<_, _>>().map_err(CliError::new)
}

/// A value that words its own errors.
fn parsed<T: FromStr<Err = String>>(key: &str, value: &str) -> Result<T, CliError> {
    value.parse().map_err(|e| CliError::new(format!("{key} {e}")))
}

fn large(key: &str, value: &str) -> Result<u64, CliError> {
    let read = values::within(value, 0, limits::QUEUED_CALLS_MAX);
    read.map_err(|e| CliError::new(format!("{key} '{value}' is not valid: {e}")))
}

/// A number, which may have a unit of bytes.
fn size(key: &str, value: &str) -> Result<u64, CliError> {
    values::size(value).map_err(|e| CliError::new(format!("{key} {e}")))
}

fn truth(key: &str, value: &str) -> Result<bool, CliError> {
    let expected =
        || CliError::new(format!("{key} '{value}' is not valid: expected true or false"));
    value.parse().map_err(|_| expected())
}

/// The network policy that the fields make together, if they speak of it.
fn network(fields: &[String]) -> Result<Option<NetworkPolicy>, CliError> {
    let pairs = || fields.iter().rev().filter_map(|field| field.split_once('='));
    let field = |key: &str| pairs().find(|(k, _)| *k == key).map(|(_, value)| value);
    let (allow, bandwidth) = (field("network.allow"), field("network.bandwidth"));
    let Some(mode) = field("network") else {
        return match allow.or(bandwidth) {
            None => Ok(None),
            Some(_) => Err(CliError::new(
                "network.allow and network.bandwidth go with a mode: expected network=egress or network=private beside them",
            )),
        };
    };
    let mode = mode.parse().map_err(|e| CliError::new(format!("network {e}")))?;
    let entries = allow.into_iter().flat_map(|list| list.split(','));
    let policy = NetworkPolicy {
        mode,
        allow: entries
            .map(|entry| entry.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(CliError::new)?,
        bandwidth: bandwidth.map(|text| text.parse()).transpose().map_err(CliError::new)?,
    };
    policy.validate()?;
    Ok(Some(policy))
}

/// Sets or removes `env.NAME` or `tag.NAME`, or removes `secret.NAME`; `None` if the key is neither.
fn entry(patch: &mut PatchConfig, key: &str, value: Option<String>) -> Option<()> {
    let (kind, name) = key.split_once('.').filter(|(_, name)| !name.is_empty())?;
    match kind {
        "env" | "environment" | "secret" => {
            let value = value.map(VariableView::Plain);
            drop(patch.environment.get_or_insert_default().insert(name.to_owned(), value));
        }
        "tag" | "tags" => drop(patch.tags.get_or_insert_default().insert(name.to_owned(), value)),
        _ => return None,
    }
    Some(())
}

fn lines(view: &FunctionView) -> Vec<String> {
    let FunctionView { config, settings, .. } = view;
    let auth = match settings.url_auth {
        UrlAuth::Key => "key",
        UrlAuth::None => "none",
    };
    let mut lines = vec![
        format!("description={}", config.description),
        format!("runtime={}", config.runtime),
        format!("handler={}", config.handler),
        format!("timeout_ms={}", config.timeout_ms),
        match config.memory_share {
            Some(share) => format!("memory_share={share}"),
            None => format!("memory_mb={}", config.memory_mb),
        },
    ];
    lines.extend(config.cpu_weight.map(|weight| format!("cpu_weight={weight}")));
    lines.extend(config.cpu_cores.map(|cores| format!("cpu_cores={cores}")));
    lines.extend([
        format!("processes={}", config.processes),
        format!("open_files={}", config.open_files),
        format!("tmp_mb={}", config.tmp_mb),
        format!("output_bytes_per_second={}", config.output_bytes_per_second),
        format!("url_auth={auth}"),
    ]);
    let calls = config.instance_concurrency;
    lines.extend(calls.map(|calls| format!("instance_concurrency={calls}")));
    lines.extend(config.instance_calls.map(|calls| format!("instance_calls={calls}")));
    lines.extend(config.files.map(|files| format!("files={files}")));
    lines.extend(config.readiness_path.as_ref().map(|path| format!("readiness_path={path}")));
    lines.push(format!("network={}", config.network.mode.as_str()));
    let allow: Vec<String> = config.network.allow.iter().map(ToString::to_string).collect();
    lines.extend((!allow.is_empty()).then(|| format!("network.allow={}", allow.join(","))));
    let bandwidth = config.network.bandwidth.map(|b| b.bytes_per_second());
    lines.extend(bandwidth.map(|bytes| format!("network.bandwidth={bytes}")));
    let layers: Vec<String> = config.layers.iter().map(ToString::to_string).collect();
    lines.extend((!layers.is_empty()).then(|| format!("layers={}", layers.join(","))));
    if settings.publish == Publish::Always {
        lines.push("publish=always".to_owned());
    }
    lines.extend(settings.max_instances.map(|n| format!("max_instances={n}")));
    lines.extend(settings.reserved_instances.map(|n| format!("reserved_instances={n}")));
    lines.extend(settings.max_queued_calls.map(|n| format!("max_queued_calls={n}")));
    lines.extend(settings.max_queued_bytes.map(|n| format!("max_queued_bytes={n}")));
    lines.extend(async_calls::lines(&settings.async_calls));
    lines.extend(idempotency::lines(&settings.idempotency));
    lines.extend(config.environment.iter().map(|(k, v)| match v {
        VariableView::Plain(v) => format!("env.{k}={v}"),
        VariableView::Secret(_) | VariableView::Kept => format!("secret.{k} (not shown)"),
    }));
    lines.extend(settings.tags.iter().map(|(k, v)| format!("tag.{k}={v}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[&str]) -> Vec<String> {
        pairs.iter().map(|p| (*p).to_owned()).collect()
    }

    #[test]
    fn fields_become_one_patch() {
        let patch = patch(
            &fields(&[
                "timeout=20s",
                "memory_mb=256",
                "env.A=b=c",
                "tag.team=web",
                "url_auth=none",
                "network=private",
                "network.allow=10.1.2.0/24:5432, 10.1.2.9/udp",
                "network.bandwidth=10MB",
                "layers=a:1, b:stable",
                "publish=always",
            ]),
            &["env.OLD".to_owned(), "secret.GONE".to_owned()],
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(&patch).unwrap(),
            json!({
                "timeout_ms": 20_000, "memory_mb": 256, "url_auth": "none",
                "network": {
                    "mode": "private", "allow": ["10.1.2.0/24:5432", "10.1.2.9/32/udp"], "bandwidth": 10_000_000
                },
                "environment": { "A": "b=c", "OLD": null, "GONE": null }, "tags": { "team": "web" },
                "layers": ["a:1", "b:stable"], "publish": "always"
            })
        );
    }

    #[test]
    fn bad_fields_are_named() {
        for (field, part) in [
            ("memory=1", "memory"),
            ("memory_mb=lots", "memory_mb"),
            ("memory_share=25", "memory_share '25' is no share"),
            ("cpu_cores=many", "cpu_cores 'many'"),
            ("processes=-1", "processes '-1'"),
            ("reserved_instances=none", "reserved_instances 'none'"),
            ("max_queued_calls=1GiB", "max_queued_calls"),
            ("max_queued_bytes=some", "max_queued_bytes 'some' is no size"),
            ("timeout=20", "20"),
            ("url_auth=open", "url_auth"),
            ("env.=x", "env."),
            ("secret.=@x", "secret."),
            ("secret.A=hunter2", "secret.A"),
            ("hunter2", "KEY=VALUE"),
            ("layers=a", "layer 'a'"),
            ("publish=yes", "on-request or always"),
            ("network=open", "none, egress or private"),
            ("network=private", "network.allow"),
            ("network.allow=10.0.0.0/8", "network=egress"),
        ] {
            let e = patch(&fields(&[field]), &[]).unwrap_err();
            assert!(e.to_string().contains(part), "{e}");
            assert!(!e.to_string().contains("hunter2"), "{e}");
        }
        patch(&[], &[]).unwrap_err();
        patch(&[], &["handler".to_owned()]).unwrap_err();
        patch(&fields(&["memory_mb=64", "memory_share=25%"]), &[]).unwrap_err();
    }

    #[test]
    fn layers_are_taken_off() {
        let none = patch(&fields(&["layers="]), &[]).unwrap();
        assert_eq!(serde_json::to_value(none).unwrap(), json!({ "layers": [] }));
    }

    #[test]
    fn limits_are_set_and_taken_back() {
        let set = patch(
            &fields(&[
                "memory_share=25%",
                "cpu_cores=0.5",
                "cpu_weight=200",
                "reserved_instances=5",
                "max_queued_calls=1000",
                "max_queued_bytes=1GiB",
            ]),
            &[],
        );
        assert_eq!(
            serde_json::to_value(set.unwrap()).unwrap(),
            json!({ "memory_share": "25%", "cpu_cores": 0.5, "cpu_weight": 200, "reserved_instances": 5,
                "max_queued_calls": 1000, "max_queued_bytes": 1_073_741_824 })
        );
        let unset = ["cpu_cores", "memory_share", "reserved_instances", "max_queued_calls"];
        let unset = patch(&[], &unset.map(str::to_owned)).unwrap();
        assert_eq!(
            serde_json::to_value(unset).unwrap(),
            json!({ "cpu_cores": null, "memory_share": null, "reserved_instances": null,
                "max_queued_calls": null })
        );
    }
}
