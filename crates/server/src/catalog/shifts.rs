//! Shifts of aliases: begun, stopped, and carried on step by step.
//!
//! [`Catalog::watch_shifts`] runs as long as the daemon. It compares the calls of the last window of each shift that the engine knows of
//! ([`track`]), as often as [`LOOK`]: what is worse goes back at once, what is not goes on when its step is over. The shift itself is part of the
//! alias, so a daemon that starts again carries on: the calls it saw before are forgotten, so the window fills anew and the step begins anew. Of
//! several daemons each decides by the calls it sees; compare-and-set lets each step be taken once.

mod track;

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use engine::Shifting;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use model::Result;
use model::alias::{Alias, AliasRecord, Percent, Rollout};
use model::api::StartShift;
use model::change::What;
use model::error::{Code, Error};
use model::function::Function;
use model::ids::{AliasName, FunctionKey};

use super::Catalog;
use super::aliases::{AliasAt, PutAliasOutcome, Wanted, has_versions, no_alias};
use super::record::{Intent, Turn};
use track::{Id, Verdict, id};

pub(crate) use track::{Tracks, Window};

/// How often shifts are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How many shifts are carried on at once.
const AT_ONCE: usize = 16;

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
                    baseline: None,
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
            .change_or_brief(key, name, &intent, |_, current, _| {
                let record = current.ok_or_else(|| no_alias(key, name))?;
                let rollout = record.rollout.as_ref().ok_or_else(|| {
                    Error::caller(Code::NotFound, format!("alias '{key}:{name}' does not shift"))
                })?;
                Ok(taken_back(record, rollout))
            })
            .await?;
        Ok(changed.alias)
    }

    /// The calls of the last window of an alias's shift; none without one.
    pub(crate) fn shift_window(&self, at: &AliasAt) -> Window {
        let started_at = at.record.rollout.as_ref().map(|rollout| rollout.started_at);
        let id = started_at.map(|started_at| (at.function.clone(), at.name.clone(), started_at));
        id.map_or_else(Window::default, |id| self.tracks().window(&id))
    }

    fn tracks(&self) -> MutexGuard<'_, Tracks> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries shifts on until it is dropped. Each takes its own time: one that has to wait for the store or for code holds up no other.
    pub(crate) async fn watch_shifts(&self) {
        let mut under_way = FuturesUnordered::new();
        let mut look_at = self.clock.instant() + LOOK;
        loop {
            tokio::select! {
                Some((id, what, done)) = under_way.next() => {
                    self.tracks().end(&id, what, done, self.clock.instant());
                }
                () = self.clock.sleep_until(look_at) => {
                    look_at = self.clock.instant() + LOOK;
                    for (shift, verdict) in self.due(AT_ONCE - under_way.len()) {
                        under_way.push(self.take(shift, verdict));
                    }
                }
            }
        }
    }

    /// At most `limit` shifts that have to be carried on now, those first that have to go back.
    fn due(&self, limit: usize) -> Vec<(Shifting, Verdict)> {
        let shifts = self.engine.shifts();
        let mut tracks = self.tracks();
        tracks.retain(&shifts);
        let now = self.clock.instant();
        let judged = shifts.into_iter().filter_map(|shift| {
            let verdict = tracks.look(&shift, now)?;
            Some((shift, verdict))
        });
        let mut due: Vec<_> = judged.collect();
        due.sort_by_key(|(_, verdict)| verdict.what() != What::ShiftStop);
        due.truncate(limit);
        due.iter().for_each(|(shift, _)| tracks.begin(&id(shift)));
        due
    }

    /// Carries a shift on; tells whether that succeeded.
    async fn take(&self, shift: Shifting, verdict: Verdict) -> (Id, What, bool) {
        let what = verdict.what();
        let carried = match self.carry_on(&shift, verdict).await {
            Err(e) if e.code() == Code::InitFailed => {
                self.carry_on(&shift, Verdict::Stop(e.message().to_owned())).await
            }
            carried => carried,
        };
        if let Err(error) = &carried {
            let alias = format!("{}:{}", shift.function, shift.alias);
            tracing::error!(%error, alias, "a shift cannot be carried on; trying again");
        }
        (id(&shift), what, carried.is_ok())
    }

    async fn carry_on(&self, shift: &Shifting, verdict: Verdict) -> Result<()> {
        let Shifting { function, alias, rollout, .. } = shift;
        let what = verdict.what();
        let (reason, baseline) = match verdict {
            Verdict::Next(baseline) => {
                ("the step is over and nothing stopped it".to_owned(), Some(baseline))
            }
            Verdict::Done => ("the last step is over and nothing stopped it".to_owned(), None),
            Verdict::Stop(why) => (why, None),
        };
        if what == What::ShiftStop {
            tracing::warn!(alias = %format_args!("{function}:{alias}"), reason, "a shift is taken back");
        }
        // The way back is open whatever lies there.
        let intent = Intent::daemon(reason).forced(what == What::ShiftStop);
        let changed = self.change_or_brief(function, alias, &intent, |_, current, turn| {
            let record = current.ok_or_else(|| no_alias(function, alias))?;
            let Some(rollout) = record.rollout.as_ref().filter(|now| *now == rollout) else {
                // Somebody else decided meanwhile.
                let (alias, rollout) = (record.alias.clone(), record.rollout.clone());
                return Ok(Wanted { what, alias, rollout, brief: false });
            };
            Ok(match what {
                What::ShiftStop => taken_back(record, rollout),
                What::ShiftDone => {
                    Wanted { what, alias: record.alias.clone(), rollout: None, brief: false }
                }
                _ => {
                    let step = rollout.step + 1;
                    let last = rollout.share_of(step) == Percent::ALL;
                    let baseline = baseline.filter(|old| last && old.calls > 0);
                    let rollout =
                        Rollout { step, step_since: turn.now, baseline, ..rollout.clone() };
                    shifted(what, record, rollout)
                }
            })
        });
        match changed.await {
            // The alias or its function went away.
            Err(e) if e.code() == Code::NotFound => Ok(()),
            changed => changed.map(drop),
        }
    }

    /// [`Self::change_alias`]; where a function's record has no room for what is recorded of it, with as little of that as there can be.
    async fn change_or_brief(
        &self,
        key: &FunctionKey,
        name: &AliasName,
        intent: &Intent,
        wanted: impl Fn(&Function, Option<&AliasRecord>, Turn) -> Result<Wanted> + Send + Sync,
    ) -> Result<PutAliasOutcome> {
        match self.change_alias(key, name, intent, &wanted).await {
            Err(e) if e.code() == Code::InvalidParameter => {}
            changed => return changed,
        }
        let brief = |function: &Function, current: Option<&AliasRecord>, turn| {
            Ok(Wanted { brief: true, ..wanted(function, current, turn)? })
        };
        self.change_alias(key, name, intent, brief).await
    }
}

/// The alias with the targets of the shift's step.
fn shifted(what: What, record: &AliasRecord, rollout: Rollout) -> Wanted {
    let alias = Alias { targets: rollout.targets(), ..record.alias.clone() };
    Wanted { what, alias, rollout: Some(rollout), brief: false }
}

/// The alias as it was before the shift.
fn taken_back(record: &AliasRecord, rollout: &Rollout) -> Wanted {
    let alias = Alias { targets: rollout.before.clone(), ..record.alias.clone() };
    Wanted { what: What::ShiftStop, alias, rollout: None, brief: false }
}
