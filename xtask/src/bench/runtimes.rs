//! `bench runtimes`: every runtime on one machine in one run: first calls, warm calls by one caller and by many, and what an idle instance holds.
//!
//! All take turns, sample by sample and round by round, through the function's URL. There is nothing promised: `docs/runtimes.md` shows the figures, and `--markdown` prints
//! its rows. Which programs are measured says [`subjects`].

mod subjects;

use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use self::subjects::{SUBJECTS, Subject};
use super::Setup;
use super::daemon::{Daemon, url};
use super::density::{FORKED, ROOM, await_zygote, own_number};
use super::http::{Connection, request};
use super::load::Load;
use super::memory::{Held, descendants};
use super::report::{Table, micros, millis};
use super::stats::{Round, Spread, median, percentile, pooled};
use crate::say::say;
use crate::shell;

/// Callers of the second measurement of warm calls.
const MANY: usize = 32;
/// Untimed first calls of each: files come into the page cache.
const UNTIMED: usize = 2;
/// Instances of which one's memory is the average.
const IDLE: usize = 8;
/// How long instances are left alone before their memory is read: they stand still by then.
const SETTLE: Duration = Duration::from_secs(3);
/// Columns of the table.
const HEADINGS: [&str; 6] =
    ["", "first call p50 ms", "p99 ms", "warm p50 µs", "requests/s, 32 callers", "idle MB"];

/// What was measured of one runtime.
#[derive(Debug)]
struct Measured<'a> {
    subject: &'a Subject,
    /// What is deployed.
    folder: PathBuf,
    first: Vec<Duration>,
    one: Vec<Round>,
    many: Vec<Round>,
    idle_mb: f64,
}

/// Measures all runtimes.
pub(crate) fn run(setup: &Setup) -> Result<()> {
    let options = &setup.options;
    say!(
        "bench runtimes: {} first calls, {} rounds of {} s",
        options.samples,
        options.rounds,
        options.seconds
    );
    let mut all = Vec::new();
    for subject in SUBJECTS {
        let folder = setup.folder(&format!("runtimes-{}", subject.name))?;
        subject.make(&folder)?;
        let (first, one, many) = (Vec::new(), Vec::new(), Vec::new());
        all.push(Measured { subject, folder, first, one, many, idle_mb: 0.0 });
    }
    let daemon = Daemon::start_with(&setup.hanshu, &setup.folder("runtimes")?, &ROOM)?;
    first_calls(setup, &daemon, &mut all)?;
    daemon.stop()?;
    // Without the instances of those functions beside them.
    let daemon = Daemon::start(&setup.hanshu, &setup.folder("runtimes-warm")?)?;
    warm_calls(setup, &daemon, &mut all)?;
    daemon.stop()?;
    for measured in &mut all {
        measured.idle_mb = idle_mb(setup, measured)?;
    }
    let mut table = Table::new(&HEADINGS);
    all.iter().for_each(|measured| table.row(measured.cells()));
    match options.markdown {
        true => all.iter().for_each(|m| say!("| {} |", m.cells().join(" | "))),
        false => table.print(),
    }
    Ok(())
}

fn first_calls(setup: &Setup, daemon: &Daemon, all: &mut [Measured<'_>]) -> Result<()> {
    for sample in 0..UNTIMED + setup.options.samples {
        for turn in 0..all.len() {
            let index = (turn + sample) % all.len();
            let Some(measured) = all.get_mut(index) else { continue };
            let name = format!("{}-{sample}", measured.subject.name);
            measured.deploy(setup, daemon, &name)?;
            sleep(measured.subject.pause());
            let latency = measured.call(daemon, &name)?;
            if sample >= UNTIMED {
                measured.first.push(latency);
            }
        }
    }
    Ok(())
}

fn warm_calls(setup: &Setup, daemon: &Daemon, all: &mut [Measured<'_>]) -> Result<()> {
    for measured in all.iter() {
        measured.deploy(setup, daemon, measured.subject.name)?;
        measured.call(daemon, measured.subject.name)?;
        // Once unmeasured: instances start, compilers warm up.
        measured.load(daemon, MANY).run(setup.turn())?;
    }
    for round in 0..setup.options.rounds {
        for turn in 0..all.len() {
            let index = (turn + round) % all.len();
            let Some(measured) = all.get_mut(index) else { continue };
            let (one, many) = (measured.load(daemon, 1), measured.load(daemon, MANY));
            measured.one.push(one.run(setup.turn())?);
            measured.many.push(many.run(setup.turn())?);
        }
    }
    Ok(())
}

/// What an idle instance has of its own: memory that it has written to, and of files that nobody else uses.
fn idle_mb(setup: &Setup, measured: &Measured<'_>) -> Result<f64> {
    let mut variables = ROOM.to_vec();
    variables.push(FORKED);
    let folder = setup.folder(&format!("runtimes-idle-{}", measured.subject.name))?;
    let daemon = Daemon::start_with(&setup.hanshu, &folder, &variables)?;
    if let Some(language) = measured.subject.language {
        await_zygote(&daemon, language)?;
    }
    for n in 0..IDLE {
        let name = format!("idle-{n}");
        measured.deploy(setup, &daemon, &name)?;
        measured.call(&daemon, &name)?;
    }
    sleep(SETTLE);
    let mut held = Held::default();
    for pid in descendants(daemon.id())?.into_iter().filter(|pid| own_number(*pid).is_some()) {
        held = held.and(Held::of(pid)?);
    }
    daemon.stop()?;
    Ok((held.dirty_mb + held.clean_mb) / f64::from(u32::try_from(IDLE)?))
}

impl Measured<'_> {
    /// Makes it a function of this name, whose package is no other's.
    fn deploy(&self, setup: &Setup, daemon: &Daemon, name: &str) -> Result<()> {
        fs::write(self.folder.join("mark.txt"), name)?;
        let mut deploy = shell::command(&setup.hanshu);
        deploy.arg("deploy").arg(&self.folder).args(["--no-build", "--name", name]);
        deploy.env("HANSHU_URL", format!("http://{}", daemon.address));
        // Without its progress.
        shell::ask(&mut deploy).with_context(|| format!("{name} cannot be deployed"))?;
        Ok(())
    }

    /// Calls it once, on a connection that is there already.
    fn call(&self, daemon: &Daemon, name: &str) -> Result<Duration> {
        let mut connection = Connection::open(daemon.address)?;
        let request = request("GET", &url(name), "", b"");
        let start = Instant::now();
        let answer = connection.call(&request)?;
        let latency = start.elapsed();
        if answer.status != 200 {
            bail!("{name} answered {}: {}", answer.status, answer.text());
        }
        Ok(latency)
    }

    fn load(&self, daemon: &Daemon, connections: usize) -> Load {
        let request = request("GET", &url(self.subject.name), "", b"");
        Load { address: daemon.address, request, connections }
    }

    fn cells(&self) -> Vec<String> {
        let rate = Spread::of(self.many.iter().map(Round::rate).collect());
        vec![
            self.subject.title.to_owned(),
            millis(median(&self.first)),
            millis(percentile(&self.first, 99)),
            micros(median(&pooled(&self.one))),
            format!("{:.0}", rate.median),
            format!("{:.1}", self.idle_mb),
        ]
    }
}
