//! `bench burst`: the first calls of many functions that were never run, all at once: how long until each is answered.
//!
//! Baseline, in the same run: the bare runtime executed as often, with as many at a time as there are processors, each from `exec` to its end with the same
//! handler called once; without sandbox, daemon or HTTP.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::Setup;
use super::daemon::{Daemon, url};
use super::http::{Connection, request};
use super::language::{Language, NODE, PYTHON};
use super::report::{Bound, Table, Verdict};
use super::stats::{Spread, median, percentile};
use crate::say::say;
use crate::shell;

/// Promised of 500: the last answer, in seconds.
const LAST_S: Bound = Bound::AtMost(4.0);
/// Between the deployments and the calls: the daemon is at rest.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures both languages.
pub(crate) fn run(setup: &mut Setup) -> Result<Vec<Verdict>> {
    let calls = setup.options.burst;
    say!("bench burst: first calls of {calls} functions at once");
    let mut table = Table::new(&["", "p50 ms", "p99 ms", "last ms", "all ms"]);
    let mut verdicts = Vec::new();
    for language in [&NODE, &PYTHON] {
        let daemon =
            Daemon::start(&setup.hanshu, &setup.folder(&format!("burst-{}", language.name))?)?;
        let mut api = daemon.api()?;
        let version = api.runtime_version(language)?;
        for n in 0..calls {
            api.deploy(&format!("bench-{n}"), language, &n.to_string())?;
        }
        std::thread::sleep(SETTLE);
        let burst = Burst::run(&daemon, calls)?;
        let ways = api.starts()?;
        daemon.stop()?;
        let bare = bare(setup, language, &version, calls)?;
        burst.row(&mut table, language);
        let name = format!("  bare runtime, {} at a time", processors());
        let dash = || "–".to_owned();
        table.row(vec![name, dash(), dash(), dash(), whole_millis(bare)]);
        say!("{}: {} of {calls} answered; starts: {ways}", language.name, burst.answered);
        if burst.answered < calls {
            say!("{}: {}", language.name, burst.refusal);
        }
        verdicts.extend(burst.verdicts(language, calls, bare));
    }
    table.print();
    Ok(verdicts)
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn whole_millis(d: Duration) -> String {
    format!("{:.0}", d.as_secs_f64() * 1e3)
}

/// What came of one.
#[derive(Debug)]
struct Burst {
    /// Of those that were answered with the hello.
    latencies: Vec<Duration>,
    answered: usize,
    /// The first answer that was another one.
    refusal: String,
    elapsed: Duration,
}

impl Burst {
    /// Calls `bench-0` and so on, each on a connection of its own that is open before.
    fn run(daemon: &Daemon, calls: usize) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot make an epoll")?;
        let mut open = Vec::with_capacity(calls);
        for (n, index) in (0..calls).zip(0_u64..) {
            let connection = Connection::open(daemon.address)?;
            let data = epoll::EventData::new_u64(index);
            epoll::add(&epoll, connection.stream(), data, epoll::EventFlags::IN)?;
            open.push((connection, request("GET", &url(&format!("bench-{n}")), "", b"")));
        }
        let start = Instant::now();
        for (connection, request) in &mut open {
            connection.send(request)?;
        }
        let mut burst = Self {
            latencies: Vec::with_capacity(calls),
            answered: 0,
            refusal: String::new(),
            elapsed: Duration::ZERO,
        };
        let (mut events, mut left) = (Vec::with_capacity(calls), calls);
        while left > 0 {
            epoll::wait(&epoll, spare_capacity(&mut events), None).context("cannot wait")?;
            for event in events.drain(..) {
                let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                let (connection, _) = open.get_mut(index).context("an event of nobody")?;
                if let Some(frame) = connection.receive_some()? {
                    left -= 1;
                    burst.take(frame.status, connection.text(), start.elapsed());
                }
            }
        }
        burst.elapsed = start.elapsed();
        Ok(burst)
    }

    fn take(&mut self, status: u16, text: String, after: Duration) {
        if status == 200 && text.ends_with("Hello world") {
            self.answered += 1;
            self.latencies.push(after);
        } else if self.refusal.is_empty() {
            self.refusal = text;
        }
    }

    fn row(&self, table: &mut Table, language: &Language) {
        let last = percentile(&self.latencies, 100);
        let times = [median(&self.latencies), percentile(&self.latencies, 99), last, self.elapsed];
        let mut cells = vec![format!("{} functions, first calls at once", language.name)];
        cells.extend(times.map(whole_millis));
        table.row(cells);
    }

    fn verdicts(&self, language: &Language, calls: usize, bare: Duration) -> Vec<Verdict> {
        let name = language.name;
        let single = |name: String, value: f64, unit, bound| Verdict {
            name,
            measured: Spread::of(vec![value]),
            unit,
            bound,
        };
        let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        let answered = count(self.answered) / count(calls);
        vec![
            single(format!("{name}, answered"), answered, "of all", Bound::AtLeast(1.0)),
            single(format!("{name}, last answer"), self.elapsed.as_secs_f64(), "s", LAST_S),
            single(
                format!("{name}, all answers, by the bare runtime's"),
                self.elapsed.as_secs_f64() / bare.as_secs_f64(),
                "×",
                Bound::AtMost(1.0),
            ),
        ]
    }
}

/// How long `calls` executions of the bare runtime take.
fn bare(setup: &Setup, language: &Language, version: &str, calls: usize) -> Result<Duration> {
    let folder = setup.folder(&format!("burst-bare-{}", language.name))?;
    std::fs::write(folder.join(language.file), language.hello("bare")?)?;
    let interpreter = language.interpreter(version)?;
    let next = AtomicUsize::new(0);
    let execute = || -> Result<()> {
        while next.fetch_add(1, Ordering::Relaxed) < calls {
            let mut command = shell::command(&interpreter);
            let said = shell::ask(command.args(language.once).current_dir(&folder));
            if !said.is_some_and(|said| said.contains("Hello world")) {
                bail!("the bare runtime did not answer");
            }
        }
        Ok(())
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..processors()).map(|_| scope.spawn(execute)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(_) => bail!("a thread has panicked"),
        })
    })?;
    Ok(start.elapsed())
}
