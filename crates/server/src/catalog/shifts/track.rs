//! What is known of the shifts under way, and what becomes of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use engine::Shifting;
use model::alias::rollout::{Figures, Sample};
use model::alias::{Percent, Rollout};
use model::change::What;
use model::clock::UnixMillis;
use model::ids::{AliasName, FunctionKey};

/// How many times a window is sampled: what is compared reaches at most so much further back than one window.
const SAMPLES_PER_WINDOW: u32 = 20;
/// How soon a verdict is tried again that could not be carried out; each time it takes twice as long.
const RETRY_MIN: Duration = Duration::from_millis(200);
/// How long it takes at most.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The calls of the last window of a shift.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// Of the new version.
    pub new: Sample,
    /// Of the others.
    pub old: Sample,
}

/// Which shift: it is another one if it begins anew.
pub(super) type Id = (FunctionKey, AliasName, UnixMillis);

/// Which shift this is.
pub(super) fn id(shifting: &Shifting) -> Id {
    (shifting.function.clone(), shifting.alias.clone(), shifting.rollout.started_at)
}

/// What is known of the shifts under way.
#[derive(Debug, Default)]
pub(crate) struct Tracks(HashMap<Id, Track>);

/// One shift.
#[derive(Debug)]
struct Track {
    /// Cumulative samples over time.
    seen: VecDeque<(Instant, Window)>,
    /// The newest window in which the others had enough calls to compare with, as long as any go to them.
    baseline: Figures,
    step: usize,
    /// When this process first saw the step. What the clock on the wall says of its beginning, before a restart maybe, does not count: each step is
    /// watched for its whole time.
    step_seen: Instant,
    /// Whether a verdict is being carried out.
    busy: bool,
    failed: Option<Failed>,
}

/// A verdict that could not be carried out.
#[derive(Clone, Copy, Debug)]
struct Failed {
    what: What,
    pause: Duration,
    until: Instant,
}

/// What becomes of a shift.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// The next step; with what the last step is compared with.
    Next(Figures),
    /// All steps are over.
    Done,
    /// It is taken back.
    Stop(String),
}

impl Verdict {
    pub(super) fn what(&self) -> What {
        match self {
            Self::Next(_) => What::ShiftStep,
            Self::Done => What::ShiftDone,
            Self::Stop(_) => What::ShiftStop,
        }
    }
}

impl Track {
    fn new(step: usize, now: Instant) -> Self {
        let (seen, baseline) = (VecDeque::new(), Figures::default());
        Self { seen, baseline, step, step_seen: now, busy: false, failed: None }
    }

    /// Takes a sample, and answers with what came within the last `window`.
    fn add(&mut self, now: Instant, total: Window, window: Duration) -> Window {
        let limit = now.checked_sub(window);
        // The newest sample that is a window old is where the window begins.
        while self.seen.get(1).is_some_and(|(at, _)| limit.is_some_and(|limit| *at <= limit)) {
            self.seen.pop_front();
        }
        let begin = self.seen.front().map(|(_, seen)| seen.clone()).unwrap_or_default();
        let pause = window / SAMPLES_PER_WINDOW;
        let last = Window { new: total.new.since(&begin.new), old: total.old.since(&begin.old) };
        if self.seen.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= pause) {
            self.seen.push_back((now, total));
        }
        last
    }

    fn judge(&mut self, rollout: &Rollout, window: &Window, now: Instant) -> Option<Verdict> {
        let enough = rollout.min_calls.max(1);
        // In the last step there are fewer and fewer calls of the others, and no new ones.
        if rollout.share() < Percent::ALL && window.old.calls >= enough {
            self.baseline = Figures::from(&window.old);
        }
        if self.step != rollout.step {
            (self.step, self.step_seen) = (rollout.step, now);
        }
        if window.new.calls >= enough {
            let old = rollout.baseline.as_ref().unwrap_or(&self.baseline);
            let why = rollout.stop_if.iter().find_map(|stop| stop.judge(&window.new, old));
            if let Some(why) = why {
                return Some(Verdict::Stop(why));
            }
        }
        if now.saturating_duration_since(self.step_seen) < rollout.every() {
            None
        } else if rollout.step + 1 < rollout.steps.len() {
            Some(Verdict::Next(self.baseline))
        } else {
            Some(Verdict::Done)
        }
    }
}

impl Tracks {
    /// The last window of a shift, for those who ask.
    pub(super) fn window(&self, id: &Id) -> Window {
        let Some(track) = self.0.get(id) else { return Window::default() };
        let (Some((_, begin)), Some((_, end))) = (track.seen.front(), track.seen.back()) else {
            return Window::default();
        };
        Window { new: end.new.since(&begin.new), old: end.old.since(&begin.old) }
    }

    /// Forgets every shift but these.
    pub(super) fn retain(&mut self, shifts: &[Shifting]) {
        let current: HashSet<Id> = shifts.iter().map(id).collect();
        self.0.retain(|id, _| current.contains(id));
    }

    /// What becomes of a shift now; `None` if nothing does.
    pub(super) fn look(&mut self, shifting: &Shifting, now: Instant) -> Option<Verdict> {
        let rollout = &shifting.rollout;
        let mut total = Window::default();
        for (version, sample) in &shifting.samples {
            let side = if *version == rollout.to { &mut total.new } else { &mut total.old };
            side.add(sample);
        }
        let track = self.0.entry(id(shifting)).or_insert_with(|| Track::new(rollout.step, now));
        let window = track.add(now, total, rollout.every());
        let verdict = track.judge(rollout, &window, now)?;
        let failed = track.failed.is_some_and(|f| f.what == verdict.what() && now < f.until);
        (!track.busy && !failed).then_some(verdict)
    }

    /// A verdict is being carried out.
    pub(super) fn begin(&mut self, id: &Id) {
        if let Some(track) = self.0.get_mut(id) {
            track.busy = true;
        }
    }

    /// A verdict was carried out, or could not be.
    pub(super) fn end(&mut self, id: &Id, what: What, done: bool, now: Instant) {
        let Some(track) = self.0.get_mut(id) else { return };
        track.busy = false;
        let before = track.failed.take().filter(|failed| failed.what == what);
        track.failed = (!done).then(|| {
            let pause = before.map_or(RETRY_MIN, |failed| (failed.pause * 2).min(RETRY_MAX));
            Failed { what, pause, until: now + pause }
        });
    }
}

#[cfg(test)]
mod tests;
