//! `bench cold`: the first call of a function that was never run, from the request sent to the answer read, sandbox included: with a pre-started instance
//! by a zygote, and without either, against the bare runtime with the same bootstrap and code, from `exec` to the answer read.
//!
//! Three daemons, one that pre-starts, one that forks every instance and one that does neither, and the bare runtime take turns, sample by sample. Where the daemon is
//! not root nothing is forked, and no row says so.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Setup;
use super::bare::{Bare, Program};
use super::daemon::{Api, Daemon};
use super::language::{JAVA, Language, NODE, PYTHON};
use super::report::{Bound, Table, Verdict, millis};
use super::stats::{Pair, Round, Spread, median, percentile};
use crate::say::say;

/// Promised: p50 of a first call without a pre-started instance, by the bare runtime's.
const RATIO: Bound = Bound::AtMost(1.3);
/// Promised: p50 of a first call in milliseconds, with a pre-started instance, and by a zygote.
const PROMISED_MS: [(&Language, Bound, Bound); 3] = [
    (&NODE, Bound::AtMost(2.0), Bound::AtMost(9.0)),
    (&PYTHON, Bound::AtMost(2.5), Bound::AtMost(8.0)),
    (&JAVA, Bound::AtMost(4.0), Bound::AtMost(11.0)),
];
/// Turns that are run before any is timed: files come into the page cache.
const UNTIMED: usize = 3;
/// Pause before each sample: what the last one left behind is gone, and instances lie ready again. A virtual machine needs longer to be ready.
const PAUSE: Duration = Duration::from_millis(150);
const JAVA_PAUSE: Duration = Duration::from_millis(600);
/// Deployments for one sample, until a pre-started instance serves the first call: on a busy machine none may lie ready.
const TRIES: usize = 10;
/// As many until there is a zygote, which is tried thoroughly before it is used.
const ZYGOTE_TRIES: usize = 200;
/// What switches pre-started instances off.
const PLAIN: &[(&str, &str)] = &[("HANSHU_SANDBOX_PRESTART_MEMORY_MB", "0")];
/// What has every instance forked.
const FORKED: &[(&str, &str)] = &[("HANSHU_SANDBOX_ZYGOTE", "alone")];
/// Stages of the daemon's breakdown (`model::invocation::Timings`).
const STAGES: &[&str] =
    &["queue_us", "sandbox_us", "runtime_us", "code_us", "handler_us", "total_us"];

/// Measures all languages.
pub(crate) fn run(setup: &mut Setup) -> Result<Vec<Verdict>> {
    say!("bench cold: {} first calls each", setup.options.samples);
    let ahead = Daemon::start(&setup.hanshu, &setup.folder("cold")?)?;
    let forked = Daemon::start_with(&setup.hanshu, &setup.folder("cold-forked")?, FORKED)?;
    let plain = Daemon::start_with(&setup.hanshu, &setup.folder("cold-plain")?, PLAIN)?;
    let mut table = Table::new(&["", "p50 ms", "p99 ms"]);
    let mut verdicts = Vec::new();
    let mut stages = Vec::new();
    for (language, ahead_ms, forked_ms) in PROMISED_MS {
        let mut bench = Bench::new(setup, [&ahead, &forked, &plain], language)?;
        bench.measure(setup)?;
        verdicts.extend(bench.verdicts(ahead_ms, forked_ms));
        stages.extend(bench.stage_lines());
        bench.rows(&mut table);
    }
    ahead.stop()?;
    forked.stop()?;
    plain.stop()?;
    table.print();
    stages.iter().for_each(|line| say!("{line}"));
    Ok(verdicts)
}

/// All latencies as one round: single samples make no ratios worth a name, the medians of both sides do.
fn merged(latencies: &[Duration]) -> Vec<Round> {
    vec![Round { latencies: latencies.to_vec(), elapsed: latencies.iter().sum() }]
}

fn pause(language: &Language) -> Duration {
    if language.name == JAVA.name { JAVA_PAUSE } else { PAUSE }
}

/// First calls of one daemon.
#[derive(Debug)]
struct Side {
    api: Api,
    /// How the daemon names the start that is to be measured.
    path: &'static str,
    tries: usize,
    latencies: Vec<Duration>,
    /// The daemon's breakdown of each.
    timings: Vec<Value>,
    /// First calls that were served another way.
    missed: usize,
}

impl Side {
    fn new(daemon: &Daemon, path: &'static str, tries: usize) -> Result<Self> {
        let (latencies, timings) = (Vec::new(), Vec::new());
        Ok(Self { api: daemon.api()?, path, tries, latencies, timings, missed: 0 })
    }

    /// Deploys a new function and times its first call.
    fn sample(&mut self, language: &Language, mark: &str) -> Result<()> {
        for attempt in 0..self.tries {
            let name = format!("bench-{}-{}-{attempt}", language.name, mark.replace(' ', "-"));
            self.api.deploy(&name, language, &format!("{mark} {attempt}"))?;
            std::thread::sleep(pause(language));
            let start = Instant::now();
            let answer = self.api.hello(&name, "X-Hanshu-Timings: 1\r\n")?;
            let latency = start.elapsed();
            let timings = answer.header("x-hanshu-timings").context("the answer has no timings")?;
            let timings: Value =
                serde_json::from_str(timings).context("the timings are no JSON")?;
            if timings["cold"] != true {
                bail!("the first call of a new function was served by a warm instance");
            }
            if timings["start"] == self.path {
                self.latencies.push(latency);
                self.timings.push(timings);
                return Ok(());
            }
            self.missed += 1;
        }
        bail!("none of {} first calls came up as {}: see the daemon's log", self.tries, self.path)
    }

    fn clear(&mut self) {
        self.latencies.clear();
        self.timings.clear();
        self.missed = 0;
    }

    /// Medians of the stages.
    fn stages(&self) -> String {
        let stage = |name: &&str| {
            let micros = self.timings.iter().filter_map(|t| t[*name].as_u64());
            let median = median(&micros.map(Duration::from_micros).collect::<Vec<_>>());
            format!("{} {:.2}", name.trim_end_matches("_us"), median.as_secs_f64() * 1e3)
        };
        STAGES.iter().map(stage).collect::<Vec<_>>().join(", ")
    }
}

/// One language's measurement.
#[derive(Debug)]
struct Bench<'a> {
    language: &'a Language,
    ahead: Side,
    /// `None` where nothing is forked.
    forked: Option<Side>,
    plain: Side,
    program: Program<'a>,
    folder: PathBuf,
    bare: Vec<Duration>,
    /// Each stage of the bare starts: until HELLO, until READY.
    starts: Vec<(Duration, Duration)>,
}

impl<'a> Bench<'a> {
    fn new(
        setup: &Setup,
        [ahead, forked, plain]: [&Daemon; 3],
        language: &'a Language,
    ) -> Result<Self> {
        let mut ahead = Side::new(ahead, "pre-started", TRIES)?;
        let program = Program::new(language, &ahead.api.runtime_version(language)?)?;
        let folder = setup.folder(&format!("cold-{}", language.name))?;
        let plain = Side::new(plain, "exec", TRIES)?;
        let mut forked = Some(Side::new(forked, "zygote", ZYGOTE_TRIES)?);
        if !ahead.api.has_feature("zygote")? {
            forked = None;
        }
        Ok(Self { language, ahead, forked, plain, program, folder, bare: vec![], starts: vec![] })
    }

    fn measure(&mut self, setup: &mut Setup) -> Result<()> {
        for n in 0..UNTIMED {
            self.turn(setup, &format!("untimed {n}"))?;
        }
        self.ahead.clear();
        self.forked.iter_mut().for_each(Side::clear);
        self.plain.clear();
        self.bare.clear();
        self.starts.clear();
        (0..setup.options.samples).try_for_each(|n| self.turn(setup, &n.to_string()))
    }

    fn turn(&mut self, setup: &mut Setup, mark: &str) -> Result<()> {
        self.ahead.sample(self.language, mark)?;
        if let Some(forked) = &mut self.forked {
            forked.sample(self.language, mark)?;
        }
        self.plain.sample(self.language, mark)?;
        self.baseline(setup, mark)
    }

    /// Starts the bare runtime on new content and times it until its first answer.
    fn baseline(&mut self, setup: &mut Setup, mark: &str) -> Result<()> {
        let file = self.folder.join(self.language.file);
        std::fs::write(&file, self.language.hello(mark)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        let mut bare = Bare::start(&mut setup.slot, &self.program, &self.folder)?;
        let answer = bare.call(b"{}")?;
        self.bare.push(start.elapsed());
        self.starts.push((bare.start.hello, bare.start.ready));
        let answer: Value = serde_json::from_slice(&answer).context("the answer is no JSON")?;
        if answer["body"] != "Hello world" {
            bail!("the bare runtime answered {answer}");
        }
        Ok(())
    }

    fn verdicts(&self, ahead_ms: Bound, forked_ms: Bound) -> Vec<Verdict> {
        let name = self.language.name;
        let p50 = |side: &Side, bound| Verdict {
            name: format!("{name}, first call, {}, p50", side.path),
            measured: Spread::of(vec![median(&side.latencies).as_secs_f64() * 1e3]),
            unit: "ms",
            bound,
        };
        let pair = Pair { subject: merged(&self.plain.latencies), baseline: merged(&self.bare) };
        let mut verdicts = vec![p50(&self.ahead, ahead_ms)];
        verdicts.extend(self.forked.iter().map(|side| p50(side, forked_ms)));
        verdicts.push(Verdict::latency_ratio(
            &format!("{name}, first call, exec, by bare exec, p50"),
            &pair,
            RATIO,
        ));
        verdicts
    }

    fn rows(&self, table: &mut Table) {
        let name = self.language.name;
        table.samples(&format!("{name} function, first call, pre-started"), &self.ahead.latencies);
        if let Some(forked) = &self.forked {
            table.samples(&format!("{name} function, first call, zygote"), &forked.latencies);
        }
        table.samples(&format!("{name} function, first call, exec"), &self.plain.latencies);
        table.samples("  bare runtime, exec to answer", &self.bare);
    }

    /// Medians of the stages on all sides.
    fn stage_lines(&self) -> Vec<String> {
        let hello: Vec<_> = self.starts.iter().map(|s| s.0).collect();
        let code: Vec<_> = self.starts.iter().map(|s| s.1.saturating_sub(s.0)).collect();
        let (name, ahead) = (self.language.name, &self.ahead);
        let forked = self.forked.iter();
        let forked = forked.map(|f| format!("{name} zygote, stages, p50 ms: {}", f.stages()));
        let mut lines: Vec<_> = forked.collect();
        lines.extend([
            format!(
                "{name} pre-started, stages, p50 ms: {}; {} misses",
                ahead.stages(),
                ahead.missed
            ),
            format!(
                "{name} pre-started, the fastest tenth: {} ms, which other work on the machine hardly touches",
                millis(percentile(&ahead.latencies, 10))
            ),
            format!("{name} exec, stages, p50 ms: {}", self.plain.stages()),
            format!(
                "{name} bare, stages, p50 ms: runtime {}, code {}",
                millis(median(&hello)),
                millis(median(&code))
            ),
        ]);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_merge_into_one_round_with_their_median() {
        let all = merged(&[3, 1, 2].map(Duration::from_millis));
        assert!(matches!(&*all, [round] if median(&round.latencies) == Duration::from_millis(2)));
        assert!(matches!(&*all, [round] if round.elapsed == Duration::from_millis(6)));
    }
}
