//! Instances started ahead of a change, so that no call waits for them.
//!
//! A pool is held while a change that needs it is under way: it is there although no route leads to it yet, and nobody takes its idle instances.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::error::Error;
use model::invocation::Failure;
use tokio::sync::oneshot;

use super::{Pool, Refused, START_GRACE, Started};
use crate::admit::{Denied, Permit};
use crate::line::WARM_UP_CALLS;

/// How long a start waits for room that others are making.
const ROOM_WAIT: Duration = Duration::from_millis(500);
/// How often it looks.
const ROOM_LOOK: Duration = Duration::from_millis(5);

/// Longest part of a function's own error that is shown, in characters.
const SHOWN_CHARS: usize = 500;

/// Within which limit of the function instances are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Its own.
    Within,
    /// Twice its own, as they are to replace others.
    Beside,
}

/// Why not all instances stand ready.
#[derive(Debug)]
pub(crate) enum NotReady {
    /// The code cannot be loaded.
    Function(Failure),
    /// A limit stands in the way.
    Denied(Denied),
    /// The platform's fault.
    Platform(Error),
    /// The starts take too long, and go on.
    Late,
}

impl NotReady {
    /// What a function said when it could not be loaded.
    pub(crate) fn shown(failure: &Failure) -> String {
        #[derive(Default, serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Said {
            error_type: String,
            error_message: String,
        }
        let Said { error_type, error_message } =
            serde_json::from_slice(&failure.payload).unwrap_or_default();
        let said = format!("{error_type}: {error_message}");
        let mut shown: String = said.chars().take(SHOWN_CHARS).collect();
        if said.chars().nth(SHOWN_CHARS).is_some() {
            shown.push('…');
        }
        format!("its code cannot be loaded ({}): {shown}", failure.kind.as_str())
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(failure) => f.write_str(&Self::shown(failure)),
            Self::Denied(denied) => write!(f, "there is no room for more instances: {denied:?}"),
            Self::Platform(error) => write!(f, "{error}"),
            Self::Late => f.write_str("they take too long to start"),
        }
    }
}

impl Pool {
    /// Holds the pool for a change; `false` if it is retired.
    pub(crate) fn hold(&self) -> bool {
        let mut state = self.lock();
        if !state.retired {
            state.held += 1;
            state.yields = false;
        }
        !state.retired
    }

    /// Whether a change holds it.
    pub(crate) fn is_held(&self) -> bool {
        self.lock().held > 0
    }

    /// Ends a hold. `true`: nobody holds it any more.
    pub(crate) fn let_go(&self) -> bool {
        let mut state = self.lock();
        state.held -= 1;
        state.held == 0
    }

    /// Has `other` serve the calls that would wait here, while the code of this pool is fresh; `None`: no longer.
    pub(crate) fn relieve(&self, other: Option<&Arc<Self>>) {
        let relief = other.map(Arc::clone);
        // What was there is let go outside of the lock.
        drop(std::mem::replace(&mut self.lock().relief, relief));
    }

    /// Whether its code has run often enough to be compiled by the language.
    pub(crate) fn is_warm(&self) -> bool {
        let instances = u32::try_from(self.lock().there()).unwrap_or(u32::MAX);
        self.ended() >= WARM_UP_CALLS.saturating_mul(instances.max(1))
    }

    /// Calls that have ended.
    pub(crate) fn ended(&self) -> u32 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether calls came within the last seconds.
    pub(crate) fn is_busy(&self) -> bool {
        self.demand().is_some_and(|busy| busy > 0)
    }

    /// Takes over what is known of the calls of `other`, whose calls will come here.
    pub(crate) fn follow(&self, other: &Self) {
        self.pace.follow(&other.pace);
        if self.start_us.load(Ordering::Relaxed) == 0 {
            self.start_us.store(other.start_us.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let quiet = other.lock().quiet;
        let mut state = self.lock();
        state.quiet = state.quiet.or(quiet);
    }

    /// How many instances it takes to serve what came lately: those on loan within the last seconds, and calls that wait. `None`: nothing lives here, and
    /// nothing waits.
    pub(crate) fn demand(&self) -> Option<usize> {
        let quick = self.pace.is_quick();
        let state = self.lock();
        let busy = state.peak.into_iter().fold(state.lent, usize::max)
            + state.waiters.len().div_ceil(self.seats);
        // More than processors would not make a quick function any faster.
        let most = if quick { self.deps.processors } else { usize::MAX };
        (busy + state.there() > 0).then_some(busy.min(most))
    }

    /// Returns once `n` instances are there, busy or idle, or why they are not. Few are started at once, as calls go on meanwhile.
    pub(crate) async fn make_ready(self: &Arc<Self>, n: usize, room: Room) -> Result<(), NotReady> {
        let begin = self.now();
        let (mut starts, mut denied) = (VecDeque::new(), None);
        while denied.is_none()
            && let Some(admitted) = self.start_ahead(n, room).await
        {
            match admitted {
                Ok(start) => starts.push_back(start),
                Err(by) => denied = Some(by),
            }
            if starts.len() >= self.starts()
                && let Some(start) = starts.pop_front()
            {
                self.started(start, begin + START_GRACE).await?;
            }
        }
        for start in starts {
            self.started(start, begin + START_GRACE).await?;
        }
        denied.map_or(Ok(()), |denied| Err(NotReady::Denied(denied)))
    }

    /// What comes of a start until `deadline`.
    async fn started(
        &self,
        start: oneshot::Receiver<Started>,
        deadline: Instant,
    ) -> Result<(), NotReady> {
        let started = tokio::select! {
            biased;
            started = start => started,
            () = self.deps.clock.sleep_until(deadline) => return Err(NotReady::Late),
        };
        match started {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Refused::Function(failure))) => Err(NotReady::Function(failure)),
            Ok(Err(Refused::Error(error))) => Err(NotReady::Platform(error)),
            Ok(Err(Refused::Moved(_))) | Err(_) => Err(NotReady::Platform(super::stopping())),
        }
    }

    /// Begins one more start if fewer than `n` instances are there.
    async fn start_ahead(
        self: &Arc<Self>,
        n: usize,
        room: Room,
    ) -> Option<Result<oneshot::Receiver<Started>, Denied>> {
        if self.lock().there() >= n {
            return None;
        }
        let permit = match self.admit_ahead(room).await {
            Ok(permit) => permit,
            Err(denied) => return Some(Err(denied)),
        };
        {
            let mut state = self.lock();
            if state.there() >= n {
                return None;
            }
            state.starting += 1;
        }
        let (told, started) = oneshot::channel();
        let start = Arc::clone(self).start(permit, Some(told));
        drop(self.deps.tasks.spawn("start-instance", start));
        Some(Ok(started))
    }

    /// The right to an instance before a call needs it. Where other functions' idle instances are in the way, one of them ends.
    async fn admit_ahead(&self, room: Room) -> Result<Permit, Denied> {
        let (mut evicted, until) = (false, self.now() + ROOM_WAIT);
        loop {
            let memory_mb = self.version.config.memory_mb;
            let admission = &self.deps.admission;
            let admitted = match room {
                Room::Within => self.admit(),
                Room::Beside => admission.admit_ahead(&self.function, &self.namespace, memory_mb),
            };
            let denied = match admitted {
                Ok(permit) => return Ok(permit),
                Err(denied) => denied,
            };
            if self.now() >= until {
                return Err(denied);
            }
            if !evicted && denied != Denied::Function {
                let fits = |p: &Pool| {
                    let within = Arc::ptr_eq(&p.namespace, &self.namespace);
                    !Arc::ptr_eq(&p.function, &self.function)
                        && (within || denied == Denied::HostMemory)
                        && self.wins_by(p)
                };
                evicted = self.deps.registry.evict_one(self.now(), self, fits);
            }
            let clock = &self.deps.clock;
            clock.sleep_until(clock.instant() + ROOM_LOOK).await;
        }
    }

    /// From now on its idle instances make way while the function is over its limit.
    pub(crate) fn make_way(&self) {
        self.lock().yields = true;
        let excess = self.function.instances.excess();
        if excess > 0 {
            self.stop_idle(|_| true, usize::try_from(excess).unwrap_or(usize::MAX));
        }
    }
}
