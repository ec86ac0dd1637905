//! Functions with a network, on a network that the test itself makes.
//!
//! Each scenario runs in a network namespace that plays the host, with a second one behind it that plays everything else: the internet, private networks,
//! a metadata service and a name server ([`topology`]). The program is started once more in there ([`run_if_inside`]), as root by root and as an
//! ordinary user in a user namespace of its own, where it may make interfaces; what it starts is connected by pasta then. Everything goes
//! with the processes.

mod components;
mod scenarios;
mod topology;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::support::World;
use crate::{Place, Test};

/// The first argument that makes this program run a scenario, whose name is the second.
const ARGUMENT: &str = "__network";

/// Runs a scenario, if the arguments say so; returns whether they did.
pub(crate) fn run_if_inside(arguments: &[String]) -> bool {
    let [first, name, rest @ ..] = arguments else { return false };
    if first != ARGUMENT {
        return false;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match (scenarios::ALL.iter().find(|s| s.name == name), rest) {
            (Some(scenario), _) => {
                // A namespace begins as the host is, which may forward packets for others.
                std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
                scenario.run().await;
            }
            (None, [cache]) => scenarios::be_killed(Path::new(cache)).await,
            (None, _) => panic!("no scenario {name}"),
        }
    });
    true
}

pub(crate) fn tests() -> Vec<Test> {
    let test = |scenario: &'static scenarios::Scenario| Test {
        name: format!("network::{}", scenario.name),
        place: Place::Shared,
        run: Box::new(move |world| Box::pin(inside(world, scenario))),
    };
    scenarios::ALL.iter().filter(|s| s.applies()).map(test).collect()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// This program with other arguments.
#[expect(clippy::disallowed_methods, reason = "a daemon in a namespace of its own")]
fn again(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

async fn inside(_: Arc<World>, scenario: &scenarios::Scenario) {
    let own = std::env::current_exe().unwrap();
    let mut arguments = vec!["--net"];
    if !is_root() {
        arguments.extend(["--user", "--map-current-user", "--keep-caps"]);
    }
    arguments.extend(["--", own.to_str().unwrap(), ARGUMENT, scenario.name]);
    let mut command = again("unshare", &arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    print!("{said}");
    assert!(output.status.success(), "{failed}");
}
