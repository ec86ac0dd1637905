//! Host user ids for instances: one each, never shared by two that live.

use std::sync::{Arc, Mutex, PoisonError};

use model::{Code, Error, Result};

/// How many ids there are.
pub(super) const SLOTS: u32 = 65_536;

#[derive(Debug)]
struct State {
    /// Given back.
    free: Vec<u32>,
    /// Never taken so far: this and all above.
    fresh: u32,
}

/// A range of ids.
#[derive(Debug)]
pub(super) struct Slots {
    base: u32,
    state: Mutex<State>,
}

impl Slots {
    /// [`SLOTS`] ids from `base`.
    pub(super) fn new(base: u32) -> Arc<Self> {
        Arc::new(Self { base, state: Mutex::new(State { free: Vec::new(), fresh: 0 }) })
    }

    /// How many are held.
    pub(super) fn held(&self) -> usize {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        usize::try_from(state.fresh).unwrap_or(usize::MAX).saturating_sub(state.free.len())
    }

    /// An id that no live instance has.
    pub(super) fn take(self: &Arc<Self>) -> Result<Slot> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = match state.free.pop() {
            Some(number) => number,
            None if state.fresh < SLOTS => {
                state.fresh += 1;
                state.fresh - 1
            }
            None => {
                return Err(Error::platform(
                    Code::SandboxFailed,
                    format!("{SLOTS} instances are live: there is no user id for another"),
                ));
            }
        };
        drop(state);
        Ok(Slot { number, slots: Arc::clone(self) })
    }
}

/// An id in use; given back when dropped, which has to be after the last process that runs under it is gone.
#[derive(Debug)]
pub(super) struct Slot {
    number: u32,
    slots: Arc<Slots>,
}

impl Slot {
    /// The id; also good as a group id.
    pub(super) fn id(&self) -> u32 {
        self.slots.base.saturating_add(self.number)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.state.lock().unwrap_or_else(PoisonError::into_inner).free.push(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_while_held_and_used_again_after() {
        let slots = Slots::new(1000);
        let (a, b) = (slots.take().unwrap(), slots.take().unwrap());
        assert_eq!((a.id(), b.id(), slots.held()), (1000, 1001, 2));
        drop(a);
        assert_eq!(slots.held(), 1);
        assert_eq!(slots.take().unwrap().id(), 1000);
        drop(b);
    }

    #[test]
    fn the_range_ends() {
        let slots = Slots::new(0);
        let all: Vec<_> = (0..SLOTS).map(|_| slots.take().unwrap()).collect();
        assert_eq!(slots.take().unwrap_err().code(), Code::SandboxFailed);
        drop(all);
        slots.take().unwrap();
    }
}
