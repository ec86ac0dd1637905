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
    /// Of the one that is being made to take its place.
    coming_mb: u32,
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
        self.get(recipe, now).is_none() && self.may_make(recipe, now)
    }

    /// Whether a class has one that another should take the place of, which may be made.
    pub(super) fn lacks_successor(&self, recipe: &Recipe, now: Instant) -> bool {
        self.get(recipe, now).is_some_and(|zygote| zygote.is_worn(now))
            && self.may_make(recipe, now)
    }

    /// Whether one may be made: none is, and none has just failed.
    fn may_make(&self, recipe: &Recipe, now: Instant) -> bool {
        self.0.get(&recipe.zygote_argv()).is_none_or(|nest| {
            nest.coming_mb == 0 && nest.rests_until.is_none_or(|until| until <= now)
        })
    }

    /// Notes that one is being made that takes the place of another; [`Nests::settle`] ends that.
    pub(super) fn succeed(&mut self, recipe: &Recipe) {
        let memory_mb = recipe.runtime.zygote_mb().map_or(0, |(own, _)| own);
        self.0.entry(recipe.zygote_argv()).or_default().coming_mb = memory_mb;
    }

    /// Whether any is being made that takes the place of another.
    pub(super) fn is_succeeding(&self) -> bool {
        self.0.values().any(|nest| nest.coming_mb > 0)
    }

    /// Ends the one that is wanted least, by the rate of cold starts that `rate` tells of a command line, but for that of `spared`. Whether there was one.
    pub(super) fn evict(&mut self, spared: &Recipe, rate: impl Fn(&[String]) -> f64) -> bool {
        let spared = spared.zygote_argv();
        let there =
            self.0.iter_mut().filter(|(argv, nest)| **argv != spared && nest.zygote.is_some());
        let least = there.min_by(|(a, _), (b, _)| rate(a).total_cmp(&rate(b)));
        least.and_then(|(_, nest)| nest.zygote.take()).is_some()
    }

    /// Notes what came of making one. One that it takes the place of ends when the last child that is under way has come.
    pub(super) fn settle(&mut self, recipe: &Recipe, made: Result<Zygote, String>, now: Instant) {
        let nest = self.0.entry(recipe.zygote_argv()).or_default();
        match made {
            Ok(zygote) => {
                let memory_mb = recipe.runtime.zygote_mb().map_or(0, |(own, _)| own);
                let zygote = Some(Arc::new(zygote));
                // Failures are forgotten when it has served to its end.
                *nest = Nest { zygote, memory_mb, failures: nest.failures, ..Nest::default() };
            }
            Err(why) => {
                nest.coming_mb = 0;
                nest.fail(why, now);
            }
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
        let of = |nest: &Nest| {
            let own = if nest.zygote.is_some() { nest.memory_mb } else { 0 };
            own.saturating_add(nest.coming_mb)
        };
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
