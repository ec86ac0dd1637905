//! `bench freeze`: what functions cost whose timers go on between their calls, frozen and not, and what a call waits for a frozen one.
//!
//! Processor time is that of all processes of the instances, from `/proc/PID/stat`. How long freezing itself takes is a row of `bench sandbox`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Setup;
use super::daemon::{Api, Daemon};
use super::language::PYTHON;
use super::report::{Bound, Table, Verdict};
use super::stats::{Spread, median, percentile};
use crate::say::say;

/// Promised: processor time of all that is frozen, in thousandths of one processor.
const FROZEN_MILLIS: Bound = Bound::AtMost(1.0);
/// Promised: until a frozen instance goes on for its call, median, in microseconds.
const THAW_US: Bound = Bound::AtMost(200.0);
/// Functions.
const FUNCTIONS: usize = 100;
/// How long their processor time is counted.
const WINDOW: Duration = Duration::from_secs(5);
/// How long it may take until all are frozen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ticks of processor time a second (`sysconf(_SC_CLK_TCK)`, 100 on every Linux of today).
const TICKS: f64 = 100.0;
/// A thread that looks at a clock every millisecond, as a metrics library would.
const CODE: &str = "import threading, time
def look():
    while True: time.sleep(0.001)
threading.Thread(target=look, daemon=True).start()
def handler(event, context): return 'here'
";

/// Measures a daemon that freezes and one that does not.
pub(crate) fn run(setup: &Setup) -> Result<Vec<Verdict>> {
    say!(
        "bench freeze: {FUNCTIONS} idle functions with a thread each that wakes every millisecond"
    );
    let awake = measure(setup, false)?;
    let frozen = measure(setup, true)?;
    let mut table = Table::new(&["", "processor time, ‰", "call p50 ms", "call p99 ms"]);
    for (name, side) in [("functions that go on", &awake), ("frozen functions", &frozen)] {
        let ms = |d: Duration| format!("{:.2}", d.as_secs_f64() * 1e3);
        let (p50, p99) = (median(&side.calls), percentile(&side.calls, 99));
        table.row(vec![name.to_owned(), format!("{:.1}", side.millis), ms(p50), ms(p99)]);
    }
    table.print();
    let micros = |d: Duration| d.as_secs_f64() * 1e6;
    let (p50, p99) = (micros(median(&frozen.thaws)), micros(percentile(&frozen.thaws, 99)));
    say!("thaw: p50 {p50:.0} µs, p99 {p99:.0} µs");
    Ok(vec![
        single(
            "100 frozen functions, thousandths of a processor",
            frozen.millis,
            "",
            FROZEN_MILLIS,
        ),
        single("thaw, p50", p50, "µs", THAW_US),
    ])
}

fn single(name: &str, value: f64, unit: &'static str, bound: Bound) -> Verdict {
    Verdict { name: name.to_owned(), measured: Spread::of(vec![value]), unit, bound }
}

/// What one daemon's functions cost.
#[derive(Debug)]
struct Side {
    /// Processor time while nobody calls, in thousandths of one processor.
    millis: f64,
    /// The next call of each.
    calls: Vec<Duration>,
    /// What these waited until the instance went on; nothing where it was awake.
    thaws: Vec<Duration>,
}

fn measure(setup: &Setup, freezes: bool) -> Result<Side> {
    let data = setup.folder(if freezes { "frozen" } else { "awake" })?;
    let after = if freezes { "1" } else { "0" };
    let variables = [
        ("HANSHU_ENGINE_FREEZE_AFTER_SECONDS", after),
        ("HANSHU_SANDBOX_PRESTART_MEMORY_MB", "0"),
        ("HANSHU_ENGINE_HOST_MEMORY_MB", "65536"),
    ];
    let daemon = Daemon::start_with(&setup.hanshu, &data, &variables)?;
    let mut api = daemon.api()?;
    let config = json!({ "runtime": PYTHON.runtime, "handler": PYTHON.handler });
    for n in 0..FUNCTIONS {
        api.deploy_code(&name(n), &PYTHON, CODE.as_bytes(), &config)?;
        timings(&mut api, n)?;
    }
    settle(&mut api, freezes)?;
    let (before, begun) = (ticks(daemon.id())?, Instant::now());
    std::thread::sleep(WINDOW);
    let used = f64::from(u32::try_from(ticks(daemon.id())? - before)?);
    let millis = used / TICKS / begun.elapsed().as_secs_f64() * 1e3;
    let (mut calls, mut thaws) = (Vec::new(), Vec::new());
    for n in 0..FUNCTIONS {
        let timings = timings(&mut api, n)?;
        let us = |stage: &str| Duration::from_micros(timings[stage].as_u64().unwrap_or(0));
        if timings["cold"] != false || us("thaw_us").is_zero() == freezes {
            bail!("{} is not as it was left: {timings}", name(n));
        }
        calls.push(us("total_us"));
        thaws.push(us("thaw_us"));
    }
    daemon.stop()?;
    Ok(Side { millis, calls, thaws })
}

fn name(n: usize) -> String {
    format!("bench-freeze-{n}")
}

/// Calls a function; where its time went.
fn timings(api: &mut Api, n: usize) -> Result<Value> {
    let answer = api.invoke(&name(n), "X-Hanshu-Timings: 1\r\n")?;
    if answer.body != b"\"here\"" {
        bail!("{} answered {}: {}", name(n), answer.status, answer.text());
    }
    let timings = answer.header("x-hanshu-timings").context("the answer has no timings")?;
    serde_json::from_str(timings).context("the timings are no JSON")
}

/// Waits until all are frozen, or as long as that would take.
fn settle(api: &mut Api, freezes: bool) -> Result<()> {
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    while freezes && api.health()?["instances"]["frozen"] != FUNCTIONS {
        if begun.elapsed() > PATIENCE {
            bail!("not all are frozen: {}", api.health()?["instances"]);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Processor time of the instances of a daemon: all that its spawner has started.
fn ticks(daemon: u32) -> Result<u64> {
    let mut total = 0;
    let mut waiting: Vec<u32> = Vec::new();
    for spawner in children(daemon)? {
        waiting.extend(children(spawner)?);
    }
    while let Some(pid) = waiting.pop() {
        total += ticks_in(&fs::read_to_string(format!("/proc/{pid}/stat"))?)?;
        waiting.extend(children(pid)?);
    }
    Ok(total)
}

/// User and system time in a `/proc/PID/stat`: proc(5), fields 14 and 15.
fn ticks_in(stat: &str) -> Result<u64> {
    // The name before may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat has no name")?;
    let times = fields.split(' ').skip(11).take(2);
    times.map(|field| Ok(field.parse::<u64>()?)).sum()
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
        let listed = fs::read_to_string(task?.path().join("children"))?;
        children.extend(listed.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    Ok(children)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 12 34 0 0 20 0 1 0 5";
        assert_eq!(ticks_in(stat).unwrap(), 46);
        ticks_in("7").unwrap_err();
    }
}
