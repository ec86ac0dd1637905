//! `bench kill`: how long after its deadline the last process of an instance is gone, whatever the function does to stay.
//!
//! Taken from the daemon's own breakdown of the call: from the deadline to the answer, which is given once the kernel has reported the end of
//! the instance's first process, and with it of all others. That this is so is tested in `crates/sandbox/tests/it/deadline.rs`.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Setup;
use super::daemon::{Api, Daemon};
use super::language::PYTHON;
use super::report::{Bound, Table, Verdict};
use super::stats::{Spread, percentile};
use crate::say::say;

/// Promised: p99, in milliseconds.
const GONE_MS: Bound = Bound::AtMost(50.0);
/// Time until the deadline, in milliseconds: enough to set the scene.
const TIMEOUT_MS: u32 = 400;
/// Kills for each of `--samples`, as a call takes its whole timeout.
const SAMPLES_EACH: usize = 3;
/// What every function of this bench can use.
const PRELUDE: &str = "import os, signal, time
def forever():
    while True: time.sleep(1)
def spin():
    while True: pass
def child(run):
    if os.fork() == 0: run()
def handler(event, context):
";

/// What a function does to stay; ends before its deadline in nothing.
const WAYS: &[(&str, &str)] = &[
    ("busy loop", "spin()"),
    ("ignored signals", "[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 3, 15)]; forever()"),
    ("20 forked processes", "[child(forever) for _ in range(20)]; forever()"),
    (
        "double fork, own session",
        "child(lambda: (os.setsid(), child(forever), os._exit(0))); forever()",
    ),
    ("stopped", "child(forever); os.kill(os.getpid(), signal.SIGSTOP)"),
    ("full pipe", "end = os.pipe()[1]\n    while True: os.write(end, b'x' * 65536)"),
    ("flood of output", "while True: os.write(1, b'x' * 65536)"),
    ("100 busy processes", "[child(spin) for _ in range(100)]; spin()"),
    ("fork bomb of 200", "while True:\n        try: os.fork()\n        except OSError: pass"),
];

/// Kills each kind of function again and again.
pub(crate) fn run(setup: &mut Setup) -> Result<Vec<Verdict>> {
    let samples = setup.options.samples.div_ceil(SAMPLES_EACH);
    say!("bench kill: {samples} deadlines for each way to stay");
    let daemon = Daemon::start(&setup.hanshu, &setup.folder("kill")?)?;
    let mut api = daemon.api()?;
    let mut table = Table::new(&["gone after the deadline", "p50 ms", "p99 ms"]);
    let mut verdicts = Vec::new();
    for (number, (name, code)) in WAYS.iter().enumerate() {
        let function = format!("bench-kill-{number}");
        let config = json!({
            "runtime": PYTHON.runtime, "handler": PYTHON.handler, "timeout_ms": TIMEOUT_MS,
            "memory_mb": 512, "processes": 200,
        });
        api.deploy_code(&function, &PYTHON, format!("{PRELUDE}    {code}\n").as_bytes(), &config)?;
        let late: Vec<_> =
            (0..samples).map(|_| lateness(&mut api, &function)).collect::<Result<_>>()?;
        table.samples(name, &late);
        let p99 = percentile(&late, 99).as_secs_f64() * 1e3;
        verdicts.push(Verdict {
            name: format!("{name}, gone after the deadline, p99"),
            measured: Spread::of(vec![p99]),
            unit: " ms",
            bound: GONE_MS,
        });
    }
    daemon.stop()?;
    table.print();
    Ok(verdicts)
}

/// One call that runs into its deadline; how long after it the answer was there.
fn lateness(api: &mut Api, function: &str) -> Result<Duration> {
    let answer = api.invoke(function, "X-Hanshu-Timings: 1\r\n")?;
    if !answer.text().contains("timed out") {
        bail!("{function} answered {}: {}", answer.status, answer.text());
    }
    let timings = answer.header("x-hanshu-timings").context("the answer has no timings")?;
    let timings: Value = serde_json::from_str(timings).context("the timings are no JSON")?;
    late_by(&timings).with_context(|| format!("the timings make no sense: {timings}"))
}

/// What is left of a call's time after its start and its timeout.
fn late_by(timings: &Value) -> Option<Duration> {
    let us = |stage: &str| timings[stage].as_u64();
    let start = us("queue_us")? + us("sandbox_us")? + us("runtime_us")? + us("code_us")?;
    let late = us("total_us")?.checked_sub(start)?.checked_sub(u64::from(TIMEOUT_MS) * 1000)?;
    Some(Duration::from_micros(late))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_after_start_and_timeout_is_lateness() {
        let mut timings = json!({
            "queue_us": 1, "sandbox_us": 2, "runtime_us": 3, "code_us": 4, "handler_us": 400_900,
            "total_us": 402_010,
        });
        assert_eq!(late_by(&timings), Some(Duration::from_micros(2_000)));
        timings["total_us"] = json!(399_000);
        assert_eq!(late_by(&timings), None);
    }
}
