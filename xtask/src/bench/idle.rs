//! `bench idle`: a daemon that holds many functions and runs none: its memory, and how soon after its start a call is answered.
//!
//! Memory counts the daemon, its spawner and the process that makes networks ahead; what they share counts once. The start contains the start of a Node.js process, which a bare one, timed
//! in turn, shows apart.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::Setup;
use super::bare::{Bare, Program};
use super::daemon::Daemon;
use super::language::NODE;
use super::memory::{Held, descendants};
use super::report::{Bound, Table, Verdict};
use super::stats::{Round, Spread, interleave, median, pooled};
use crate::say::say;

/// Promised: resident memory, in MB (10^6 bytes).
const MEMORY_MB: Bound = Bound::AtMost(40.0);
/// Promised: from the start of the process to the first answered call, median, in milliseconds.
const START_MS: Bound = Bound::AtMost(150.0);
/// How long the daemon is left alone before its memory is read.
const SETTLE: Duration = Duration::from_secs(2);

/// Deploys the functions, restarts the daemon, and measures.
pub(crate) fn run(setup: &mut Setup) -> Result<Vec<Verdict>> {
    let (functions, starts) = (setup.options.functions, setup.options.samples);
    say!("bench idle: {functions} functions, {starts} starts");
    let data = setup.folder("idle")?;
    let daemon = Daemon::start(&setup.hanshu, &data)?;
    let mut api = daemon.api()?;
    let version = api.runtime_version(&NODE)?;
    for n in 0..functions {
        api.deploy(&format!("bench-{n}"), &NODE, &n.to_string())?;
    }
    daemon.stop()?;

    let daemon = Daemon::start(&setup.hanshu, &data)?;
    daemon.api()?.runtime_version(&NODE)?;
    std::thread::sleep(SETTLE);
    let (daemon_mb, children_mb) = memory_mb(daemon.id())?;
    daemon.stop()?;

    let (subject, baseline) = starts_in_turn(setup, &data, &version)?;
    let mut table = Table::new(&["", "p50 ms", "p99 ms"]);
    table.samples("process start to first answered call", &subject);
    table.samples("  bare runtime, exec to answer", &baseline);
    table.print();
    say!("resident: daemon {daemon_mb:.1} MB, its children {children_mb:.1} MB");
    let total = daemon_mb + children_mb;
    let start = median(&subject).as_secs_f64() * 1e3;
    Ok(vec![
        single(&format!("{functions} functions, resident memory"), total, "MB", MEMORY_MB),
        single("start to first answered call, p50", start, "ms", START_MS),
    ])
}

fn single(name: &str, value: f64, unit: &'static str, bound: Bound) -> Verdict {
    Verdict { name: name.to_owned(), measured: Spread::of(vec![value]), unit, bound }
}

/// Times starts of the daemon and of the bare runtime, one after the other.
fn starts_in_turn(
    setup: &mut Setup,
    data: &Path,
    version: &str,
) -> Result<(Vec<Duration>, Vec<Duration>)> {
    let program = Program::new(&NODE, version)?;
    let folder = setup.folder("idle-node")?;
    fs::write(folder.join(NODE.file), NODE.hello("bare")?)?;
    let hanshu = setup.hanshu.clone();
    let subject = || {
        let daemon = Daemon::start(&hanshu, data)?;
        daemon.api()?.hello("bench-0", "")?;
        let elapsed = daemon.started.elapsed();
        daemon.stop()?;
        Ok(Round { latencies: vec![elapsed], elapsed })
    };
    let slot = &mut setup.slot;
    let baseline = || {
        let start = std::time::Instant::now();
        Bare::start(slot, &program, &folder)?.call(b"{}")?;
        let elapsed = start.elapsed();
        Ok(Round { latencies: vec![elapsed], elapsed })
    };
    let pair = interleave(setup.options.samples, subject, baseline)?;
    Ok((pooled(&pair.subject), pooled(&pair.baseline)))
}

/// Resident memory of a daemon, and of its spawner and what that has started.
fn memory_mb(pid: u32) -> Result<(f64, f64)> {
    let mut children_mb = 0.0;
    for child in descendants(pid)? {
        children_mb += Held::of(child)?.pss_mb;
    }
    Ok((Held::of(pid)?.pss_mb, children_mb))
}
