//! How long each step of a start took: the list travels with the start, from the daemon through the spawner and the child and back.
//!
//! Always taken: a mark reads a clock that needs no system call, 30 of them cost a microsecond. The daemon traces the list
//! (`sandbox::steps`), which is where `cargo x bench sandbox` and an operator with a slow host find it.

use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A part of a start, in the order they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// The control group is taken from the pool, or made, and limited.
    Group,
    /// Descriptors are made and the request is put together.
    Ask,
    /// It is sent, and the spawner wakes up.
    Reach,
    /// The spawner reads it.
    Read,
    /// The first process is cloned into its namespaces, until it runs.
    Clone,
    /// Its descriptors are put in place.
    Descriptors,
    /// It joins its control groups and gets a namespace of them.
    Join,
    /// Its network.
    Network,
    /// Its root: what all instances of the runtime share.
    Root,
    /// Its root: what is its own, as `/tmp`, `/proc` and the code.
    Own,
    /// It leaves the host's root.
    Pivot,
    /// It enters its user namespace and waits for its id maps.
    User,
    /// Limits, capabilities, the tie to the spawner.
    Rights,
    /// The runtime's process is cloned and has executed its program.
    Execute,
    /// Instead: the zygote has made it.
    Fork,
    /// The news reaches the daemon.
    Tell,
    /// Of one that was pre-started: the code is mounted.
    Attach,
    /// The runtime says HELLO.
    Hello,
    /// The runtime says READY.
    Ready,
}

/// The steps so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Steps {
    /// When the last one ended, in nanoseconds of the clock that all processes share.
    last: u64,
    /// Nanoseconds of each.
    done: Vec<(Step, u64)>,
}

impl Steps {
    /// The start begins now.
    pub(crate) fn begin() -> Self {
        Self { last: Self::now(), done: Vec::new() }
    }

    /// A step has ended now: it took the time since the last one did.
    pub(crate) fn mark(&mut self, step: Step) {
        self.mark_at(step, Self::now());
    }

    /// A step has ended at that time.
    pub(super) fn mark_at(&mut self, step: Step, time: u64) {
        self.done.push((step, time.saturating_sub(self.last)));
        self.last = self.last.max(time);
    }

    /// The time of the clock that all processes share, in nanoseconds.
    pub(super) fn now() -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        let part = |n: i64| u64::try_from(n).unwrap_or_default();
        part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec))
    }

    /// Step → nanoseconds, as JSON; of a step that was made twice, both together.
    pub(crate) fn json(&self) -> String {
        let mut sums = BTreeMap::new();
        for &(step, nanos) in &self.done {
            *sums.entry(step).or_insert(0) += nanos;
        }
        serde_json::to_string(&sums).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_each_other_without_a_gap() {
        let begun = Steps::now();
        let mut steps = Steps { last: begun, done: Vec::new() };
        steps.mark(Step::Ask);
        // As they would come back from another process.
        let mut steps: Steps =
            serde_json::from_slice(&serde_json::to_vec(&steps).unwrap()).unwrap();
        steps.mark(Step::Reach);
        steps.mark(Step::Ask);
        let total: u64 = steps.done.iter().map(|(_, nanos)| nanos).sum();
        assert_eq!(total, steps.last - begun);
        let json: BTreeMap<String, u64> = serde_json::from_str(&steps.json()).unwrap();
        assert_eq!(json.keys().collect::<Vec<_>>(), ["ask", "reach"]);
        assert_eq!(json.values().sum::<u64>(), total);
    }
}
