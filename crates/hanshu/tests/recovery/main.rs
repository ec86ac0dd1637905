//! `kill -9` under asynchronous load, hundreds of times: every call that was accepted ends, and in one way only; each attempt is counted once; what a function does once per call is there once.
//!
//! A round starts this program again as a child ([`daemon`]): store and engine with functions of its own ([`functions`]), which writes what was acknowledged into a file of the kernel's
//! ([`ledger`]) and is killed, from outside at any instant, or by itself around a step of the queue ([`faults`]). Its clock is fast ([`clock`]), so that pauses of minutes are over
//! within a round or two. After some rounds everything is let run to its end and compared with the file.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test crate: a failure is a panic, and it starts itself again"
)]

mod check;
mod clock;
mod daemon;
mod faults;
mod functions;
mod ledger;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use model::clock::{Clock as _, SystemClock};

use crate::check::Tally;
use crate::faults::Fault;

/// Rounds on one folder before everything has to end.
const ROUNDS: u64 = 50;
/// Folders.
const BATCHES: u64 = 6;
/// Longest life of a child that is killed from outside, from its first sign on.
const LIFE_MS: u64 = 60;
/// After so long a child that has not come to its fault is killed from outside.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a child is told.
#[derive(Clone, Debug)]
struct Orders {
    folder: String,
    /// When the fast clock began, in milliseconds of the host's.
    began_ms: u64,
    seed: u64,
    fault: Option<Fault>,
}

impl Orders {
    fn line(&self) -> String {
        let fault = self.fault.map_or_else(|| "-".into(), |fault| fault.to_string());
        format!("{} {} {fault} {}", self.began_ms, self.seed, self.folder)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.trim_end().splitn(4, ' ');
        Some(Self {
            began_ms: words.next()?.parse().ok()?,
            seed: words.next()?.parse().ok()?,
            fault: words.next().and_then(Fault::parse),
            folder: words.next()?.to_owned(),
        })
    }
}

/// Numbers that need not be good (Knuth's MMIX generator).
#[derive(Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// From 0 to below `sides`.
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides.max(1)
    }
}

fn start(orders: &Orders) -> Child {
    let this = std::env::current_exe().unwrap();
    let mut child = Command::new(this)
        .args(["--ignored", "--exact", "daemon::works_until_it_is_killed", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", orders.line()).unwrap();
    child
}

/// One life; says whether it ended by itself, at its fault.
fn round(orders: &Orders, dice: &mut Dice) -> bool {
    let mut child = start(orders);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let up = lines.by_ref().map_while(Result::ok).any(|line| line == daemon::UP);
    let at_its_fault = if orders.fault.is_none() {
        assert!(up, "the child ended by itself");
        thread::sleep(Duration::from_millis(dice.roll(LIFE_MS)));
        false
    } else {
        ends_within(&mut child, PATIENCE)
    };
    if !at_its_fault {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(9), "the child was not killed: {status}");
    at_its_fault
}

fn ends_within(child: &mut Child, patience: Duration) -> bool {
    let started = Instant::now();
    while started.elapsed() < patience {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        thread::sleep(Duration::from_millis(2));
    }
    false
}

#[test]
fn every_accepted_call_ends_once_whenever_the_daemon_is_killed() {
    let seed = SystemClock.now().0;
    println!("seed {seed}");
    let (mut dice, started) = (Dice(seed), Instant::now());
    let (mut tally, mut faults, mut missed) = (Tally::default(), 0, Vec::new());
    for _ in 0..BATCHES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let began_ms = SystemClock.now().0;
        let mut points = Fault::all().into_iter();
        for round_number in 0..ROUNDS {
            // Every other round has a fault until each had its turn.
            let fault = if round_number % 2 == 1 { points.next() } else { None };
            let seed = dice.roll(u64::from(u32::MAX));
            let orders = Orders { folder: path.clone(), began_ms, seed, fault };
            let at_its_fault = round(&orders, &mut dice);
            faults += u64::from(at_its_fault);
            missed.extend(fault.filter(|_| !at_its_fault));
        }
        assert!(points.next().is_none(), "more faults than rounds for them");
        tally.add(&finish(folder.path(), began_ms));
    }
    println!(
        "{} rounds, {faults} at a fault, in {:?}: {tally:?}",
        ROUNDS * BATCHES,
        started.elapsed()
    );
    assert!(missed.len() < 2 * usize::try_from(BATCHES).unwrap(), "never reached: {missed:?}");
    tally.assert_much_was_tested();
}

/// Lets everything end and compares.
fn finish(folder: &Path, began_ms: u64) -> Tally {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let orders =
        Orders { folder: folder.to_str().unwrap().to_owned(), began_ms, seed: 1, fault: None };
    runtime.block_on(async {
        let daemon = daemon::Daemon::start(&orders).await;
        daemon.idle().await;
        let tally = check::check(&daemon, &ledger::read(folder)).await;
        daemon.stop().await;
        tally
    })
}
