//! `hanshu doctor`: what the host gives, what it lacks, and what is lost by that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use model::isolation::{Feature, Isolation, Need};
use serde::Serialize;

use super::context::Context;
use super::failure::EXIT_INCOMPLETE;
use super::screen::Format;
use super::serve::{ServeArgs, runtime};
use crate::client::Client;
use crate::config::DaemonConfig;
use crate::host;

const AFTER_HELP: &str = "\
Asks the daemon that --url or HANSHU_URL names; else the one that listens where `hanshu serve` with the same settings would; else, or
with --local, examines this machine for a daemon of the user who asks. Nothing is changed by it.

Exit codes: 0 nothing is missing that full isolation or serving at all needs; 3 something is; 2 it could not be found out.

Examples:
  hanshu doctor                                  what holds here
  hanshu doctor --local                          what would hold for a daemon that I start, whatever runs already
  hanshu doctor --output json | jq -r .missing   for a pipeline";

/// Show what isolates and limits functions here, and what is missing.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DoctorArgs {
    /// Examine this machine, and ask no daemon
    #[arg(long)]
    local: bool,
    /// The data folder to examine [variable: HANSHU_DATA] [default: hanshu-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where a daemon would listen [variable: HANSHU_LISTEN] [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// A TOML file of settings [variable: HANSHU_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Findings {
    /// The daemon that said so; `null` if this machine was examined.
    daemon: Option<String>,
    /// Names of the missing features that full isolation or serving needs.
    missing: Vec<String>,
    #[serde(flatten)]
    isolation: Isolation,
}

impl DoctorArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let findings = self.find_out(cx)?;
        match cx.screen.format() {
            Format::Json => cx.screen.json(&findings)?,
            Format::Text => {
                cx.screen.note(&match &findings.daemon {
                    Some(url) => format!("as the daemon at {url} says:"),
                    None => format!("examined here, as {}:", user()),
                });
                let rows: Vec<_> = findings.isolation.features.iter().map(row).collect();
                cx.screen.table(&["FEATURE", "AVAILABLE", "FOUND", "LOST WITHOUT IT"], &rows)?;
                cx.screen.line(&summary(&findings))?;
            }
        }
        Ok(if findings.missing.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(EXIT_INCOMPLETE)
        })
    }

    fn find_out(self, cx: &Context) -> anyhow::Result<Findings> {
        if let (Some(url), false) = (cx.given_url(), self.local) {
            return Ok(Findings::of(Some(url.to_owned()), cx.client()?.health()?.isolation));
        }
        let serve = ServeArgs {
            data: self.data,
            listen: self.listen,
            config: self.config,
            ..ServeArgs::default()
        };
        let config = serve.load(cx)?;
        let url = format!("http://{}", reachable(config.listen));
        // Whatever else may listen there, it is no daemon that could be asked.
        let health = Client::new(&url, None)?.health().ok();
        match health {
            Some(health) if !self.local => Ok(Findings::of(Some(url), health.isolation)),
            other => Ok(Findings::of(None, examine(&config, other.is_some())?)),
        }
    }
}

impl Findings {
    fn of(daemon: Option<String>, isolation: Isolation) -> Self {
        let needed = isolation.missing().filter(|f| f.need != Need::Option);
        let missing = needed.map(|f| f.name.clone()).collect();
        Self { daemon, missing, isolation }
    }
}

/// This machine, for a daemon with these settings and of this user.
fn examine(config: &DaemonConfig, daemon_listens: bool) -> anyhow::Result<Isolation> {
    let executable = std::env::current_exe().context("finding this program's own file")?;
    let found = sandbox::examine(executable, &config.sandbox.path, config.sandbox.uid_base);
    let mut features = runtime()?.block_on(found)?.features;
    features.extend(host::features(config));
    if daemon_listens {
        let detail = format!("a Hanshu daemon listens on {} already", config.listen);
        features.push(Feature::found("port", Need::Service, detail, "a daemon does not start"));
    } else {
        features.push(host::port(config));
    }
    Ok(Isolation::of(features))
}

/// Where a daemon that listens on `listen` is reached from here.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn user() -> String {
    match rustix::process::geteuid().as_raw() {
        0 => "root".into(),
        uid => format!("user {uid}"),
    }
}

fn row(feature: &Feature) -> Vec<String> {
    let available = match (feature.available, feature.need) {
        (true, _) => "yes",
        (false, Need::Option) => "no (optional)",
        (false, _) => "no",
    };
    vec![feature.name.clone(), available.into(), feature.detail.clone(), feature.lost.clone()]
}

fn summary(findings: &Findings) -> String {
    let full = if findings.isolation.full { "yes" } else { "no" };
    match findings.missing.join(", ") {
        none if none.is_empty() => format!("full isolation: {full}"),
        missing => format!("full isolation: {full}; missing: {missing}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_optional_is_not_called_missing() {
        let lacking = |name: &str, need| Feature::missing(name, need, "why", "what");
        let of = |features| Findings::of(None, Isolation::of(features));
        let findings = of(vec![lacking("a", Need::Option)]);
        assert_eq!(summary(&findings), "full isolation: yes");
        assert_eq!(row(&findings.isolation.features[0])[1], "no (optional)");
        let findings = of(vec![lacking("a", Need::Service), lacking("b", Need::Isolation)]);
        assert_eq!(summary(&findings), "full isolation: no; missing: a, b");
        assert_eq!(row(&findings.isolation.features[0])[1], "no");
    }

    #[test]
    fn a_daemon_on_every_address_is_asked_on_loopback() {
        for (listen, at) in
            [("0.0.0.0:9", "127.0.0.1:9"), ("[::]:9", "[::1]:9"), ("10.1.2.3:9", "10.1.2.3:9")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), at);
        }
    }
}
