//! `bench density`: a daemon with many live instances, each of another function and idle: their memory, and warm calls beside them.
//!
//! Memory counts the daemon and everything that it has started; pages that several share count once. Warm calls go to one function, in turns with a daemon that
//! has that instance alone. All of these come up by exec. Last, what one idle instance of each runtime has of its own, as the daemon brings it up by itself: forked
//! where it can be, else by exec.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Setup;
use super::daemon::{Daemon, url};
use super::http::request;
use super::language::{JAVA, Language, NODE, PYTHON};
use super::load::Load;
use super::memory::{Held, charged_mb, descendants};
use super::report::{Bound, Table, Verdict, micros};
use super::stats::{Pair, Spread, interleave, percentile, pooled};
use crate::say::say;

/// Promised of 1 000: memory of all, in MB.
const MEMORY_MB: Bound = Bound::AtMost(8000.0);
/// Promised: warm calls beside so many, by those of a daemon with one instance.
const RATIO: Bound = Bound::AtMost(1.2);
/// Promised: what an idle instance has of its own, in MB.
const OWN_MB: [(&Language, Bound); 3] =
    [(&NODE, Bound::AtMost(3.0)), (&PYTHON, Bound::AtMost(3.0)), (&JAVA, Bound::AtMost(4.0))];
/// Instances of each runtime of which one's own is the average.
const OF_EACH: usize = 16;
/// How often it is looked whether there is a zygote, and how long in between: 60 s in all.
const ZYGOTE_LOOKS: usize = 600;
const ZYGOTE_PAUSE: Duration = Duration::from_millis(100);
/// How long all are left alone before memory is read.
const SETTLE: Duration = Duration::from_secs(3);
/// Memory limits of all together are allowed to be more than the host has: hardly any instance comes near its own.
pub(super) const ROOM: [(&str, &str); 5] = [
    ("HANSHU_ENGINE_HOST_MEMORY_MB", "1048576"),
    ("HANSHU_ENGINE_INSTANCES_PER_NAMESPACE", "100000"),
    ("HANSHU_ENGINE_KEEP_ALIVE_SECONDS", "86400"),
    ("HANSHU_ENGINE_KEEP_ALIVE_MAX_SECONDS", "0"),
    ("HANSHU_ENGINE_QUEUE_WAIT_SECONDS", "300"),
];
/// What waits would be counted as well.
const PLAIN: (&str, &str) = ("HANSHU_SANDBOX_PRESTART_MEMORY_MB", "0");
/// Nothing waits but the zygote.
pub(super) const FORKED: (&str, &str) = ("HANSHU_SANDBOX_ZYGOTE", "alone");

/// Measures all.
pub(crate) fn run(setup: &mut Setup) -> Result<Vec<Verdict>> {
    let instances = setup.options.instances;
    say!("bench density: {instances} live Node.js instances");
    let mut verdicts = Vec::new();
    let many = start(setup, "density", PLAIN)?;
    let begun = Instant::now();
    fill(&many, &NODE, instances)?;
    say!("all were called once after {:.1} s", begun.elapsed().as_secs_f64());
    sleep(SETTLE);
    verdicts.push(memory(&many)?);
    verdicts.extend(warm(setup, &many, instances)?);
    expect_live(&many, instances)?;
    many.stop()?;
    for (language, bound) in OWN_MB {
        verdicts.push(own(setup, language, bound)?);
    }
    Ok(verdicts)
}

fn start(setup: &Setup, folder: &str, starts: (&str, &str)) -> Result<Daemon> {
    let mut variables = ROOM.to_vec();
    variables.push(starts);
    Daemon::start_with(&setup.hanshu, &setup.folder(folder)?, &variables)
}

/// Deploys functions and calls each once.
fn fill(daemon: &Daemon, language: &Language, instances: usize) -> Result<()> {
    let mut api = daemon.api()?;
    for n in 0..instances {
        let name = format!("bench-{n}");
        api.deploy(&name, language, &n.to_string())?;
        api.hello(&name, "")?;
    }
    expect_live(daemon, instances)
}

/// Nothing is measured on instances that are gone.
fn expect_live(daemon: &Daemon, instances: usize) -> Result<()> {
    let all = descendants(daemon.id())?;
    let live = all.iter().filter(|pid| own_number(**pid) == Some(1)).count();
    if live != instances {
        bail!("{live} instances are live, expected {instances}");
    }
    Ok(())
}

fn memory(daemon: &Daemon) -> Result<Verdict> {
    let started = descendants(daemon.id())?;
    let mut all = Held::of(daemon.id())?;
    let alone = all.pss_mb;
    for pid in &started {
        all = all.and(Held::of(*pid)?);
    }
    let (charged_mb, groups) = charged_mb(&started, daemon.id())?;
    say!(
        "{} processes: {:.0} MB, of it the daemon {alone:.0} MB, written to and not shared {:.0} MB",
        started.len() + 1,
        all.pss_mb,
        all.dirty_mb
    );
    say!("{groups} control groups are charged with {charged_mb:.0} MB, kernel memory included");
    Ok(Verdict {
        name: "memory of all".into(),
        measured: Spread::of(vec![all.pss_mb.max(alone + charged_mb)]),
        unit: "MB",
        bound: MEMORY_MB,
    })
}

/// Warm calls of one function, in turns: beside all others, and in a daemon of its own.
fn warm(setup: &Setup, many: &Daemon, instances: usize) -> Result<Vec<Verdict>> {
    let one = start(setup, "density-one", PLAIN)?;
    fill(&one, &NODE, 1)?;
    let load = |daemon: &Daemon| Load {
        address: daemon.address,
        request: request("GET", &url("bench-0"), "", b""),
        connections: 1,
    };
    let (subject, baseline) = (load(many), load(&one));
    let turn = setup.turn();
    subject.run(turn)?;
    baseline.run(turn)?;
    let pair = interleave(setup.options.rounds, || subject.run(turn), || baseline.run(turn))?;
    let mut table = Table::new(&["", "p50 µs", "p99 µs", "requests/s"]);
    table.rounds(&format!("warm calls beside {instances} idle instances"), &pair.subject);
    table.rounds("  in a daemon with one", &pair.baseline);
    let around = around(many, instances)?;
    let (p50, p99) = (percentile(&around, 50), percentile(&around, 99));
    let name = "one call of each, in turn".to_owned();
    table.row(vec![name, micros(p50), micros(p99), "–".into()]);
    table.print();
    one.stop()?;
    Ok(vec![
        Verdict::latency_ratio("warm calls, p50, by those beside none", &pair, RATIO),
        p99_ratio(&pair),
    ])
}

/// Of all turns together: one turn's p99 is a matter of a few calls.
fn p99_ratio(pair: &Pair) -> Verdict {
    let of = |rounds| percentile(&pooled(rounds), 99).as_secs_f64();
    Verdict {
        name: "warm calls, p99, by those beside none".into(),
        measured: Spread::of(vec![of(&pair.subject) / of(&pair.baseline)]),
        unit: "×",
        bound: RATIO,
    }
}

/// One call of each function, one after the other: none of them was called lately.
fn around(daemon: &Daemon, instances: usize) -> Result<Vec<Duration>> {
    let mut api = daemon.api()?;
    let call = |n| {
        let start = Instant::now();
        api.hello(&format!("bench-{n}"), "")?;
        Ok(start.elapsed())
    };
    (0..instances).map(call).collect()
}

/// What one idle instance of a runtime has of its own: its runtime and the process that watches it.
fn own(setup: &Setup, language: &Language, bound: Bound) -> Result<Verdict> {
    let name = language.name;
    let daemon = start(setup, &format!("own-{name}"), FORKED)?;
    let how = if await_zygote(&daemon, language)? { "forked" } else { "executed" };
    fill(&daemon, language, OF_EACH)?;
    sleep(SETTLE);
    let mut all = Held::default();
    for pid in descendants(daemon.id())?.into_iter().filter(|pid| own_number(*pid).is_some()) {
        all = all.and(Held::of(pid)?);
    }
    daemon.stop()?;
    let count = f64::from(u32::try_from(OF_EACH)?);
    let (dirty, clean, pss) = (all.dirty_mb / count, all.clean_mb / count, all.pss_mb / count);
    say!(
        "{name}: an idle instance, {how}, has {dirty:.1} MB that it wrote to, {clean:.1} MB of files that nobody else uses; Pss {pss:.1} MB"
    );
    Ok(Verdict {
        name: format!("{name}, an idle instance's own"),
        measured: Spread::of(vec![dirty + clean]),
        unit: "MB",
        bound,
    })
}

/// Waits until instances of a language are forked; `false` where the host does not allow it.
pub(super) fn await_zygote(daemon: &Daemon, language: &Language) -> Result<bool> {
    let mut api = daemon.api()?;
    if !api.has_feature("zygote")? {
        return Ok(false);
    }
    api.deploy("bench-0", language, "0")?;
    for _ in 0..ZYGOTE_LOOKS {
        let starts = api.starts()?;
        if starts["zygotes"].as_u64().is_some_and(|zygotes| zygotes > 0) {
            return Ok(true);
        }
        sleep(ZYGOTE_PAUSE);
    }
    bail!("{} is not forked: {}", language.name, api.starts()?)
}

/// The number by which a process is known in its instance; `None` for one of the daemon's own.
pub(super) fn own_number(pid: u32) -> Option<u32> {
    let numbers = |pid: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let (theirs, ours) = (numbers(&pid.to_string()), numbers("self"));
    if theirs.len() > ours.len() { theirs.last()?.parse().ok() } else { None }
}
