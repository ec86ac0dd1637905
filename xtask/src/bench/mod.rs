//! `cargo x bench`: measures what `SPECIFICATION.md` promises, always against a baseline of the same run.
//!
//! One module a bench: [`warm`] (warm calls, with [`calls`] and [`workerd`]), [`cold`] (first calls), [`burst`] (many of them at once), [`density`] (many live instances), [`idle`] (a daemon with nothing to do),
//! [`stream`] (answers in pieces), [`web`] (web servers), [`kill`] (the end at the deadline), [`sandbox`] (the jail around a static binary), [`provided`] (an executable of the function's own),
//! [`resolve`] (which version a call reaches), [`swap`] (new code under load), [`freeze`] (functions that go on while they are idle), [`wasm`] (WebAssembly), [`queue`] (asynchronous calls), [`fair`] (many of one function beside others), [`runtimes`] (all runtimes side by side). They share
//! [`daemon`] (`hanshu serve` and its REST API), [`bare`] (a runtime without sandbox or daemon, over [`frames`]), [`load`] and [`paced`]
//! (the client, over [`http`]), [`stats`] and [`report`].
//!
//! Absolute figures are the machine's; what is promised are mostly ratios, taken round by round from interleaved rounds.

mod bare;
mod burst;
mod calls;
mod child;
mod cold;
mod daemon;
mod density;
mod example;
mod fair;
mod frames;
mod freeze;
mod http;
mod idle;
mod java;
mod kill;
mod language;
mod load;
mod memory;
mod paced;
mod provided;
mod queue;
mod report;
mod resolve;
mod runtimes;
mod sandbox;
mod stats;
mod stream;
mod swap;
mod warm;
mod wasm;
mod web;
mod workerd;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use crate::say::say;
use crate::shell;
use report::Verdict;

/// What to measure, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// What to measure; all of them by default
    names: Vec<Name>,
    /// Fail if a promised bound is not met
    #[arg(long)]
    strict: bool,
    /// Rounds of load, each with a turn for subject and baseline
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one turn
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// First calls, or starts of the daemon, that are timed
    #[arg(long, default_value_t = 30)]
    samples: usize,
    /// Functions that the idle daemon holds
    #[arg(long, default_value_t = 1000)]
    functions: usize,
    /// Functions that are called for the first time at once
    #[arg(long, default_value_t = 500)]
    burst: usize,
    /// Live instances that lie idle
    #[arg(long, default_value_t = 1000)]
    instances: usize,
    /// WebAssembly components that a daemon holds
    #[arg(long, default_value_t = 10_000)]
    components: usize,
    /// Asynchronous calls that wait
    #[arg(long, default_value_t = 1_000_000)]
    backlog: usize,
    /// Swaps under load, of each kind
    #[arg(long, default_value_t = 1000)]
    swaps: usize,
    /// Print the rows of docs/runtimes.md, where a bench has any
    #[arg(long)]
    markdown: bool,
    /// The program to measure; by default a release build of this checkout
    #[arg(long, value_name = "PATH")]
    hanshu: Option<PathBuf>,
    /// Whether baselines that take minutes to build are built where they are missing
    #[arg(skip = true)]
    build_baselines: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Name {
    /// Warm calls through a function's URL, and without HTTP
    Warm,
    /// Answers in pieces through a function's URL
    Stream,
    /// A web server through its function URL, and directly
    Web,
    /// First calls of a new version
    Cold,
    /// First calls of many functions at once
    Burst,
    /// Memory of many live instances, and calls beside them
    Density,
    /// Memory and start of a daemon that holds many functions
    Idle,
    /// The end of functions that do not want to end
    Kill,
    /// Start and stop of a static binary in the jail
    Sandbox,
    /// An executable that brings its own runtime, in Rust
    Provided,
    /// Which version a call reaches, among ten thousand
    Resolve,
    /// New code and moved aliases under a constant load
    Swap,
    /// Idle functions whose timers go on
    Freeze,
    /// Calls of WebAssembly, each in a fresh instance, and beside programs that compute for ever
    Wasm,
    /// Asynchronous calls: accepted, settled, started, and a million that wait
    Queue,
    /// A million calls of one function beside those of a thousand others
    Fair,
    /// Every runtime side by side: first and warm calls, memory of idle instances
    Runtimes,
}

/// What each bench is given.
#[derive(Debug)]
struct Setup {
    hanshu: PathBuf,
    /// For data folders and code; on the disk of the checkout, as memory would flatter.
    scratch: tempfile::TempDir,
    /// Descriptor 3, before anything else can take it.
    slot: bare::Slot,
    options: Options,
}

impl Setup {
    fn new(options: Options) -> Result<Self> {
        let seconds = options.seconds;
        let Options { rounds, samples, functions, burst, instances, swaps, .. } = options;
        let Options { components, backlog, .. } = options;
        let counts = [rounds, samples, functions, burst, instances, swaps, components, backlog];
        if counts.contains(&0) || seconds <= 0.0 {
            bail!("expected all counts, and seconds, above 0");
        }
        let slot = bare::Slot::reserve()?;
        let hanshu = match &options.hanshu {
            Some(path) => path.clone(),
            None => {
                shell::run(&mut shell::cargo("build --release --bin hanshu"))?;
                shell::root().join("target/release/hanshu")
            }
        };
        let target = shell::root().join("target");
        let scratch = tempfile::tempdir_in(target).context("cannot make a folder for data")?;
        Ok(Self { hanshu, scratch, slot, options })
    }

    /// An empty folder of its own.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.scratch.path().join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// How long one turn of load lasts.
    fn turn(&self) -> Duration {
        Duration::from_secs_f64(self.options.seconds)
    }
}

/// Runs the named benches and prints their figures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let names = match &*options.names {
        [] => Name::value_variants(),
        names => names,
    };
    let mut setup = Setup::new(options.clone())?;
    let mut verdicts = Vec::new();
    for name in names {
        say!("");
        verdicts.extend(match name {
            Name::Warm => warm::run(&mut setup)?,
            Name::Stream => stream::run(&setup)?,
            Name::Web => web::run(&setup)?,
            Name::Cold => cold::run(&mut setup)?,
            Name::Burst => burst::run(&mut setup)?,
            Name::Density => density::run(&mut setup)?,
            Name::Idle => idle::run(&mut setup)?,
            Name::Kill => kill::run(&mut setup)?,
            Name::Sandbox => sandbox::run(&setup)?,
            Name::Provided => provided::run(&setup)?,
            Name::Resolve => resolve::run(&setup)?,
            Name::Swap => swap::run(&setup)?,
            Name::Freeze => freeze::run(&setup)?,
            Name::Wasm => wasm::run(&setup)?,
            Name::Queue => queue::run(&setup)?,
            Name::Fair => fair::run(&setup)?,
            Name::Runtimes => runtimes::run(&setup).map(|()| Vec::new())?,
        });
    }
    conclude(&verdicts, options.strict)
}

/// Runs all benches with few, short rounds; a bound that is not met fails.
pub(crate) fn run_short() -> Result<()> {
    run(&Options {
        names: Vec::new(),
        strict: true,
        rounds: 3,
        seconds: 1.0,
        samples: 10,
        functions: 1000,
        burst: 40,
        instances: 40,
        backlog: 50_000,
        swaps: 40,
        markdown: false,
        components: 100,
        hanshu: None,
        build_baselines: false,
    })
}

fn conclude(verdicts: &[Verdict], strict: bool) -> Result<()> {
    say!("");
    for verdict in verdicts {
        say!("{}", verdict.line());
    }
    let missed = verdicts.iter().filter(|v| !v.met()).count();
    if strict && missed > 0 {
        bail!("{missed} of {} bounds are not met", verdicts.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::report::Bound;
    use super::stats::Spread;
    use super::*;

    #[test]
    fn only_strict_runs_fail_on_a_missed_bound() {
        let measured = Spread { median: 2.0, low: 2.0, high: 2.0 };
        let verdict = |bound| Verdict { name: "x".into(), measured, unit: "×", bound };
        let missed = [verdict(Bound::AtMost(1.0)), verdict(Bound::AtMost(3.0))];
        conclude(&missed, false).unwrap();
        let error = conclude(&missed, true).unwrap_err();
        assert_eq!(error.to_string(), "1 of 2 bounds are not met");
        conclude(&[verdict(Bound::AtLeast(1.0))], true).unwrap();
    }
}
