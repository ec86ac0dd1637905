//! What has to be true in the end.

use std::collections::{BTreeMap, BTreeSet};

use engine::KeptCall;
use model::ids::RequestId;
use model::ports::{Ended, Standing};

use crate::daemon::Daemon;
use crate::ledger::Entry;

/// What was written of one call.
#[derive(Debug, Default)]
struct Told {
    accepted: bool,
    /// It was what a caller with a key got.
    keyed: bool,
    cancelled: bool,
    redriven: bool,
    began: Vec<u32>,
    done: usize,
}

/// How much was tested.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    calls: usize,
    succeeded: usize,
    dead: usize,
    cancelled: usize,
    redriven: usize,
    /// Attempts that a kill cut.
    cut: usize,
    /// Calls whose last attempt was cut.
    given_up: usize,
    keys: usize,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.succeeded += other.succeeded;
        self.dead += other.dead;
        self.cancelled += other.cancelled;
        self.redriven += other.redriven;
        self.cut += other.cut;
        self.given_up += other.given_up;
        self.keys += other.keys;
    }

    pub(crate) fn assert_much_was_tested(&self) {
        let Self { calls, succeeded, dead, cancelled, redriven, cut, keys, given_up: _ } = *self;
        assert!(calls > 3_000 && succeeded > 1_000, "{self:?}");
        assert!(dead > 50 && cancelled > 20 && redriven > 5 && cut > 200 && keys > 100, "{self:?}");
    }
}

/// Compares what is kept of each call with what was written of it.
pub(crate) async fn check(daemon: &Daemon, ledger: &[(RequestId, Entry)]) -> Tally {
    let mut told: BTreeMap<RequestId, Told> = BTreeMap::new();
    for (id, entry) in ledger {
        let told = told.entry(*id).or_default();
        match entry {
            Entry::Accepted => told.accepted = true,
            Entry::Cancelled => told.cancelled = true,
            Entry::Redriven => told.redriven = true,
            Entry::Began(attempt) => told.began.push(*attempt),
            Entry::Done => told.done += 1,
            Entry::Keyed(_) => told.keyed = true,
            Entry::Did(_) => {}
        }
    }
    let mut tally = Tally::default();
    for (id, told) in &told {
        let Some(kept) = daemon.engine.call(*id).await.unwrap() else {
            assert!(!told.accepted && !told.keyed, "{id} is lost: {told:?}");
            continue;
        };
        check_call(*id, told, &kept, &mut tally);
    }
    tally.keys = check_keys(daemon, ledger).await;
    tally
}

/// Each key led to one call, and what is to be done once for it was done once. How many keys there were.
async fn check_keys(daemon: &Daemon, ledger: &[(RequestId, Entry)]) -> usize {
    let mut keys: BTreeMap<u64, (BTreeSet<RequestId>, usize)> = BTreeMap::new();
    for (id, entry) in ledger {
        match entry {
            Entry::Keyed(key) => drop(keys.entry(*key).or_default().0.insert(*id)),
            Entry::Did(key) => keys.entry(*key).or_default().1 += 1,
            _ => {}
        }
    }
    for (key, (calls, done)) in &keys {
        assert!(calls.len() <= 1 && *done <= 1, "key {key}: {calls:?}, done {done} times");
        if let Some(id) = calls.first()
            && let Some(kept) = daemon.engine.call(*id).await.unwrap()
            && matches!(kept.summary.standing, Standing::Ended(Ended::Succeeded, _))
        {
            assert_eq!(*done, 1, "key {key}, call {id}");
        }
    }
    keys.len()
}

fn check_call(id: RequestId, told: &Told, kept: &KeptCall, tally: &mut Tally) {
    let Standing::Ended(ended, _) = kept.summary.standing else {
        panic!("{id} has not ended: {kept:?}")
    };
    let outcomes: Vec<&str> = kept.history.iter().map(|a| a.outcome.as_str()).collect();
    let of = |what: &str| outcomes.iter().filter(|o| **o == what).count();
    tally.calls += usize::from(told.accepted);
    tally.cut += of("cut");
    tally.given_up += of("given-up");
    tally.redriven += usize::from(told.redriven);
    assert!(told.done <= 1, "{id} did twice what it is to do once: {told:?}");
    // One that was cancelled had not ended before, and what has ended is not cancelled.
    assert!(!told.cancelled || ended == Ended::Cancelled, "{id}: {outcomes:?}");
    assert!(of("cancelled") <= 1 && of("succeeded") <= 1, "{id} ended twice: {outcomes:?}");
    match ended {
        Ended::Succeeded => {
            tally.succeeded += 1;
            assert_eq!(outcomes.last(), Some(&"succeeded"), "{id}");
            assert_eq!(kept.result.as_deref(), Some(id.to_string().as_bytes()));
            assert_eq!((told.done, of("cancelled")), (1, 0), "{id}: {outcomes:?}");
        }
        Ended::Dead => {
            tally.dead += 1;
            assert_eq!((of("succeeded"), of("cancelled")), (0, 0), "{id}: {outcomes:?}");
            assert_eq!(kept.summary.deliveries, model::limits::ASYNC_ATTEMPTS, "{id}: {kept:?}");
            assert!(kept.event.is_some(), "{id} has no event to run it again with");
        }
        Ended::Cancelled => {
            tally.cancelled += 1;
            assert_eq!((outcomes.last(), of("succeeded")), (Some(&"cancelled"), 0), "{id}");
        }
    }
    check_attempts(id, told, kept, ended);
}

/// Attempts are numbered from one, each once, and as many are counted.
fn check_attempts(id: RequestId, told: &Told, kept: &KeptCall, ended: Ended) {
    let ran = ["succeeded", "handler", "cut"];
    let ran = kept.history.iter().filter(|a| ran.contains(&a.outcome.as_str()));
    let numbers: Vec<u32> = ran.clone().map(|a| a.attempt).collect();
    // From each redrive on they are counted anew.
    let last = numbers.iter().rposition(|n| *n == 1).unwrap_or(0);
    let counted = u32::try_from(numbers.len() - last).unwrap();
    assert!(numbers[last..].iter().copied().eq(1..=counted), "{id}: {numbers:?} {kept:?}");
    let deliveries = kept.summary.deliveries;
    // One that was cancelled on lease was at an attempt of which nothing else is noted.
    let may_be = if ended == Ended::Cancelled { counted..=counted + 1 } else { counted..=counted };
    // Or it was brought back to life, which nobody was told, and called off before it ran.
    let redriven = ended == Ended::Cancelled && deliveries <= 1;
    assert!(
        may_be.contains(&deliveries) || redriven,
        "{id}: {deliveries} counted, {numbers:?} noted"
    );
    for attempt in ran.filter(|a| a.outcome != "cut") {
        assert!(told.began.contains(&attempt.attempt), "{id}: {attempt:?} of {told:?}");
    }
    if last == 0 && !told.redriven {
        let mut began = told.began.clone();
        began.sort_unstable();
        began.dedup();
        assert_eq!(began.len(), told.began.len(), "{id}: an attempt ran twice: {told:?}");
        assert!(began.iter().all(|n| *n <= deliveries), "{id}: {told:?}, {deliveries} counted");
    }
}
