//! The zygotes of a stock: which classes have one, which should, and which may not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::class::Recipe;
use super::zygote::Zygote;

/// How long none is made for a class after one failed; twice as long each further time, up to about four hours: the first failure most often means that this
/// runtime cannot be forked on this host.
const RETRY: Duration = Duration::from_secs(30);
const RETRY_DOUBLINGS: u32 = 9;

/// Whether warm runtimes are forked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ZygoteUse {
    /// Never.
    Off,
    /// Where it passes its test: to refill what is pre-started, and for starts that find nothing pre-started.
    #[default]
    Auto,
    /// As `Auto`, but nothing is pre-started: every start forks. Takes the least memory.
    Alone,
}

/// All of them, by command line: what a zygote is does not depend on the limits of its children.
#[derive(Debug, Default)]
pub(super) struct Nests(HashMap<Vec<String>, Nest>);

#[derive(Debug, Default)]
struct Nest {
    zygote: Option<Arc<Zygote>>,
    /// Of that one, in MiB.
    memory_mb: u32,
    failures: u32,
    rests_until: Option<Instant>,
    why: Option<String>,
}

impl Nests {
    /// The one for a class, if it may be forked now.
    pub(super) fn get(&self, recipe: &Recipe, now: Instant) -> Option<&Arc<Zygote>> {
        let zygote = self.0.get(&recipe.zygote_argv())?.zygote.as_ref();
        zygote.filter(|zygote| zygote.is_fit(now))
    }

    /// Whether one should be made for a class.
    pub(super) fn lacks(&self, recipe: &Recipe, now: Instant) -> bool {
        let rests = |nest: &Nest| nest.rests_until.is_some_and(|until| until > now);
        self.get(recipe, now).is_none() && !self.0.get(&recipe.zygote_argv()).is_some_and(rests)
    }

    /// Notes what came of making one.
    pub(super) fn settle(&mut self, recipe: &Recipe, made: Result<Zygote, String>, now: Instant) {
        let nest = self.0.entry(recipe.zygote_argv()).or_default();
        match made {
            Ok(zygote) => {
                let memory_mb = recipe.runtime.zygote_mb().map_or(0, |(own, _)| own);
                let zygote = Some(Arc::new(zygote));
                // Failures are forgotten when it has served to its end.
                *nest = Nest { zygote, memory_mb, failures: nest.failures, ..Nest::default() };
            }
            Err(why) => nest.fail(why, now),
        }
    }

    /// Lets go of those that are of no use any more: the kernel ends them when nobody forks from them.
    pub(super) fn look_over(&mut self, used: impl Fn(&[String]) -> bool, now: Instant) {
        self.0.retain(|argv, nest| {
            if nest.zygote.as_ref().is_some_and(|zygote| !zygote.is_fit(now)) {
                match nest.zygote.take().and_then(|zygote| zygote.broke()) {
                    Some(why) => nest.fail(why, now),
                    None => nest.failures = 0,
                }
            }
            used(argv)
        });
    }

    /// Memory of all, in MiB.
    pub(super) fn memory_mb(&self) -> u32 {
        let of = |nest: &Nest| if nest.zygote.is_some() { nest.memory_mb } else { 0 };
        self.0.values().map(of).fold(0, u32::saturating_add)
    }

    /// How many there are, and why classes have none that should.
    pub(super) fn state(&self) -> (u64, Vec<String>) {
        let live = self.0.values().map(|nest| u64::from(nest.zygote.is_some())).sum();
        (live, self.0.values().filter_map(|nest| nest.why.clone()).collect())
    }

    /// Ends all.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Nest {
    fn fail(&mut self, why: String, now: Instant) {
        self.rests_until = Some(now + RETRY * (1 << self.failures));
        self.failures = (self.failures + 1).min(RETRY_DOUBLINGS);
        self.why = Some(why);
    }
}
