//! The daemon's own log, on standard error. What functions write goes to the store instead.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;

use crate::cli::failure::CliError;
use crate::config::LogConfig;
use crate::config::environment::Environment;

/// Starts logging, once a process.
pub(crate) fn start(config: &LogConfig, env: &Environment) -> Result<(), CliError> {
    let filter = EnvFilter::builder().parse(&config.level).map_err(|e| {
        CliError::new(format!("log_level '{}' is not valid: {e}", config.level))
            .hint("expected error, warn, info, debug or trace, also by part: info,engine=debug")
    })?;
    let colour = io::stderr().is_terminal() && env.get("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colour)
        .with_target(true);
    let started = if config.json { log.json().try_init() } else { log.try_init() };
    started.map_err(|e| CliError::new(format!("logging cannot be started: {e}")))
}
