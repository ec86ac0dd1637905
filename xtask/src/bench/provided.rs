//! `bench provided`: an executable that brings its own runtime, in Rust with the official client (`examples/hello-rust`), in the sandbox without HTTP: first calls, and
//! warm ones in turn with the same executable asking a server that does nothing else.
//!
//! The calls are made by the example of the sandbox crate (`crates/sandbox/examples/starts`), which also starts the executable bare.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Setup;
use super::example;
use super::report::{Bound, Table, Verdict};
use super::stats::{Pair, Round, Spread, median};
use crate::say::say;
use crate::shell;

/// Promised: p50 of a first call in milliseconds, from the start until the answer.
const FIRST_MS: Bound = Bound::AtMost(4.0);
/// Promised: p50 of warm calls one behind the other, by the bare loop's.
const WARM: Bound = Bound::AtMost(1.25);
/// First calls for each sample that is asked for.
const STARTS_PER_SAMPLE: usize = 10;
/// Warm calls of a round.
const CALLS: usize = 3_000;

/// Builds what it needs, runs it and judges.
pub(crate) fn run(setup: &Setup) -> Result<Vec<Verdict>> {
    let starts = setup.options.samples.saturating_mul(STARTS_PER_SAMPLE);
    say!("bench provided: {starts} first calls, then rounds of {CALLS} warm ones");
    let example = shell::root().join("examples/hello-rust");
    shell::run(shell::cargo("build --release").current_dir(&example))?;
    let mut program = example::program("sandbox", "starts")?;
    program.arg("provided").arg(setup.folder("provided")?);
    program.args([starts.to_string(), CALLS.to_string()]);
    let lines = shell::capture(program.arg(example.join("target/release/hello-rust")))?;
    let mut lines = lines.lines().map(serde_json::from_str::<Value>);
    let first = lines.next().context("nothing was printed")??;
    let (first, start) = (times(&first["first_ns"])?, times(&first["start_ns"])?);
    let mut pair = Pair { subject: Vec::new(), baseline: Vec::new() };
    for line in lines {
        let line = line?;
        pair.subject.push(round(times(&line["call_ns"])?));
        pair.baseline.push(round(times(&line["floor_ns"])?));
    }
    let mut table = Table::new(&["", "p50 µs", "p99 µs", "calls/s"]);
    table.samples("first call", &first);
    table.samples("  until it could be called", &start);
    table.rounds("warm call", &pair.subject);
    table.rounds("  the same client, bare", &pair.baseline);
    table.print();
    let millis = median(&first).as_secs_f64() * 1e3;
    Ok(vec![
        Verdict {
            name: "provided, first call without HTTP, p50".into(),
            measured: Spread::of(vec![millis]),
            unit: "ms",
            bound: FIRST_MS,
        },
        Verdict::latency_ratio("provided, warm call, p50 by the bare loop's", &pair, WARM),
    ])
}

fn round(latencies: Vec<Duration>) -> Round {
    Round { elapsed: latencies.iter().sum(), latencies }
}

fn times(list: &Value) -> Result<Vec<Duration>> {
    let list = list.as_array().context("figures are missing")?;
    Ok(list.iter().filter_map(Value::as_u64).map(Duration::from_nanos).collect())
}
