//! Quotas and policy of a namespace: how they are given and how they are written.

use clap::Args;
use model::api::NamespaceView;
use model::function::UrlAuth;
use model::namespace::{Policy, Quotas};
use model::network::NetworkMode;

use crate::cli::screen::{self, bytes, milliseconds};
use crate::cli::values;

/// A figure, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit<T>(Option<T>);

fn limit<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Limit<T>, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    read(text).map(|figure| Limit(Some(figure))).map_err(|e| format!("{e}, or none"))
}

fn number(text: &str) -> Result<Limit<u32>, String> {
    limit(text, |text| values::within(text, 0, u32::MAX.into()))
}

fn large_number(text: &str) -> Result<Limit<u64>, String> {
    limit(text, |text| values::within(text, 0, u64::MAX))
}

fn size(text: &str) -> Result<Limit<u64>, String> {
    limit(text, values::size)
}

fn span(text: &str) -> Result<Limit<u32>, String> {
    limit(text, values::milliseconds)
}

/// Quotas as options.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Quotas")]
pub(super) struct QuotaArgs {
    /// Most functions, or none
    #[arg(long, value_name = "N", value_parser = number)]
    functions: Option<Limit<u32>>,
    /// Most live instances of its functions together, or none for the daemon's default
    #[arg(long, alias = "max-instances", value_name = "N", value_parser = number)]
    instances: Option<Limit<u32>>,
    /// Most memory of the live instances together, in MiB, or none
    #[arg(long, value_name = "MIB", value_parser = large_number)]
    memory_mb: Option<Limit<u64>>,
    /// Most bytes of packages of functions, of their versions and of layers, for instance 10GiB, or none
    #[arg(long, value_name = "SIZE", value_parser = size)]
    code_bytes: Option<Limit<u64>>,
    /// Most calls that are accepted per second, or none
    #[arg(long, value_name = "N", value_parser = number)]
    calls_per_second: Option<Limit<u32>>,
    /// Most asynchronous calls that wait or run, or none for the daemon's default
    #[arg(long, value_name = "N", value_parser = large_number)]
    queued_calls: Option<Limit<u64>>,
    /// Most that those take in the queue, for instance 10GiB, or none for the daemon's default
    #[arg(long, value_name = "SIZE", value_parser = size)]
    queued_bytes: Option<Limit<u64>>,
}

impl QuotaArgs {
    /// Changes what is mentioned; whether anything is.
    pub(super) fn apply(&self, quotas: &mut Quotas) -> bool {
        let changes = [
            put(&mut quotas.functions, self.functions),
            put(&mut quotas.instances, self.instances),
            put(&mut quotas.memory_mb, self.memory_mb),
            put(&mut quotas.code_bytes, self.code_bytes),
            put(&mut quotas.calls_per_second, self.calls_per_second),
            put(&mut quotas.queued_calls, self.queued_calls),
            put(&mut quotas.queued_bytes, self.queued_bytes),
        ];
        changes.contains(&true)
    }
}

/// A policy as options.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Policy")]
pub(super) struct PolicyArgs {
    /// Allow this runtime only; repeat it for several; replaces the list
    #[arg(long, value_name = "RUNTIME")]
    allow_runtime: Vec<String>,
    /// Allow this network only, none, egress or private; repeat it for several; replaces the list
    #[arg(long, value_name = "MODE")]
    allow_network: Vec<NetworkMode>,
    /// Longest timeout of a function, for instance 30s, or none
    #[arg(long, value_name = "TIME", value_parser = span)]
    timeout_max: Option<Limit<u32>>,
    /// Most memory of one instance, in MiB, or none
    #[arg(long, value_name = "MIB", value_parser = number)]
    memory_max: Option<Limit<u32>>,
    /// Forbid function URLs that everybody may call
    #[arg(long)]
    require_key: bool,
    /// Remove the whole policy first
    #[arg(long)]
    policy_none: bool,
}

impl PolicyArgs {
    /// Changes what is mentioned; whether anything is.
    pub(super) fn apply(&self, policy: &mut Policy) -> bool {
        if self.policy_none {
            *policy = Policy::default();
        }
        fn list<T: Clone>(given: &[T]) -> Option<Limit<Vec<T>>> {
            (!given.is_empty()).then(|| Limit(Some(given.to_vec())))
        }
        let changes = [
            self.policy_none,
            put(&mut policy.runtimes, list(&self.allow_runtime)),
            put(&mut policy.networks, list(&self.allow_network)),
            put(&mut policy.timeout_max_ms, self.timeout_max),
            put(&mut policy.memory_max_mb, self.memory_max),
            put(&mut policy.url_auth, self.require_key.then_some(Limit(Some(UrlAuth::Key)))),
        ];
        changes.contains(&true)
    }
}

fn put<T>(field: &mut Option<T>, given: Option<Limit<T>>) -> bool {
    match given {
        None => false,
        Some(Limit(figure)) => {
            *field = figure;
            true
        }
    }
}

/// Everything about a namespace.
pub(super) fn text(view: &NamespaceView) -> String {
    let NamespaceView { quotas, policy, used, .. } = view;
    let of = |used: String, most: Option<String>| match most {
        Some(most) => format!("{used} of {most}"),
        None => format!("{used}, no limit"),
    };
    let mib = |n: u64| format!("{n} MiB");
    let or_default = |n: Option<String>| n.unwrap_or_else(|| "the daemon's default".to_owned());
    let names = |list: &[String]| list.join(", ");
    let networks = policy.networks.as_ref().map(|modes| {
        let modes: Vec<String> = modes.iter().map(|mode| mode.as_str().to_owned()).collect();
        names(&modes)
    });
    let none = String::new;
    screen::fields(&[
        ("namespace", view.name.clone()),
        ("description", view.description.clone()),
        ("functions", of(used.functions.to_string(), quotas.functions.map(|n| n.to_string()))),
        (
            "instances",
            of(
                used.instances.to_string(),
                Some(or_default(quotas.instances.map(|n| n.to_string()))),
            ),
        ),
        ("memory", of(mib(used.memory_mb), quotas.memory_mb.map(mib))),
        ("code", of(bytes(used.code_bytes), quotas.code_bytes.map(bytes))),
        (
            "calls",
            quotas
                .calls_per_second
                .map_or("no limit".to_owned(), |n| format!("at most {n} a second")),
        ),
        (
            "queued",
            of(
                used.queued_calls.to_string(),
                Some(or_default(quotas.queued_calls.map(|n| n.to_string()))),
            ),
        ),
        (
            "queued bytes",
            of(bytes(used.queued_bytes), Some(or_default(quotas.queued_bytes.map(bytes)))),
        ),
        ("runtimes", policy.runtimes.as_deref().map_or_else(none, names)),
        ("networks", networks.unwrap_or_default()),
        (
            "timeout",
            policy
                .timeout_max_ms
                .map_or_else(none, |ms| format!("at most {}", milliseconds(u64::from(ms) * 1000))),
        ),
        ("per instance", policy.memory_max_mb.map_or_else(none, |mb| format!("at most {mb} MiB"))),
        (
            "url access",
            match policy.url_auth {
                Some(UrlAuth::Key) => "key only".to_owned(),
                _ => String::new(),
            },
        ),
        ("created", view.created_at.clone()),
        ("revision", view.revision.to_string()),
    ])
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        quotas: QuotaArgs,
        #[command(flatten)]
        policy: PolicyArgs,
    }

    fn apply(line: &[&str], view: &mut (Quotas, Policy)) -> Result<(bool, bool), String> {
        let line = Line::try_parse_from(["set"].iter().chain(line)).map_err(|e| e.to_string())?;
        Ok((line.quotas.apply(&mut view.0), line.policy.apply(&mut view.1)))
    }

    fn shown(view: &(Quotas, Policy)) -> serde_json::Value {
        json!([view.0, view.1])
    }

    #[test]
    fn what_is_not_mentioned_stays() {
        let mut view = <(Quotas, Policy)>::default();
        let line = [
            "--functions",
            "50",
            "--max-instances",
            "8",
            "--code-bytes",
            "10GiB",
            "--memory-mb",
            "4096",
        ];
        assert_eq!(apply(&line, &mut view), Ok((true, false)));
        let line = [
            "--allow-runtime",
            "nodejs20",
            "--allow-runtime",
            "python3.11",
            "--allow-network",
            "egress",
        ];
        assert_eq!(apply(&line, &mut view), Ok((false, true)));
        let line =
            ["--instances", "none", "--timeout-max", "30s", "--memory-max", "512", "--require-key"];
        assert_eq!(apply(&line, &mut view), Ok((true, true)));
        assert_eq!(
            shown(&view),
            json!([
                {"functions": 50, "memory_mb": 4096, "code_bytes": 10_737_418_240_u64},
                {"runtimes": ["nodejs20", "python3.11"], "networks": ["egress"], "timeout_max_ms": 30_000, "memory_max_mb": 512,
                 "url_auth": "key"}
            ])
        );
        let line = ["--policy-none", "--calls-per-second", "0", "--queued-bytes", "1KiB"];
        apply(&line, &mut view).unwrap();
        assert_eq!(shown(&view)[1], json!({}));
        assert_eq!((view.0.calls_per_second, view.0.queued_bytes), (Some(0), Some(1024)));
        assert_eq!(apply(&[], &mut view), Ok((false, false)));
    }

    #[test]
    fn bad_figures_say_what_was_expected() {
        let mut view = <(Quotas, Policy)>::default();
        for (line, part) in [
            (["--functions", "many"], "or none"),
            (["--functions", "4294967296"], "expected 0 to 4294967295"),
            (["--code-bytes", "10 apples"], "for instance 10GiB"),
            (["--timeout-max", "30"], "20s or 5m, or none"),
            (["--allow-network", "open"], "none, egress or private"),
        ] {
            let e = apply(&line, &mut view).unwrap_err();
            assert!(e.contains(part), "{line:?}: {e}");
        }
    }

    #[test]
    fn quotas_are_shown_with_what_is_used() {
        let view: NamespaceView = serde_json::from_value(json!({
            "name": "team", "description": "", "created_at": "c", "revision": 3,
            "quotas": {"functions": 50, "code_bytes": 1024, "queued_calls": 10}, "policy": {"timeout_max_ms": 30_000, "url_auth": "key"},
            "used": {"functions": 2, "instances": 1, "memory_mb": 128, "code_bytes": 512, "queued_calls": 7, "queued_bytes": 1024}
        }))
        .unwrap();
        let text = text(&view);
        for line in [
            "functions    2 of 50",
            "instances    1 of the daemon's default",
            "queued       7 of 10",
            "queued bytes 1.0 KiB of the daemon's default",
            "memory       128 MiB, no limit",
            "code         512 B of 1.0 KiB",
            "timeout      at most 30.0 s",
            "url access   key only",
        ] {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
        assert!(!text.contains("runtimes"), "{text}");
    }
}
