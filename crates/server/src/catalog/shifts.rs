//! Shifts of aliases: begun, stopped, and carried on step by step.
//!
//! [`Catalog::watch_shifts`] runs as long as the daemon. It compares the calls of the last window of each shift that the engine knows of, as often as [`LOOK`]: what is worse
//! goes back at once, what is not goes on when its step is over. The shift itself is part of the alias, so a daemon that starts again carries
//! on; the calls it saw before are forgotten, and the window fills anew. Of several daemons each decides by the calls it sees; compare-and-set
//! lets each step be taken once.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use engine::Shifting;
use model::Result;
use model::alias::rollout::Sample;
use model::alias::{Alias, AliasRecord, Rollout};
use model::api::StartShift;
use model::change::What;
use model::clock::UnixMillis;
use model::error::{Code, Error};
use model::ids::{AliasName, FunctionKey};

use super::Catalog;
use super::aliases::{AliasAt, Wanted, has_versions, no_alias};
use super::record::Intent;

/// How often shifts are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How many times a window is sampled: what is compared reaches at most so much further back than one window.
const SAMPLES_PER_WINDOW: u32 = 20;

/// The calls of the last window of a shift.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// Of the new version.
    pub new: Sample,
    /// Of the others.
    pub old: Sample,
}

/// Cumulative samples of one shift over time.
#[derive(Debug, Default)]
struct Track {
    seen: VecDeque<(Instant, Window)>,
    /// The newest window in which the others had enough calls to compare with: at 100 % they have none.
    baseline: Sample,
}

/// Which shift: it is another one if it begins anew.
type Id = (FunctionKey, AliasName, UnixMillis);

/// What is known of the shifts under way.
#[derive(Debug, Default)]
pub(crate) struct Tracks(HashMap<Id, Track>);

/// What becomes of a shift.
enum Verdict {
    Wait,
    Next,
    Done,
    Stop(String),
}

impl Track {
    /// Takes a sample, and answers with what came within the last `window`.
    fn add(&mut self, now: Instant, total: Window, window: Duration) -> Window {
        let limit = now.checked_sub(window);
        // The newest sample that is a window old is where the window begins.
        while self.seen.get(1).is_some_and(|(at, _)| limit.is_some_and(|limit| *at <= limit)) {
            self.seen.pop_front();
        }
        let begin = self.seen.front().map(|(_, seen)| seen.clone()).unwrap_or_default();
        let pause = window / SAMPLES_PER_WINDOW;
        if self.seen.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= pause) {
            self.seen.push_back((now, total.clone()));
        }
        Window { new: total.new.since(&begin.new), old: total.old.since(&begin.old) }
    }
}

fn judge(rollout: &Rollout, window: &Window, baseline: &Sample, now: UnixMillis) -> Verdict {
    if window.new.calls >= rollout.min_calls.max(1) {
        let why = rollout.stop_if.iter().find_map(|stop| stop.judge(&window.new, baseline));
        if let Some(why) = why {
            return Verdict::Stop(why);
        }
    }
    if rollout.step_since.until(now) < rollout.every() {
        Verdict::Wait
    } else if rollout.step + 1 < rollout.steps.len() {
        Verdict::Next
    } else {
        Verdict::Done
    }
}

impl Tracks {
    /// The last window of a shift, for those who ask.
    pub(crate) fn window(&self, key: &FunctionKey, name: &AliasName, rollout: &Rollout) -> Window {
        let id = (key.clone(), name.clone(), rollout.started_at);
        let Some(track) = self.0.get(&id) else { return Window::default() };
        let (Some((_, begin)), Some((_, end))) = (track.seen.front(), track.seen.back()) else {
            return Window::default();
        };
        Window { new: end.new.since(&begin.new), old: end.old.since(&begin.old) }
    }

    fn look(&mut self, shifting: &Shifting, now: Instant, time: UnixMillis) -> Verdict {
        let Shifting { function, alias, rollout, samples } = shifting;
        let mut total = Window::default();
        for (version, sample) in samples {
            let side = if *version == rollout.to { &mut total.new } else { &mut total.old };
            side.add(sample);
        }
        let id = (function.clone(), alias.clone(), rollout.started_at);
        let track = self.0.entry(id).or_default();
        let window = track.add(now, total, rollout.every());
        if window.old.calls >= rollout.min_calls.max(1) {
            track.baseline = window.old.clone();
        }
        judge(rollout, &window, &track.baseline, time)
    }
}

impl Catalog {
    /// Begins to shift an alias to another version; `conflict` if it shifts already.
    pub(crate) async fn start_shift(
        &self,
        key: &FunctionKey,
        name: &AliasName,
        start: &StartShift,
        intent: &Intent,
    ) -> Result<AliasAt> {
        let changed = self
            .change_alias(key, name, intent, |function, current, turn| {
                let record = current.ok_or_else(|| no_alias(key, name))?;
                if let Some(rollout) = &record.rollout {
                    return Err(Error::caller(
                        Code::Conflict,
                        format!("alias '{key}:{name}' shifts to version {} already", rollout.to),
                    )
                    .with_hint("wait until it is done, or stop it first"));
                }
                let rollout = Rollout {
                    to: start.to,
                    before: record.alias.targets.clone(),
                    steps: start.canary.clone(),
                    step: 0,
                    step_since: turn.now,
                    every_ms: start.every_ms,
                    stop_if: start.stop_if.clone(),
                    min_calls: start.min_calls,
                    started_at: turn.now,
                };
                rollout.validate()?;
                let wanted = shifted(What::ShiftStart, record, rollout);
                has_versions(function, &wanted.alias)?;
                Ok(wanted)
            })
            .await?;
        Ok(changed.alias)
    }

    /// Stops a shift and takes it back; `not-found` if the alias does not shift.
    pub(crate) async fn stop_shift(
        &self,
        key: &FunctionKey,
        name: &AliasName,
        intent: &Intent,
    ) -> Result<AliasAt> {
        let intent = intent.clone().forced(true);
        let changed = self
            .change_alias(key, name, &intent, |_, current, _| {
                let record = current.ok_or_else(|| no_alias(key, name))?;
                let rollout = record.rollout.as_ref().ok_or_else(|| {
                    Error::caller(Code::NotFound, format!("alias '{key}:{name}' does not shift"))
                })?;
                Ok(taken_back(record, rollout))
            })
            .await?;
        Ok(changed.alias)
    }

    /// Carries shifts on until it is dropped.
    pub(crate) async fn watch_shifts(&self) {
        loop {
            self.clock.sleep_until(self.clock.instant() + LOOK).await;
            let shifts = self.engine.shifts();
            let verdicts = {
                let mut tracks =
                    self.tracks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let (now, time) = (self.clock.instant(), self.clock.now());
                let current = |id: &Id| {
                    shifts.iter().any(|s| {
                        s.function == id.0 && s.alias == id.1 && s.rollout.started_at == id.2
                    })
                };
                tracks.0.retain(|id, _| current(id));
                shifts.iter().map(|shift| tracks.look(shift, now, time)).collect::<Vec<_>>()
            };
            for (shift, verdict) in shifts.iter().zip(verdicts) {
                if let Err(error) = self.carry_on(shift, verdict).await {
                    let alias = format!("{}:{}", shift.function, shift.alias);
                    tracing::error!(%error, alias, "a shift cannot be carried on; trying again");
                }
            }
        }
    }

    async fn carry_on(&self, shift: &Shifting, verdict: Verdict) -> Result<()> {
        let Shifting { function, alias, rollout, .. } = shift;
        let (what, reason) = match verdict {
            Verdict::Wait => return Ok(()),
            Verdict::Next => {
                (What::ShiftStep, "the step is over and nothing stopped it".to_owned())
            }
            Verdict::Done => {
                (What::ShiftDone, "the last step is over and nothing stopped it".to_owned())
            }
            Verdict::Stop(why) => (What::ShiftStop, why),
        };
        if what == What::ShiftStop {
            tracing::warn!(alias = %format_args!("{function}:{alias}"), reason, "a shift is taken back");
        }
        // The way back is open whatever lies there.
        let intent = Intent::daemon(reason).forced(what == What::ShiftStop);
        let changed = self.change_alias(function, alias, &intent, |_, current, turn| {
            let record = current.ok_or_else(|| no_alias(function, alias))?;
            let Some(rollout) = record.rollout.as_ref().filter(|now| *now == rollout) else {
                // Somebody else decided meanwhile.
                return Ok(Wanted {
                    what,
                    alias: record.alias.clone(),
                    rollout: record.rollout.clone(),
                });
            };
            Ok(match what {
                What::ShiftStop => taken_back(record, rollout),
                What::ShiftDone => Wanted { what, alias: record.alias.clone(), rollout: None },
                _ => {
                    let rollout =
                        Rollout { step: rollout.step + 1, step_since: turn.now, ..rollout.clone() };
                    shifted(what, record, rollout)
                }
            })
        });
        match changed.await {
            // The alias or its function went away.
            Err(e) if e.code() == Code::NotFound => Ok(()),
            Err(e) if e.code() == Code::InitFailed => {
                Box::pin(self.carry_on(shift, Verdict::Stop(e.message().to_owned()))).await
            }
            changed => changed.map(drop),
        }
    }
}

/// The alias with the targets of the shift's step.
fn shifted(what: What, record: &AliasRecord, rollout: Rollout) -> Wanted {
    let alias = Alias { targets: rollout.targets(), ..record.alias.clone() };
    Wanted { what, alias, rollout: Some(rollout) }
}

/// The alias as it was before the shift.
fn taken_back(record: &AliasRecord, rollout: &Rollout) -> Wanted {
    let alias = Alias { targets: rollout.before.clone(), ..record.alias.clone() };
    Wanted { what: What::ShiftStop, alias, rollout: None }
}

#[cfg(test)]
mod tests {
    use model::alias::Target;
    use model::ids::VersionRef;

    use super::*;

    fn rollout() -> Rollout {
        Rollout {
            to: VersionRef::Number(2),
            before: vec![Target { version: VersionRef::Number(1), weight: 1 }],
            steps: ["50%", "100%"].map(|s| s.parse().unwrap()).into(),
            step: 0,
            step_since: UnixMillis(0),
            every_ms: 10_000,
            stop_if: vec!["errors > 1%".parse().unwrap(), "p99 > 2x".parse().unwrap()],
            min_calls: 20,
            started_at: UnixMillis(0),
        }
    }

    fn sample(calls: u64, errors: u64, micros: u64) -> Sample {
        let mut sample = Sample { calls, errors, ..Sample::default() };
        (0..calls).for_each(|_| sample.durations.record(micros));
        sample
    }

    fn shifting(rollout: &Rollout, old: Sample, new: Sample) -> Shifting {
        Shifting {
            function: FunctionKey {
                namespace: "default".parse().unwrap(),
                name: "f".parse().unwrap(),
            },
            alias: "live".parse().unwrap(),
            rollout: rollout.clone(),
            samples: vec![(VersionRef::Number(1), old), (VersionRef::Number(2), new)],
        }
    }

    #[test]
    fn a_version_that_starts_failing_is_seen_within_a_window() {
        let (mut tracks, mut shift) = (Tracks::default(), rollout());
        let begin = Instant::now();
        let (mut calls, mut errors) = (0, 0);
        // Good for 50 s, then 5 % fail: the calls of all time would have under 1 % of errors for another 12 s.
        for tenth in 0..700 {
            let now = begin + Duration::from_millis(tenth * 100);
            calls += 20;
            errors += u64::from(tenth >= 500);
            let shifting = shifting(&shift, sample(calls, 0, 1_000), sample(calls, errors, 1_000));
            match tracks.look(&shifting, now, UnixMillis(tenth * 100)) {
                Verdict::Stop(why) => {
                    assert!((501..600).contains(&tenth), "{tenth}: {why}");
                    assert!(why.starts_with("errors of the new version"), "{why}");
                    return;
                }
                Verdict::Next => {
                    assert!(tenth >= 100);
                    shift.step_since = UnixMillis(tenth * 100);
                }
                Verdict::Wait | Verdict::Done => {}
            }
        }
        panic!("it was never stopped");
    }

    #[test]
    fn few_calls_are_not_judged_and_time_goes_on() {
        let shift = rollout();
        let few = Window { new: sample(19, 19, 1), old: sample(500, 0, 1) };
        assert!(matches!(judge(&shift, &few, &few.old, UnixMillis(9_999)), Verdict::Wait));
        assert!(matches!(judge(&shift, &few, &few.old, UnixMillis(10_000)), Verdict::Next));
        let last = Rollout { step: 1, ..shift };
        assert!(matches!(judge(&last, &few, &few.old, UnixMillis(10_000)), Verdict::Done));
        let enough = Window { new: sample(20, 1, 1), old: sample(500, 0, 1) };
        assert!(matches!(judge(&last, &enough, &enough.old, UnixMillis(1)), Verdict::Stop(_)));
    }

    #[test]
    fn the_last_step_is_compared_with_what_was_before() {
        let (mut tracks, shift) = (Tracks::default(), rollout());
        let begin = Instant::now();
        let both = shifting(&shift, sample(100, 0, 1_000), sample(100, 0, 1_000));
        assert!(matches!(tracks.look(&both, begin, UnixMillis(1)), Verdict::Wait));
        let last = Rollout { step: 1, step_since: UnixMillis(30_000), ..shift };
        let mut slow = sample(100, 0, 1_000);
        slow.add(&sample(100, 0, 5_000));
        let alone = shifting(&last, sample(100, 0, 1_000), slow);
        let later = begin + Duration::from_secs(30);
        let Verdict::Stop(why) = tracks.look(&alone, later, UnixMillis(30_001)) else {
            panic!("twice as slow as before");
        };
        assert!(why.starts_with("p99 of the new version"), "{why}");
    }
}
