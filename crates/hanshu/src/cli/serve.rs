//! `hanshu serve`: runs the daemon in the foreground.

use std::fs;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use super::context::Context;
use super::failure::CliError;
use crate::config::DaemonConfig;
use crate::config::host::Host;
use crate::config::settings::{self, Setting};
use crate::config::values::Sources;
use crate::{logging, serve};

const AFTER_HELP: &str = "\
The first line on standard output says `listening on http://ADDR:PORT`. The daemon's own log goes to standard error.
SIGINT or SIGTERM stops it: calls in flight end first, for at most `server.grace_seconds`.

Examples:
  hanshu serve --dev                                      for one person on one machine: no keys, loopback only
  hanshu serve --listen 0.0.0.0:9000 --data /srv/hanshu   for others too: a root key is made at first start
  hanshu serve --config /etc/hanshu.toml                  every setting: docs/reference/config.md
  hanshu serve --require-isolation full                   or not at all; `hanshu doctor` says what a host lacks";

/// Run the daemon.
#[derive(Debug, Default, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ServeArgs {
    /// Ask for no keys, and listen on loopback only [variable: HANSHU_DEV]
    #[arg(long)]
    pub dev: bool,
    /// The folder that holds everything the daemon keeps [variable: HANSHU_DATA] [default: hanshu-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen; port 0 picks a free one [variable: HANSHU_LISTEN] [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<String>,
    /// A TOML file of settings [variable: HANSHU_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Refuse to start unless the host gives this: full, or any (whatever it has) [variable: HANSHU_SANDBOX_REQUIRE_ISOLATION]
    /// [default: any]
    #[arg(long, value_name = "LEVEL")]
    pub require_isolation: Option<String>,
}

impl ServeArgs {
    pub(super) fn run(self, cx: &Context) -> anyhow::Result<ExitCode> {
        let config = self.load(cx)?;
        logging::start(&config.log, &cx.env)?;
        runtime()?.block_on(async {
            let running = serve::start(&config).await?;
            cx.screen.line(&format!("listening on {}", running.url))?;
            if let Some(key) = &running.root_key {
                cx.screen.line(&root_key_advice(key))?;
            }
            running.wait().await
        })?;
        Ok(ExitCode::SUCCESS)
    }

    /// Merges the file, the environment and these flags.
    pub(super) fn load(&self, cx: &Context) -> anyhow::Result<DaemonConfig> {
        let file = self.config.clone().or_else(|| cx.env.get("HANSHU_CONFIG").map(PathBuf::from));
        let file = match file {
            None => None,
            Some(path) => {
                let text = fs::read_to_string(&path).map_err(|e| {
                    CliError::new(format!("{} cannot be read: {e}", path.display()))
                        .hint("--config names a TOML file; leave it out to run with the defaults")
                })?;
                Some((path.display().to_string(), text))
            }
        };
        let mut flags: Vec<(&'static Setting, String)> = Vec::new();
        if self.dev {
            flags.push((&settings::DEV, "true".to_owned()));
        }
        if let Some(listen) = &self.listen {
            flags.push((&settings::LISTEN, listen.clone()));
        }
        if let Some(data) = &self.data {
            let data = data.to_str().context("--data is not valid UTF-8")?;
            flags.push((&settings::DATA, data.to_owned()));
        }
        if let Some(level) = &self.require_isolation {
            flags.push((&settings::REQUIRE_ISOLATION, level.clone()));
        }
        let sources = Sources { file, env: &cx.env, flags };
        Ok(DaemonConfig::load(&sources, Host::detect()).map_err(CliError::from)?)
    }
}

/// The threads that the daemon runs on: one for two processors, because the functions need some as well. On two processors a trivial function gets 10 %
/// more calls through by one thread than by two, which wake each other up.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors / 2).max(1))
        .enable_all()
        .thread_name("hanshu")
        .build()
        .context("starting the daemon's threads")
}

fn root_key_advice(key: &str) -> String {
    format!(
        "root key: {key}\n\
         It may do everything and is not shown again: keep it where you keep passwords.\n\
         Clients pass it by --key or HANSHU_KEY, or as the header `Authorization: Bearer KEY`."
    )
}
