//! `bench swap`: new code, and moves of an alias, while a constant load goes on.
//!
//! The load is the same with and without swaps, in turn. No call may fail; what is promised of the slowest call is relative to the load without swaps, and
//! new code has to answer from a second after the acknowledgement on at the latest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::Setup;
use super::daemon::{Api, Daemon, url};
use super::http::{Connection, request};
use super::language::NODE;
use super::paced::{Load, Paced, Slowest};
use super::report::{Bound, Table, Verdict, millis};
use super::stats::{Pair, Round, Spread, median, permille, pooled};
use crate::say::say;

/// Promised: the slowest call while swaps go on, by p99.9 of the same load without.
const SLOWEST_RATIO: Bound = Bound::AtMost(2.0);
/// Promised: seconds from the acknowledgement of a swap to the first answer of the new code.
const NEW_CODE_S: Bound = Bound::AtMost(1.0);
/// Promised: calls per second meanwhile.
const RATE: Bound = Bound::AtLeast(2_000.0);
/// Calls per second that are due.
const PER_SECOND: u32 = 2_200;
const CONNECTIONS: usize = 8;
/// A swap begins so long after the one before, or when that is over. New code takes about as long; an alias could be moved some hundred times a second, and
/// what that costs is the processor time of as many requests and writes to disk.
const SWAP_EVERY: Duration = Duration::from_millis(50);
/// Longest wait for new code.
const NEW_CODE_WAIT: Duration = Duration::from_secs(10);
/// Use is reported once a second.
const REPORT: Duration = Duration::from_millis(1_500);
/// Each call is asked where its time went.
const TIMED: &str = "X-Hanshu-Timings: 1\r\n";
const FUNCTION: &str = "bench-swap";
const ALIAS: &str = "bench-swap:live";

/// What is swapped.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Code,
    Alias,
}

/// Measures both kinds.
pub(crate) fn run(setup: &Setup) -> Result<Vec<Verdict>> {
    let swaps = setup.options.swaps;
    say!(
        "bench swap: {swaps} swaps of each kind, {PER_SECOND} calls/s on {CONNECTIONS} connections"
    );
    let daemon = Daemon::start(&setup.hanshu, &setup.folder("swap")?)?;
    let mut table = Table::new(&["", "p50 ms", "p99 ms", "p99.9 ms", "slowest ms", "requests/s"]);
    let mut verdicts = Vec::new();
    for (kind, name) in [(Kind::Code, "new code"), (Kind::Alias, "moved alias")] {
        let mut swapper = Swapper::new(&daemon, kind)?;
        let Measured { pair, cold, slowest } = measure(setup, &daemon, &mut swapper)?;
        say!("{name}: {cold} of {} calls waited for a start", pooled(&pair.subject).len());
        say!("{name}: the slowest calls in ms, and where the daemon says their time went");
        slowest.iter().for_each(|(took, timings)| say!("  {} {timings}", millis(*took)));
        row(&mut table, &format!("load with swaps: {name}"), &pair.subject);
        row(&mut table, "  without", &pair.baseline);
        verdicts.extend(swapper.verdicts(name, &pair));
    }
    daemon.stop()?;
    table.print();
    Ok(verdicts)
}

/// Load with and without swaps, in turn.
#[derive(Debug, Default)]
struct Measured {
    pair: Pair,
    /// Calls that waited for a start while swaps went on.
    cold: u64,
    /// Of those with swaps.
    slowest: Slowest,
}

fn measure(setup: &Setup, daemon: &Daemon, swapper: &mut Swapper) -> Result<Measured> {
    let rounds = setup.options.rounds;
    let load = Paced {
        address: daemon.address,
        request: request("GET", &url(swapper.target), TIMED, b""),
        connections: CONNECTIONS,
        per_second: PER_SECOND,
    };
    let rest = || {
        std::thread::sleep(setup.turn());
        Ok(())
    };
    // Once unmeasured: instances start, compilers warm up.
    under(&load, rest)?;
    let Measured { mut pair, mut cold, mut slowest } = Measured::default();
    for round in 0..rounds {
        pair.baseline.push(under(&load, rest)?.round);
        let swaps =
            setup.options.swaps * (round + 1) / rounds - setup.options.swaps * round / rounds;
        let before = swapper.cold_starts()?;
        let swapped = under(&load, || (0..swaps).try_for_each(|_| swapper.swap()))?;
        pair.subject.push(swapped.round);
        slowest.join(swapped.slowest);
        cold += swapper.cold_starts()? - before;
    }
    Ok(Measured { pair, cold, slowest })
}

/// Runs `work` under the load.
fn under(load: &Paced, work: impl FnOnce() -> Result<()>) -> Result<Load> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| load.run(&stop));
        let worked = work();
        stop.store(true, Ordering::Relaxed);
        let load = running.join().map_err(|_| anyhow::anyhow!("the load's thread panicked"))?;
        worked?;
        load.context("a call failed")
    })
}

fn row(table: &mut Table, name: &str, rounds: &[Round]) {
    let all = pooled(rounds);
    let rate = Spread::of(rounds.iter().map(Round::rate).collect());
    table.row(vec![
        name.to_owned(),
        millis(median(&all)),
        millis(permille(&all, 990)),
        millis(permille(&all, 999)),
        millis(permille(&all, 1000)),
        format!("{:.0}", rate.median),
    ]);
}

/// Swaps one function to and fro, and waits for what is new.
#[derive(Debug)]
struct Swapper {
    api: Api,
    probe: Connection,
    kind: Kind,
    /// What is called.
    target: &'static str,
    count: usize,
    /// From each acknowledgement to the new code's first answer.
    answered: Vec<Duration>,
    /// From each request to its acknowledgement.
    acknowledged: Vec<Duration>,
}

impl Swapper {
    fn new(daemon: &Daemon, kind: Kind) -> Result<Self> {
        let mut api = daemon.api()?;
        let config = json!({ "runtime": NODE.runtime, "handler": NODE.handler });
        let target = match kind {
            Kind::Code => {
                api.deploy_code(FUNCTION, &NODE, source(0).as_bytes(), &config)?;
                FUNCTION
            }
            Kind::Alias => {
                for mark in 1..=2 {
                    api.put_code(FUNCTION, &NODE, &source(mark), true)?;
                }
                api.put_alias(FUNCTION, "live", 1)?;
                ALIAS
            }
        };
        let probe = Connection::open(daemon.address)?;
        let (answered, acknowledged) = (Vec::new(), Vec::new());
        Ok(Self { api, probe, kind, target, count: 0, answered, acknowledged })
    }

    /// One swap. Code is new each time, versions alternate.
    fn swap(&mut self) -> Result<()> {
        self.count += 1;
        let begin = Instant::now();
        let mark = match self.kind {
            Kind::Code => {
                let mark = self.count + 10;
                self.api.put_code(FUNCTION, &NODE, &source(mark), false)?;
                mark
            }
            Kind::Alias => {
                let version = 1 + self.count % 2;
                self.api.put_alias(FUNCTION, "live", version)?;
                version
            }
        };
        let acknowledged = Instant::now();
        self.acknowledged.push(acknowledged - begin);
        let (ask, expected) = (request("GET", &url(self.target), "", b""), mark.to_string());
        while acknowledged.elapsed() < NEW_CODE_WAIT {
            let answer = self.probe.call(&ask)?;
            if answer.text() == expected {
                self.answered.push(acknowledged.elapsed());
                std::thread::sleep(SWAP_EVERY.saturating_sub(begin.elapsed()));
                return Ok(());
            }
        }
        bail!("{expected} does not answer within {} s", NEW_CODE_WAIT.as_secs())
    }

    /// Calls that waited for a start so far.
    fn cold_starts(&mut self) -> Result<u64> {
        std::thread::sleep(REPORT);
        self.api.cold_starts(FUNCTION)
    }

    fn verdicts(&self, name: &str, pair: &Pair) -> Vec<Verdict> {
        let slowest = permille(&pooled(&pair.subject), 1000).as_secs_f64();
        let plain = permille(&pooled(&pair.baseline), 999).as_secs_f64();
        let first = permille(&self.answered, 1000).as_secs_f64();
        let rate = Spread::of(pair.subject.iter().map(Round::rate).collect());
        let elapsed = pair.subject.iter().map(|round| round.elapsed).sum();
        let swaps = Round { latencies: self.acknowledged.clone(), elapsed };
        say!(
            "{name}: {} swaps, {:.1} a second; acknowledged after {} ms (p50), the new code answers {} ms after that (p50)",
            self.count,
            swaps.rate(),
            millis(median(&self.acknowledged)),
            millis(median(&self.answered)),
        );
        let verdict = |what: &str, measured, unit, bound| Verdict {
            name: format!("swap, {name}, {what}"),
            measured,
            unit,
            bound,
        };
        let one = |value| Spread::of(vec![value]);
        vec![
            verdict(
                "slowest call by p99.9 without swaps",
                one(slowest / plain),
                "×",
                SLOWEST_RATIO,
            ),
            verdict("slowest first answer of new code", one(first), "s", NEW_CODE_S),
            verdict("calls meanwhile", rate, "/s", RATE),
        ]
    }
}

/// Code that answers with its mark.
fn source(mark: usize) -> String {
    format!(
        "exports.handler = (event, context, callback) => callback(null, {{ statusCode: 200, headers: {{}}, body: '{mark}' }});\n"
    )
}
