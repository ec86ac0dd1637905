//! The binary `hanshu`: the daemon and its command line in one file.
//!
//! - [`serve`]: names every concrete type and wires them; `cli/serve.rs` and `cli/up.rs` call it
//! - [`config`]: the daemon's settings, merged and checked
//! - [`cli`]: one file a command; [`client`] is what they talk to a daemon with
//! - [`package`]: from a folder to an uploadable package
//! - [`host`]: what the machine gives the daemon; [`privacy`]: what keeps its memory to itself
//! - [`logging`]: the daemon's own log
//!
//! Not here: anything a daemon does once it runs. That is `server`, `engine`, `store` and `sandbox`.

mod cli;
mod client;
mod config;
mod host;
mod logging;
mod package;
mod privacy;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, while there is one thread: this may be the process that starts sandboxes.
    sandbox::jail::main_if_spawner();
    cli::main(config::environment::Environment::of_process())
}
