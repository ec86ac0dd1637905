//! `bench sandbox`: what the jail adds to the start of a static binary, step by step, and whether starts and stops in a row stay fast and leave
//! nothing behind.
//!
//! The processes are started by an example of the sandbox crate (`crates/sandbox/examples/starts`), for no arrow leads from here to there: it
//! sends its static binary through the same door as functions, starts it bare in turn, and prints a JSON object a line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Setup;
use super::report::{Bound, Table, Verdict, micros};
use super::stats::{Spread, median, percentile};
use crate::say::say;
use crate::shell;

/// Promised: what the jail adds to the start of a static binary, at the median, in milliseconds.
const ADDED_MS: Bound = Bound::AtMost(1.3);
/// Promised: starts and stops a second, one after the other.
const RATE: Bound = Bound::AtLeast(200.0);
/// Promised: the last of a row by its first, at the mean.
const SLOWER: Bound = Bound::AtMost(1.2);
/// Promised: what is there after a row beyond what was there before it.
const LEFT: Bound = Bound::AtMost(0.0);
/// Promised: until a frozen instance goes on, at the median, in milliseconds.
const THAW_MS: Bound = Bound::AtMost(0.2);
/// Starts and stops in a row.
const ROW: usize = 500;
/// How many of them are the first, and how many the last.
const END: usize = 100;
/// Turns for each of the samples that the benches are asked for: a start is short.
const TURNS_PER_SAMPLE: usize = 10;
/// Steps of a start, in their order (`crates/sandbox/src/jail/steps.rs`), and what they are.
const STEPS: &[(&str, &str)] = &[
    ("group", "control group, limits"),
    ("ask", "descriptors, request"),
    ("reach", "request sent, spawner wakes up"),
    ("read", "request read"),
    ("clone", "first process, in its namespaces"),
    ("descriptors", "descriptors, network namespace"),
    ("join", "joins its control groups"),
    ("root", "root, shared part"),
    ("own", "root, own part: /tmp, /proc, code"),
    ("pivot", "host's root left"),
    ("network", "host name, loopback"),
    ("user", "user namespace, id maps"),
    ("rights", "limits, capabilities"),
    ("execute", "runtime's process, filter, exec"),
    ("fork", "zygote forks the runtime, instead"),
    ("tell", "news to the daemon"),
    ("attach", "code mounted, where the process was pre-started"),
    ("hello", "HELLO"),
    ("ready", "READY"),
];

/// Builds what it needs, runs it and judges.
pub(crate) fn run(setup: &Setup) -> Result<Vec<Verdict>> {
    let turns = setup.options.samples.saturating_mul(TURNS_PER_SAMPLE);
    say!(
        "bench sandbox: {turns} starts of a static binary, jailed and bare in turn, then {ROW} in a row"
    );
    let standin = standin(&setup.folder("sandbox-standin")?)?;
    shell::run(&mut shell::cargo("build --release -p sandbox --example starts"))?;
    let mut starts = shell::command(shell::root().join("target/release/examples/starts"));
    starts.arg(standin).arg(setup.folder("sandbox")?);
    let lines = shell::capture(starts.arg(turns.to_string()).arg(ROW.to_string()))?;
    let figures = Figures::parse(&lines)?;
    figures.print();
    figures.verdicts()
}

/// The static binary.
fn standin(folder: &Path) -> Result<PathBuf> {
    let source = shell::root().join("crates/sandbox/examples/starts/standin.c");
    let program = folder.join("standin");
    let mut cc: Command = shell::command("cc");
    cc.args(["-O2", "-static", "-o"]).arg(&program).arg(source);
    shell::run(&mut cc).context(
        "the static binary cannot be built: it needs a C compiler and the static C library (Debian: gcc, libc6-dev)",
    )?;
    Ok(program)
}

/// What the example printed.
#[derive(Debug, Default)]
struct Figures {
    jail: Vec<Duration>,
    fork: Vec<Duration>,
    spawn: Vec<Duration>,
    steps: BTreeMap<String, Vec<Duration>>,
    /// Start and stop of each of the row.
    row: Vec<(Duration, Duration)>,
    /// An idle instance made to stand still, and to go on.
    freeze: Vec<(Duration, Duration)>,
    /// What there is more of after the row than before it.
    left: Vec<(String, i64)>,
}

impl Figures {
    fn parse(lines: &str) -> Result<Self> {
        let mut figures = Self::default();
        for line in lines.lines() {
            let line: Value = serde_json::from_str(line).context("a line is no JSON")?;
            let time = |key: &str| {
                let nanos = line[key].as_u64().with_context(|| format!("a line has no {key}"));
                nanos.map(Duration::from_nanos)
            };
            match line["side"].as_str() {
                Some("jail") => {
                    figures.jail.push(time("start_ns")?);
                    let steps = line["steps"].as_object().context("a start has no steps")?;
                    for (step, nanos) in steps {
                        let nanos = nanos.as_u64().context("a step is no number")?;
                        let all = figures.steps.entry(step.clone()).or_default();
                        all.push(Duration::from_nanos(nanos));
                    }
                }
                Some("fork") => figures.fork.push(time("start_ns")?),
                Some("spawn") => figures.spawn.push(time("start_ns")?),
                Some("row") => figures.row.push((time("start_ns")?, time("stop_ns")?)),
                Some("freeze") => figures.freeze.push((time("freeze_ns")?, time("thaw_ns")?)),
                Some("left") => {
                    let before = line["before"].as_object().context("nothing was counted")?;
                    for (what, before) in before {
                        let counts = (before.as_i64(), line["after"][what].as_i64());
                        let (Some(before), Some(after)) = counts else {
                            bail!("{what} was not counted");
                        };
                        figures.left.push((what.clone(), after - before));
                    }
                }
                other => bail!("a line of side {other:?}"),
            }
        }
        if figures.row.len() < 2 * END || figures.left.is_empty() {
            bail!("the row is not complete: {} starts", figures.row.len());
        }
        if figures.freeze.is_empty() {
            bail!("nothing was frozen");
        }
        Ok(figures)
    }

    fn print(&self) {
        let mut table = Table::new(&["", "p50 µs", "p99 µs"]);
        let mut row = |name: &str, samples: &[Duration]| {
            let (p50, p99) = (median(samples), percentile(samples, 99));
            table.row(vec![name.to_owned(), micros(p50), micros(p99)]);
        };
        row("static binary in the jail, until READY", &self.jail);
        row("  bare, by fork and exec", &self.fork);
        row("  bare, by posix_spawn (vfork)", &self.spawn);
        for (step, what) in STEPS {
            if let Some(samples) = self.steps.get(*step) {
                row(&format!("step {step}: {what}"), samples);
            }
        }
        let starts: Vec<_> = self.row.iter().map(|(start, _)| *start).collect();
        let stops: Vec<_> = self.row.iter().map(|(_, stop)| *stop).collect();
        row("in a row, start", &starts);
        row("in a row, stop", &stops);
        let freezes: Vec<_> = self.freeze.iter().map(|(freeze, _)| *freeze).collect();
        let thaws: Vec<_> = self.freeze.iter().map(|(_, thaw)| *thaw).collect();
        row("idle instance frozen", &freezes);
        row("frozen instance thawed", &thaws);
        table.print();
        let left: Vec<_> = self.left.iter().map(|(what, n)| format!("{what} {n:+}")).collect();
        say!("after {} in a row: {}", self.row.len(), left.join(", "));
    }

    fn verdicts(&self) -> Result<Vec<Verdict>> {
        let added = |bare: &[Duration]| millis(median(&self.jail)) - millis(median(bare));
        let total = |row: &[(Duration, Duration)]| {
            row.iter().map(|(start, stop)| (*start + *stop).as_secs_f64()).sum::<f64>()
        };
        let count = f64::from(u32::try_from(self.row.len())?);
        let (first, last) = (self.row.get(..END), self.row.get(self.row.len() - END..));
        let (first, last) = (total(first.unwrap_or_default()), total(last.unwrap_or_default()));
        let thaws: Vec<_> = self.freeze.iter().map(|(_, thaw)| *thaw).collect();
        let most = self.left.iter().map(|(_, n)| *n).max().unwrap_or(i64::MAX);
        Ok(vec![
            single("jail, added to fork and exec, p50", added(&self.fork), "ms", ADDED_MS),
            single("in a row, starts and stops", count / total(&self.row), "/s", RATE),
            single(&format!("in a row, last {END} by first {END}"), last / first, "×", SLOWER),
            single("frozen instance thawed, p50", millis(median(&thaws)), "ms", THAW_MS),
            single("in a row, left behind", f64::from(i32::try_from(most)?), "", LEFT),
        ])
    }
}

fn single(name: &str, value: f64, unit: &'static str, bound: Bound) -> Verdict {
    Verdict { name: name.to_owned(), measured: Spread::of(vec![value]), unit, bound }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the example prints: one turn, a row whose last starts take `last_ns`, and one mount more than before.
    fn lines(last_ns: u64) -> String {
        let mut lines = vec![
            r#"{"side":"jail","start_ns":2000000,"steps":{"clone":500,"tell":700}}"#.to_owned(),
            r#"{"side":"fork","start_ns":900000}"#.to_owned(),
            r#"{"side":"spawn","start_ns":800000}"#.to_owned(),
            r#"{"side":"freeze","freeze_ns":30000,"thaw_ns":40000}"#.to_owned(),
        ];
        for n in 0..ROW {
            let start = if n < ROW - END { 1_000_000 } else { last_ns };
            lines.push(format!(r#"{{"side":"row","start_ns":{start},"stop_ns":1000000}}"#));
        }
        lines.push(r#"{"side":"left","before":{"mounts":3},"after":{"mounts":4}}"#.to_owned());
        lines.join("\n")
    }

    #[test]
    fn promises_are_judged_one_by_one() {
        let figures = Figures::parse(&lines(2_000_000)).unwrap();
        assert_eq!(figures.steps["tell"], [Duration::from_nanos(700)]);
        let verdicts = figures.verdicts().unwrap();
        let medians: Vec<_> = verdicts.iter().map(|v| v.measured.median).collect();
        for (measured, expected) in medians.iter().zip([1.1, 500.0 / 1.1, 1.5, 0.04, 1.0]) {
            assert!((measured - expected).abs() < 1e-6, "{measured} {expected}");
        }
        let met: Vec<_> = verdicts.iter().map(Verdict::met).collect();
        assert_eq!(met, [true, true, false, true, false]);
    }

    #[test]
    fn a_run_that_broke_off_has_no_verdict() {
        let whole = lines(1_000_000);
        let (cut, _) = whole.rsplit_once('\n').unwrap();
        assert!(Figures::parse(cut).unwrap_err().to_string().contains("not complete"));
        Figures::parse(r#"{"side":"jail","start_ns":1}"#).unwrap_err();
        Figures::parse("oh").unwrap_err();
    }

    #[test]
    fn every_step_of_the_sandbox_has_a_line() {
        let source = include_str!("../../../crates/sandbox/src/jail/steps.rs");
        let (_, steps) = source.split_once("enum Step {").unwrap();
        let (steps, _) = steps.split_once('}').unwrap();
        let names = steps.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('/'));
        let names: Vec<_> = names.map(|l| l.trim_end_matches(',').to_lowercase()).collect();
        for name in &names {
            assert!(STEPS.iter().any(|(step, _)| step == name), "{name}");
        }
        assert_eq!(names.len(), STEPS.len());
    }
}
