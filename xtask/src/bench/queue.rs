//! `bench queue`: how fast asynchronous calls are accepted and settled, with few and with very many that wait, and how soon an accepted call starts.
//!
//! The queue is asked by an example of the store's crate (`crates/store/examples/queue.rs`), for no arrow leads from here to there: 64 callers who each wait for their answer, beside whoever leases
//! and ends what they enqueue, in a queue that is empty otherwise and in turn in one in which a million messages wait. Each round is set against the pages that the disk writes through one by one
//! just before. The start is a real daemon's.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Setup;
use super::daemon::{Api, Daemon};
use super::example::{self, Line};
use super::language::NODE;
use super::report::{Bound, Table, Verdict};
use super::stats::{Spread, median, percentile};
use crate::say::say;
use crate::shell;

/// Promised: calls a second that are accepted, and as many settled at the same time.
const RATE: Bound = Bound::AtLeast(30_000.0);
/// Promised: p99 of accepting one meanwhile, in milliseconds.
const ACCEPT_MS: Bound = Bound::AtMost(8.0);
/// Promised: calls accepted while very many wait, by those while none does.
const BESIDE_MANY: Bound = Bound::AtLeast(0.8);
/// Promised: memory that those take, in MB (10^6 bytes).
const MANY_MB: Bound = Bound::AtMost(400.0);
/// Promised: from the answer 202 to the begin of the handler, one call at a time, p50 in milliseconds.
const START_MS: Bound = Bound::AtMost(3.0);
/// Calls whose start is timed for each of `--samples`.
const STARTS_EACH: usize = 10;
/// Between two of them: the function is idle, and stands still by then.
const PAUSE: Duration = Duration::from_millis(20);
/// Answers when it began, in milliseconds since 1970.
const WHEN: &str = "exports.handler = async () => performance.timeOrigin + performance.now();\n";
const FUNCTION: &str = "bench-queue";

/// Builds what it needs, runs it and judges.
pub(crate) fn run(setup: &Setup) -> Result<Vec<Verdict>> {
    let (rounds, backlog) = (setup.options.rounds, setup.options.backlog);
    say!("bench queue: 64 callers, {rounds} rounds without and with {backlog} waiting calls");
    let mut queue = example::program("store", "queue")?;
    queue.arg(setup.folder("queue")?).arg(rounds.to_string());
    queue.arg(setup.options.seconds.to_string()).arg(backlog.to_string());
    let figures = Figures::parse(&shell::capture(&mut queue)?)?;
    figures.print();
    let mut verdicts = figures.verdicts();
    let starts = starts(setup)?;
    let mut table = Table::new(&["", "p50 ms", "p99 ms"]);
    table.samples("from 202 to the begin of an idle function", &starts);
    table.print();
    verdicts.push(Verdict {
        name: "an idle function's call, from 202 to its begin, p50".into(),
        measured: Spread {
            median: millis(median(&starts)),
            low: millis(percentile(&starts, 1)),
            high: millis(percentile(&starts, 99)),
        },
        unit: "ms",
        bound: START_MS,
    });
    Ok(verdicts)
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// The rounds of one kind of queue, in the order they were run.
#[derive(Debug, Default)]
struct Rounds {
    enqueued: Vec<f64>,
    ended: Vec<f64>,
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    /// Calls accepted in the time of one page written through.
    by_write: Vec<f64>,
    /// Processor time of the thread that writes, in microseconds a call: accepted, leased, settled.
    writer_us: Vec<f64>,
}

/// What the example printed.
#[derive(Debug, Default)]
struct Figures {
    /// `empty` and `full`.
    rounds: BTreeMap<String, Rounds>,
    /// Memory of what waits, in MB.
    backlog_mb: f64,
    backlog: f64,
    fill_s: f64,
    /// How long it took to open the store with what waits.
    open_ms: f64,
}

impl Figures {
    fn parse(lines: &str) -> Result<Self> {
        let mut figures = Self::default();
        for line in Line::read(lines) {
            let line = line?;
            let number = |field| line.number(field);
            match line.text("what")? {
                "fill" => {
                    figures.backlog_mb = number("bytes")? / 1e6;
                    (figures.backlog, figures.fill_s) = (number("messages")?, number("ms")? / 1e3);
                }
                "open" => figures.open_ms = number("ms")?,
                kind => {
                    let rounds = figures.rounds.entry(kind.to_owned()).or_default();
                    let seconds = number("us")? / 1e6;
                    let enqueued = number("enqueued")? / seconds;
                    rounds.enqueued.push(enqueued);
                    rounds.ended.push(number("ended")? / seconds);
                    rounds.p50_ms.push(number("p50_us")? / 1e3);
                    rounds.p99_ms.push(number("p99_us")? / 1e3);
                    rounds.by_write.push(enqueued / number("writes_per_second")?);
                    rounds.writer_us.push(number("writer_ns")? / 1e3);
                }
            }
        }
        for kind in ["empty", "full"] {
            if !figures.rounds.contains_key(kind) {
                bail!("the queue that is {kind} was not measured");
            }
        }
        Ok(figures)
    }

    fn of(&self, kind: &str, figure: impl Fn(&Rounds) -> &Vec<f64>) -> Spread {
        Spread::of(self.rounds.get(kind).map(|rounds| figure(rounds).clone()).unwrap_or_default())
    }

    fn print(&self) {
        let headings = [
            "",
            "accepted/s",
            "settled/s",
            "p50 ms",
            "p99 ms",
            "accepted per page written through",
            "writer µs a call",
        ];
        let mut table = Table::new(&headings);
        for (kind, name) in [("empty", "nothing else waits"), ("full", "very many wait")] {
            table.row(vec![
                name.to_owned(),
                format!("{:.0}", self.of(kind, |r| &r.enqueued).median),
                format!("{:.0}", self.of(kind, |r| &r.ended).median),
                format!("{:.1}", self.of(kind, |r| &r.p50_ms).median),
                format!("{:.1}", self.of(kind, |r| &r.p99_ms).median),
                format!("{:.1}", self.of(kind, |r| &r.by_write).median),
                format!("{:.1}", self.of(kind, |r| &r.writer_us).median),
            ]);
        }
        table.print();
        let Self { backlog, fill_s, open_ms, .. } = self;
        say!(
            "{backlog} calls were accepted in {fill_s:.1} s, 500 at a time; a store with them opens in {open_ms} ms"
        );
    }

    fn verdicts(&self) -> Vec<Verdict> {
        let verdict = |name: &str, measured, unit, bound| {
            let name = name.to_owned();
            Verdict { name, measured, unit, bound }
        };
        let ratio = match (self.rounds.get("full"), self.rounds.get("empty")) {
            (Some(full), Some(empty)) => {
                full.enqueued.iter().zip(&empty.enqueued).map(|(f, e)| f / e).collect()
            }
            _ => Vec::new(),
        };
        vec![
            verdict("calls accepted", self.of("empty", |r| &r.enqueued), "a second", RATE),
            verdict("calls settled meanwhile", self.of("empty", |r| &r.ended), "a second", RATE),
            verdict("accepting one, p99", self.of("empty", |r| &r.p99_ms), "ms", ACCEPT_MS),
            verdict("accepted while very many wait", Spread::of(ratio), "×", BESIDE_MANY),
            verdict("memory of those", Spread::of(vec![self.backlog_mb]), "MB", MANY_MB),
        ]
    }
}

/// How long after the 202 of its call an idle function began. Both are times of this host's clock; one that began before its caller had the answer waited for nothing.
fn starts(setup: &Setup) -> Result<Vec<Duration>> {
    let daemon = Daemon::start(&setup.hanshu, &setup.folder("queue-start")?)?;
    let mut api = daemon.api()?;
    let config = json!({ "runtime": NODE.runtime, "handler": NODE.handler });
    api.deploy_code(FUNCTION, &NODE, WHEN.as_bytes(), &config)?;
    start(&mut api)?;
    let samples = setup.options.samples * STARTS_EACH;
    let mut all = Vec::with_capacity(samples);
    for _ in 0..samples {
        std::thread::sleep(PAUSE);
        all.push(start(&mut api)?);
    }
    daemon.stop()?;
    Ok(all)
}

fn start(api: &mut Api) -> Result<Duration> {
    let accepted = api.invoke(FUNCTION, "X-Hanshu-Invocation: async\r\n")?;
    let at = SystemTime::UNIX_EPOCH.elapsed().context("the clock is before 1970")?;
    if accepted.status != 202 {
        bail!("an asynchronous call was answered {}: {}", accepted.status, accepted.text());
    }
    let id: Value = serde_json::from_slice(&accepted.body)?;
    let id = id["request_id"].as_str().context("202 has no request id")?;
    let call = api.call_ended(id)?;
    let began = call["result"].as_f64().with_context(|| format!("it has no time: {call}"))?;
    Ok(Duration::from_secs_f64((began / 1e3 - at.as_secs_f64()).max(0.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_example_prints_is_judged() {
        let round = |what: &str, enqueued: u32| {
            json!({
                "what": what, "enqueued": enqueued, "ended": 60_000, "us": 2_000_000, "p50_us": 1_500,
                "p99_us": 4_000, "writes_per_second": 5_000.0, "writer_ns": 20_000,
            })
        };
        let fill = json!({ "what": "fill", "messages": 10, "ms": 1, "bytes": 20_000_000 });
        let lines = [fill, round("empty", 70_000), round("full", 63_000)];
        let lines = lines.map(|line| line.to_string()).join("\n");
        let figures = Figures::parse(&lines).unwrap();
        figures.print();
        let measured: Vec<_> = figures.verdicts().iter().map(|v| v.measured.median).collect();
        for (figure, expected) in measured.iter().zip([35_000.0, 30_000.0, 4.0, 0.9, 20.0]) {
            assert!((figure - expected).abs() < 1e-9, "{measured:?}");
        }
        assert!(figures.verdicts().iter().all(Verdict::met));
        let half = lines.rsplit_once('\n').unwrap().0;
        assert!(Figures::parse(half).unwrap_err().to_string().contains("full"));
    }
}
