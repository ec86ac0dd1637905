//! `bench cold`: the first call of a version that was never run, against the bare runtime with the same bootstrap and code.
//!
//! The subject is timed from the request sent to the answer read, sandbox included; the baseline from `exec` to the answer read,
//! with no sandbox around it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Setup;
use super::bare::Bare;
use super::daemon::{Api, Daemon};
use super::language::{Language, NODE, PYTHON};
use super::report::{Bound, Table, Verdict, millis};
use super::stats::{Pair, Round, interleave, median};
use crate::say::say;

/// Promised: p50 of a first call, by the bare runtime's.
const RATIO: Bound = Bound::AtMost(1.3);
/// Pairs that are run before any is timed: files come into the page cache.
const UNTIMED: usize = 3;
/// Pause before each sample: what the last one left behind is gone.
const PAUSE: Duration = Duration::from_millis(50);
/// Stages of the daemon's breakdown (`model::invocation::Timings`).
const STAGES: &[&str] =
    &["queue_us", "sandbox_us", "runtime_us", "code_us", "handler_us", "total_us"];

/// Measures both languages.
pub(crate) fn run(setup: &mut Setup) -> Result<Vec<Verdict>> {
    say!("bench cold: {} first calls each", setup.options.samples);
    let daemon = Daemon::start(&setup.hanshu, &setup.folder("cold")?)?;
    let mut table = Table::new(&["", "p50 ms", "p99 ms"]);
    let mut verdicts = Vec::new();
    let mut stages = Vec::new();
    for language in [&NODE, &PYTHON] {
        let mut bench = Bench::new(setup, &daemon, language)?;
        let pair = bench.measure(setup)?;
        table
            .samples(&format!("{} function, first call", language.name), &latencies(&pair.subject));
        table.samples("  bare runtime, exec to answer", &latencies(&pair.baseline));
        let title = format!("{}, first call by bare exec, p50", language.name);
        // Single samples make no ratios worth a name: the medians of both sides do.
        let pair = Pair { subject: merged(pair.subject), baseline: merged(pair.baseline) };
        verdicts.push(Verdict::latency_ratio(&title, &pair, RATIO));
        stages.extend(bench.stage_lines());
    }
    daemon.stop()?;
    table.print();
    stages.iter().for_each(|line| say!("{line}"));
    Ok(verdicts)
}

fn latencies(rounds: &[Round]) -> Vec<Duration> {
    super::stats::pooled(rounds)
}

fn merged(rounds: Vec<Round>) -> Vec<Round> {
    vec![Round { latencies: latencies(&rounds), elapsed: rounds.iter().map(|r| r.elapsed).sum() }]
}

fn sample(latency: Duration) -> Round {
    Round { latencies: vec![latency], elapsed: latency }
}

/// One language's measurement.
#[derive(Debug)]
struct Bench<'a> {
    language: &'a Language,
    api: Api,
    name: String,
    interpreter: PathBuf,
    folder: PathBuf,
    /// The daemon's breakdown of each timed call.
    timings: Vec<Value>,
    /// Each stage of the bare starts: until HELLO, until READY.
    starts: Vec<(Duration, Duration)>,
}

impl<'a> Bench<'a> {
    fn new(setup: &Setup, daemon: &Daemon, language: &'a Language) -> Result<Self> {
        let mut api = daemon.api()?;
        let interpreter = language.interpreter(&api.runtime_version(language)?)?;
        let folder = setup.folder(&format!("cold-{}", language.name))?;
        let name = format!("bench-{}", language.name);
        Ok(Self { language, api, name, interpreter, folder, timings: vec![], starts: vec![] })
    }

    fn measure(&mut self, setup: &mut Setup) -> Result<Pair> {
        for n in 0..UNTIMED {
            self.subject(&format!("untimed {n}"))?;
            self.baseline(setup, &format!("untimed {n}"))?;
        }
        self.timings.clear();
        self.starts.clear();
        let samples = setup.options.samples;
        let numbers = std::cell::Cell::new(0);
        let number = || numbers.replace(numbers.get() + 1).to_string();
        // Both closures need the whole bench; a cell lends it to one at a time.
        let bench = std::cell::RefCell::new((self, setup));
        interleave(
            samples,
            || bench.borrow_mut().0.subject(&number()),
            || {
                let (bench, setup) = &mut *bench.borrow_mut();
                bench.baseline(setup, &number())
            },
        )
    }

    /// Deploys new content and times its first call.
    fn subject(&mut self, mark: &str) -> Result<Round> {
        self.api.deploy(&self.name, self.language, mark)?;
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        let answer = self.api.hello(&self.name, "X-Hanshu-Timings: 1\r\n")?;
        let latency = start.elapsed();
        let timings = answer.header("x-hanshu-timings").context("the answer has no timings")?;
        let timings: Value = serde_json::from_str(timings).context("the timings are no JSON")?;
        if timings["cold"] != true {
            bail!("the first call of a new version was served by a warm instance");
        }
        self.timings.push(timings);
        Ok(sample(latency))
    }

    /// Starts the bare runtime on new content and times it until its first answer.
    fn baseline(&mut self, setup: &mut Setup, mark: &str) -> Result<Round> {
        write(&self.folder, self.language, mark)?;
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        let mut bare =
            Bare::start(&mut setup.slot, self.language, &self.interpreter, &self.folder)?;
        let answer = bare.call(b"{}")?;
        let latency = start.elapsed();
        self.starts.push((bare.start.hello, bare.start.ready));
        let answer: Value = serde_json::from_slice(&answer).context("the answer is no JSON")?;
        if answer["body"] != "Hello world" {
            bail!("the bare runtime answered {answer}");
        }
        Ok(sample(latency))
    }

    /// Medians of the stages on both sides.
    fn stage_lines(&self) -> Vec<String> {
        let stage = |name: &&str| {
            let micros = self.timings.iter().filter_map(|t| t[*name].as_u64());
            let median = median(&micros.map(Duration::from_micros).collect::<Vec<_>>());
            format!("{} {}", name.trim_end_matches("_us"), millis(median))
        };
        let function: Vec<_> = STAGES.iter().map(stage).collect();
        let hello: Vec<_> = self.starts.iter().map(|s| s.0).collect();
        let code: Vec<_> = self.starts.iter().map(|s| s.1.saturating_sub(s.0)).collect();
        let name = self.language.name;
        vec![
            format!("{name} function, stages, p50 ms: {}", function.join(", ")),
            format!(
                "{name} bare, stages, p50 ms: runtime {}, code {}",
                millis(median(&hello)),
                millis(median(&code))
            ),
        ]
    }
}

fn write(folder: &Path, language: &Language, mark: &str) -> Result<()> {
    let file = folder.join(language.file);
    std::fs::write(&file, language.hello(mark))
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_merge_into_one_round_with_their_median() {
        let rounds = [3, 1, 2].map(|ms| sample(Duration::from_millis(ms))).to_vec();
        let all = merged(rounds);
        assert!(matches!(&*all, [round] if median(&round.latencies) == Duration::from_millis(2)));
        assert!(matches!(&*all, [round] if round.elapsed == Duration::from_millis(6)));
    }
}
