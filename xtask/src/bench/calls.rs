//! From the daemon to a warm function and back, without HTTP: calls of 1 kB through the sandbox's own port, by the example of the sandbox crate, in turn with
//! the bare runtime over the same frames.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Setup;
use super::bare::{Bare, Program};
use super::daemon::Daemon;
use super::language::{JAVA, Language, NODE, PYTHON};
use super::report::{Bound, Table, Verdict};
use super::stats::{Pair, Round, Spread, interleave, median};
use crate::shell;

/// Promised: p50, in microseconds.
const PROMISED_US: [(&Language, Bound); 3] =
    [(&NODE, Bound::AtMost(40.0)), (&PYTHON, Bound::AtMost(45.0)), (&JAVA, Bound::AtMost(55.0))];
/// Calls of a round.
const CALLS: usize = 5_000;
const EVENT_BYTES: usize = 1_024;

/// Measures all languages.
pub(crate) fn run(setup: &mut Setup, daemon: &Daemon, table: &mut Table) -> Result<Vec<Verdict>> {
    shell::run(&mut shell::cargo("build --release -p sandbox --example starts"))?;
    PROMISED_US.into_iter().map(|(l, bound)| one(setup, daemon, table, l, bound)).collect()
}

fn one(
    setup: &mut Setup,
    daemon: &Daemon,
    table: &mut Table,
    language: &Language,
    bound: Bound,
) -> Result<Verdict> {
    let version = daemon.api()?.runtime_version(language)?;
    let program = Program::new(language, &version)?;
    let folder = setup.folder(&format!("calls-{}", language.name))?;
    let file = folder.join(language.file);
    std::fs::write(&file, language.hello("calls")?)?;
    let mut bare = Bare::start(&mut setup.slot, &program, &folder)?;
    let event = json!({ "pad": "x".repeat(EVENT_BYTES) }).to_string();
    let turn = setup.turn();
    bare.load(event.as_bytes(), turn)?;
    let cache = setup.folder(&format!("calls-cache-{}", language.name))?;
    let mut number = 0;
    let subject = || {
        number += 1;
        let cache = cache.join(number.to_string());
        std::fs::create_dir_all(&cache)?;
        calls(language, &file, &cache)
    };
    let baseline = || bare.load(event.as_bytes(), turn);
    let pair: Pair = interleave(setup.options.rounds, subject, baseline)?;
    table.rounds(&format!("{}, daemon to function and back, 1 kB", language.name), &pair.subject);
    table.rounds("  bare framed process", &pair.baseline);
    let p50 = pair.subject.iter().map(|r| median(&r.latencies).as_secs_f64() * 1e6);
    Ok(Verdict {
        name: format!("{}, daemon to function and back, p50", language.name),
        measured: Spread::of(p50.collect()),
        unit: "µs",
        bound,
    })
}

/// One round in the sandbox.
fn calls(language: &Language, file: &Path, cache: &Path) -> Result<Round> {
    let mut program = shell::command(shell::root().join("target/release/examples/starts"));
    program.arg("calls").arg(cache).arg(CALLS.to_string());
    program.args([language.runtime, language.handler]).arg(file);
    let line: Value = serde_json::from_str(&shell::capture(&mut program)?)?;
    let nanos = line["call_ns"].as_array().context("the example names no calls")?;
    let latencies = nanos.iter().filter_map(Value::as_u64).map(Duration::from_nanos);
    let latencies: Vec<_> = latencies.collect();
    Ok(Round { elapsed: latencies.iter().sum(), latencies })
}
