//! Several calls at once in one instance, of functions that ask for that.
//!
//! An instance with calls is a [`House`]: it counts as one on loan, and each of its calls has a place of its own in it (`Instance::seat`), which is a loan of its
//! own. Calls fill an instance before they take another one. When the last call has left, the instance is idle, or it ends, as after a single call.
//! One that takes no more calls, because one of them went wrong, ends when those that are in it have.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Idle, Lent, Pool, Refused, State};
use crate::line::Waiter;

/// Names an instance with calls in it, within its pool.
pub(super) type HouseId = u64;

/// An instance with calls in it.
#[derive(Debug)]
pub(super) struct House {
    id: HouseId,
    root: Lent,
    /// How many.
    busy: usize,
}

impl House {
    /// A place for one more call, if there is one.
    fn seat(&mut self, seats: usize, fresh: bool) -> Option<Lent> {
        let has_room = self.busy < seats && self.root.instance.alive();
        let instance = has_room.then(|| self.root.instance.seat()).flatten()?;
        self.busy += 1;
        let (ahead, served, house) = (VecDeque::new(), self.root.served, Some(self.id));
        Some(Lent { instance, ahead, fresh, served, permit: None, house })
    }
}

impl State {
    /// An instance for a call, or a place in one, if there is any.
    pub(super) fn take(&mut self, seats: usize) -> Option<Lent> {
        if seats == 1 {
            let idle = self.take_idle()?;
            self.lend();
            return Some(idle.lent);
        }
        let seat = self.houses.iter_mut().rev().find_map(|house| house.seat(seats, false));
        if seat.is_some() {
            return seat;
        }
        let idle = self.take_idle()?;
        self.lend();
        let (seat, root) = self.house(idle.lent, |house| house.seat(seats, false));
        seat.or(root)
    }

    /// Has an instance on loan take calls by `fill`. It comes back if it has taken none: it has no places.
    fn house<T>(&mut self, root: Lent, fill: impl FnOnce(&mut House) -> T) -> (T, Option<Lent>) {
        let mut house = House { id: self.next_house, root, busy: 0 };
        self.next_house += 1;
        let filled = fill(&mut house);
        if house.busy == 0 {
            return (filled, Some(house.root));
        }
        self.houses.push(house);
        (filled, None)
    }

    /// A call has left; the instance itself if that was the last.
    fn leave(&mut self, id: HouseId) -> Option<Lent> {
        let at = self.houses.iter().position(|house| house.id == id)?;
        let house = self.houses.get_mut(at)?;
        house.busy = house.busy.saturating_sub(1);
        house.root.served = house.root.served.saturating_add(1);
        (house.busy == 0).then(|| self.houses.swap_remove(at).root)
    }
}

impl Pool {
    /// Has an instance on loan that has no call take those that wait, as many as it can; without any it is idle, or ends. It comes back if it takes calls, but
    /// one at a time.
    pub(super) fn open_house(self: &Arc<Self>, root: Lent) -> Option<Lent> {
        let in_the_way = self.deps.admission.is_in_the_way(&self.function, &self.namespace);
        let mut granted: Vec<(Lent, Waiter)> = Vec::new();
        let left = {
            let mut state = self.lock();
            let none_waits = state.waiters.is_empty();
            let makes_way = state.yields && self.function.instances.is_over();
            if in_the_way || !root.instance.alive() || none_waits && (state.retired || makes_way) {
                drop(state);
                self.destroy(root);
                return None;
            }
            if none_waits {
                let since = self.now();
                state.give_back(since);
                state.idle.push(Idle { lent: Lent { fresh: false, ..root }, since });
                drop(state);
                self.deps.admission.idled();
                return None;
            }
            let (mut waiting, fresh) = (std::mem::take(&mut state.waiters), root.fresh);
            let ((), left) = state.house(root, |house| {
                while !waiting.is_empty()
                    && let Some(seat) = house.seat(self.seats, fresh)
                    && let Some(waiter) = waiting.pop_front()
                {
                    granted.push((seat, waiter));
                }
            });
            state.waiters = waiting;
            left
        };
        for (seat, waiter) in granted {
            self.hand_seat(seat, waiter);
        }
        left
    }

    /// Hands a call over that has waited.
    fn hand_seat(self: &Arc<Self>, mut seat: Lent, waiter: Waiter) {
        if !seat.instance.hand(&waiter.invocation) {
            self.lock().waiters.push_front(waiter);
            self.destroy(seat);
            return self.grow();
        }
        if let Err(Ok(seat)) = waiter.grant.send(Ok(seat)) {
            // Whoever waits does so to the end; only the end of the daemon is no end of a wait.
            self.destroy(seat);
        }
    }

    /// A call has ended: its place goes to the first that waits, if the instance takes more.
    pub(super) fn release_seat(self: &Arc<Self>, seat: Lent, house: HouseId) {
        let next = {
            let mut state = self.lock();
            if seat.instance.alive() { state.waiters.pop_front() } else { None }
        };
        match next {
            Some(waiter) => self.hand_seat(Lent { fresh: false, ..seat }, waiter),
            None => {
                self.leave_seat(seat, house);
                self.grow();
            }
        }
    }

    /// Gives a place up, and the instance if nobody else is in it.
    pub(super) fn leave_seat(self: &Arc<Self>, seat: Lent, house: HouseId) {
        // Before the instance may be stopped.
        drop(seat);
        let root = self.lock().leave(house);
        if let Some(root) = root.and_then(|root| self.open_house(root)) {
            self.hand_over_alone(root);
        }
    }

    /// A start that failed is the answer to the first calls that wait: to as many as the instance would have taken, and to no more than wait for no other start.
    pub(super) fn refuse_waiting(&self, refused: Refused) {
        let refused_waiters: Vec<Waiter> = {
            let mut state = self.lock();
            let others = state.starting * self.seats;
            let alone = state.waiters.len().saturating_sub(others).max(1).min(self.seats);
            let alone = alone.min(state.waiters.len());
            state.waiters.drain(..alone).collect()
        };
        let function = match &refused {
            Refused::Function(failure) => Some(failure.clone()),
            Refused::Error(_) | Refused::Moved(_) => None,
        };
        let mut refused = Some(refused);
        for waiter in refused_waiters {
            let why = refused.take().or_else(|| function.clone().map(Refused::Function));
            match why {
                // Whoever waits does so to the end.
                Some(why) => waiter.grant.send(Err(why)).unwrap_or_default(),
                // A fault of the platform is nobody else's: they wait for another start.
                None => self.lock().waiters.push_front(waiter),
            }
        }
    }
}
