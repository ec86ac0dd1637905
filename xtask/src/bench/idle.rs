//! `bench idle`: a daemon that holds many functions and runs none: its memory, and how soon after its start a call is answered.
//!
//! Memory counts the daemon, its spawner and the process that makes networks ahead; what they share counts once. The start contains the start of a Node.js process, which a bare one, timed
//! in turn, shows apart.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Setup;
use super::bare::{Bare, Program};
use super::daemon::Daemon;
use super::language::NODE;
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
    let memory = Memory::of(daemon.id())?;
    daemon.stop()?;

    let (subject, baseline) = starts_in_turn(setup, &data, &version)?;
    let mut table = Table::new(&["", "p50 ms", "p99 ms"]);
    table.samples("process start to first answered call", &subject);
    table.samples("  bare runtime, exec to answer", &baseline);
    table.print();
    say!("resident: daemon {:.1} MB, its children {:.1} MB", memory.daemon_mb, memory.children_mb);
    let total = memory.daemon_mb + memory.children_mb;
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

/// Resident memory of a daemon.
#[derive(Clone, Copy, Debug)]
struct Memory {
    daemon_mb: f64,
    /// Its spawner, and what that has started.
    children_mb: f64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self> {
        let mut children_mb = 0.0;
        let mut waiting = children(pid)?;
        while let Some(child) = waiting.pop() {
            children_mb += held_mb(&rollup(child)?)?;
            waiting.extend(children(child)?);
        }
        Ok(Self { daemon_mb: held_mb(&rollup(pid)?)?, children_mb })
    }
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
        let listed = fs::read_to_string(task?.path().join("children"))?;
        children.extend(listed.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    Ok(children)
}

fn rollup(pid: u32) -> Result<String> {
    let file = format!("/proc/{pid}/smaps_rollup");
    fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))
}

/// `Pss` of a `/proc/PID/smaps_rollup` (proc(5)): resident pages, those that several processes share divided among them. It counts in KiB; in MB.
fn held_mb(rollup: &str) -> Result<f64> {
    let line = rollup.lines().find_map(|l| l.strip_prefix("Pss:"));
    let kib: u32 = line
        .and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok())
        .context("/proc/PID/smaps_rollup has no Pss")?;
    Ok(f64::from(kib) * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::child::Running;
    use crate::shell;

    #[test]
    fn resident_memory_is_read_in_mb() {
        let mb = held_mb("Rss:  50000 kB\nPss:               39062 kB\nPss_Dirty: 1 kB\n").unwrap();
        assert!((mb - 40.0).abs() < 0.01, "{mb}");
        held_mb("Rss: 1 kB\n").unwrap_err();
    }

    #[test]
    fn children_are_counted_apart() {
        let mut sh = shell::command("sh");
        // The child itself says that it runs: while it still executes its program it has next to no memory.
        sh.args(["-c", "sh -c 'echo $$; while :; do :; done' & wait"]);
        let (running, child) = Running::start_server(&mut sh).unwrap();
        let memory = Memory::of(running.id()).unwrap();
        assert!(shell::succeeds(shell::command("kill").arg(child)));
        assert!(memory.daemon_mb > 0.1 && memory.children_mb > 0.1, "{memory:?}");
    }
}
