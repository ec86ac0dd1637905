//! A daemon that holds many components: how soon after its start the first of them answers, and its memory then and when it has called some hundred of them. Compiled code is mapped
//! when it is called, and let go with a function's last instance.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::bench::Setup;
use crate::bench::daemon::Daemon;
use crate::bench::language::WASM;
use crate::bench::memory::{Held, descendants};
use crate::bench::report::{Bound, Verdict};
use crate::bench::stats::Spread;
use crate::say::say;

/// Promised: from the start of the process to the first answer of a component, in milliseconds.
const START_MS: Bound = Bound::AtMost(2000.0);
/// Promised: resident memory, in MB (10^6 bytes), of the daemon and what it has started.
const MEMORY_MB: Bound = Bound::AtMost(300.0);
/// Programs that differ: several functions have the same one, for each takes its time to compile.
const PROGRAMS: usize = 500;
/// Components that are called before memory is read again.
const CALLED: usize = 200;
/// How long the daemon is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Deploys them, restarts the daemon, and measures.
pub(super) fn run(setup: &Setup, code: &[u8]) -> Result<Vec<Verdict>> {
    let components = setup.options.components;
    let data = setup.folder("wasm-many")?;
    let daemon = Daemon::start(&setup.hanshu, &data)?;
    let mut api = daemon.api()?;
    let config = json!({"runtime": "wasm", "handler": WASM.file, "memory_mb": 64});
    for n in 0..components {
        let code = marked(code, n % PROGRAMS);
        api.deploy_code(&format!("component-{n}"), &WASM, &code, &config)?;
    }
    daemon.stop()?;

    let daemon = Daemon::start(&setup.hanshu, &data)?;
    let mut api = daemon.api()?;
    api.hello_at("component-0", "hello")?;
    let start_ms = daemon.started.elapsed().as_secs_f64() * 1e3;
    std::thread::sleep(SETTLE);
    let idle_mb = resident_mb(daemon.id())?;
    for n in 0..CALLED.min(components) {
        api.hello_at(&format!("component-{n}"), "hello")?;
    }
    let called_mb = resident_mb(daemon.id())?;
    daemon.stop()?;
    say!(
        "{components} components: {idle_mb:.1} MB resident, {called_mb:.1} MB when {CALLED} of them were called"
    );
    let single = |what: &str, value, unit, bound| {
        let name = format!("{components} components, {what}");
        Verdict { name, measured: Spread::of(vec![value]), unit, bound }
    };
    Ok(vec![
        single("start to first answer", start_ms, "ms", START_MS),
        single("resident memory", idle_mb.max(called_mb), "MB", MEMORY_MB),
    ])
}

/// The same program with a section that says nothing (a custom one), so that it is another.
fn marked(code: &[u8], mark: usize) -> Vec<u8> {
    let name = format!("mark{mark:06}");
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    [code, &[0, length + 1, length], name.as_bytes()].concat()
}

fn resident_mb(daemon: u32) -> Result<f64> {
    let mut all = Held::of(daemon)?;
    for child in descendants(daemon)? {
        all = all.and(Held::of(child)?);
    }
    Ok(all.pss_mb)
}
