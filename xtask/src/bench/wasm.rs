//! `bench wasm`: a `wasi:http` component through its function URL, each call in a fresh instance; alone, and beside four functions that compute for ever. And a daemon that holds many
//! components ([`many`]).
//!
//! Baselines of the same run: a plain server on hyper (`xtask/examples/hello.rs`), and `wasmtime serve` of the same component ([`serve`]).

mod many;
mod serve;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::Setup;
use super::child::Running;
use super::daemon::{Daemon, url};
use super::http::{Connection, request};
use super::language::WASM;
use super::load::Load;
use super::report::{Bound, Table, Verdict};
use super::stats::{Spread, interleave, median, percentile};
use crate::say::say;
use crate::shell;

/// Promised: answers per second by those of a plain server, and of `wasmtime serve`.
const PLAIN_RATIO: Bound = Bound::AtLeast(0.35);
const SERVE_RATIO: Bound = Bound::AtLeast(1.8);
/// Promised: p99 beside functions that compute for ever, in milliseconds.
const BESIDE_MS: Bound = Bound::AtMost(15.0);
/// Promised: what a fresh instance costs a call, in microseconds.
const COST_US: Bound = Bound::AtMost(20.0);
/// Calls of one round that are timed by the daemon.
const CALLS: usize = 2_000;
/// Connections.
const MANY: usize = 32;
/// Functions that compute for ever.
const SPINNING: usize = 4;

/// Measures it.
pub(crate) fn run(setup: &Setup) -> Result<Vec<Verdict>> {
    say!("bench wasm: {} rounds of {} s", setup.options.rounds, setup.options.seconds);
    let component = component()?;
    let daemon = Daemon::start(&setup.hanshu, &setup.folder("wasm")?)?;
    let code = std::fs::read(&component)?;
    let config = json!({"runtime": "wasm", "handler": WASM.file, "timeout_ms": 600_000});
    let mut api = daemon.api()?;
    api.deploy_code("hello", &WASM, &code, &config)?;
    let mut table = Table::new(&["", "p50 µs", "p99 µs", "requests/s"]);
    let subject = hello(daemon.address, &format!("{}hello", url("hello")), MANY);
    let (server, address) = plain()?;
    let baseline = hello(address, "/", MANY);
    let mut verdicts =
        vec![compare(setup, &mut table, (&subject, "plain server", &baseline), PLAIN_RATIO)?];
    server.stop()?;
    match serve::start(&component, setup.options.build_baselines)? {
        Some((server, address)) => {
            let baseline = hello(address, "/hello", MANY);
            let sides = (&subject, "wasmtime serve", &baseline);
            verdicts.push(compare(setup, &mut table, sides, SERVE_RATIO)?);
            server.stop()?;
        }
        None => say!("wasmtime-cli is not built: `wasmtime serve` is left out"),
    }
    verdicts.push(cost(setup, &daemon, &mut table)?);
    verdicts.push(beside(setup, &daemon, &mut table)?);
    daemon.stop()?;
    table.print();
    verdicts.extend(many::run(setup, &code)?);
    Ok(verdicts)
}

fn hello(address: SocketAddr, path: &str, connections: usize) -> Load {
    Load { address, request: request("GET", path, "", b""), connections }
}

fn compare(
    setup: &Setup,
    table: &mut Table,
    (subject, name, baseline): (&Load, &str, &Load),
    bound: Bound,
) -> Result<Verdict> {
    let (rounds, turn) = (setup.options.rounds, setup.turn());
    subject.run(turn)?;
    baseline.run(turn)?;
    let pair = interleave(rounds, || subject.run(turn), || baseline.run(turn))?;
    table.rounds(&format!("component, {MANY} connections"), &pair.subject);
    table.rounds(&format!("  {name}"), &pair.baseline);
    let title = format!("wasm, {MANY} connections, requests/s by those of {name}");
    Ok(Verdict::rate_ratio(&title, &pair, bound))
}

/// What a call takes on the daemon's side of the instance, from handing it over until its outcome: a fresh instance, the run, its end, and two changes of threads.
fn cost(setup: &Setup, daemon: &Daemon, table: &mut Table) -> Result<Verdict> {
    let path = "/v1/namespaces/default/functions/hello/invoke";
    let headers = "Content-Type: application/json\r\nx-hanshu-timings: 1\r\n";
    let call = request("POST", path, headers, br#"{"op":"echo","value":1}"#);
    let mut connection = Connection::open(daemon.address)?;
    let mut rounds = Vec::new();
    for _ in 0..setup.options.rounds {
        let mut taken = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let answer = connection.call(&call)?;
            let timings = answer.header("x-hanshu-timings").context("no timings")?;
            let timings: serde_json::Value = serde_json::from_str(timings)?;
            let micros = timings["handler_us"].as_u64().context("no handler_us")?;
            taken.push(Duration::from_micros(micros));
        }
        rounds.push(taken);
    }
    table.samples("one call at a time, its instance alone", &rounds.concat());
    let p50 = rounds.iter().map(|taken| median(taken).as_secs_f64() * 1e6);
    let name = "wasm, a fresh instance, p50".to_owned();
    Ok(Verdict { name, measured: Spread::of(p50.collect()), unit: "µs", bound: COST_US })
}

/// One caller, while four others have calls that never end by themselves.
fn beside(setup: &Setup, daemon: &Daemon, table: &mut Table) -> Result<Verdict> {
    let mut spinning = Vec::new();
    for _ in 0..SPINNING {
        let mut connection = Connection::open(daemon.address)?;
        let headers = "Content-Type: application/json\r\n";
        connection.send(&request("POST", &url("hello"), headers, br#"{"op":"busy"}"#))?;
        spinning.push(connection);
    }
    // All of them run before anything is measured.
    std::thread::sleep(Duration::from_millis(500));
    let subject = hello(daemon.address, &format!("{}hello", url("hello")), 1);
    let mut rounds = Vec::new();
    for _ in 0..setup.options.rounds {
        rounds.push(subject.run(setup.turn())?);
    }
    table.rounds(&format!("component, 1 connection, {SPINNING} others compute"), &rounds);
    let p99 = rounds.iter().map(|round| percentile(&round.latencies, 99).as_secs_f64() * 1e3);
    let name = format!("wasm, p99 beside {SPINNING} functions that compute for ever");
    Ok(Verdict { name, measured: Spread::of(p99.collect()), unit: "ms", bound: BESIDE_MS })
}

/// The component of the sandbox's tests, optimised.
fn component() -> Result<PathBuf> {
    let target = shell::root().join("target/guests");
    let mut cargo =
        shell::cargo("build --release --locked --target wasm32-wasip2 --lib --features proxy");
    cargo.arg("--target-dir").arg(&target);
    cargo.current_dir(shell::root().join("crates/sandbox/tests/guests"));
    shell::run(&mut cargo)?;
    Ok(target.join("wasm32-wasip2/release/guests.wasm"))
}

fn plain() -> Result<(Running, SocketAddr)> {
    shell::run(&mut shell::cargo("build --release --package xtask --example hello"))?;
    let mut command = shell::command(shell::root().join("target/release/examples/hello"));
    let (running, line) = Running::start_server(&mut command)?;
    let address = line.parse().with_context(|| format!("expected an address, got {line:?}"))?;
    Ok((running, address))
}
