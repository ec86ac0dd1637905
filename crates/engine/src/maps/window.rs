//! The chunks of a stage that are under way, or have ended behind one that is: pure bookkeeping.

use std::collections::VecDeque;

use bytes::Bytes;

/// Most chunks that may be ahead of the first one that has not ended.
const AHEAD: usize = 20_000;
/// Bytes of results that are held; further ones are read again when it is their turn.
const HELD_BYTES: usize = 8 << 20;

/// What is known of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Its call waits or runs.
    Open,
    /// With this answer, if it is held.
    Succeeded(Option<Bytes>),
    /// For this reason.
    Failed(String),
}

#[derive(Debug)]
struct Place {
    slot: Slot,
    items: u32,
    first_item: u64,
    /// Of its answer, held or not.
    bytes: usize,
}

/// A chunk that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) chunk: u64,
    pub(super) first_item: u64,
    pub(super) items: u32,
    pub(super) slot: Slot,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    /// The chunk of the first place.
    base: u64,
    places: VecDeque<Place>,
    /// Places at the front that have ended.
    ready: usize,
    /// Of their answers.
    ready_bytes: usize,
    open: usize,
    held_bytes: usize,
    /// Chunks in it that succeeded,
    pub(super) succeeded: u64,
    /// that failed,
    pub(super) failed: u64,
    /// and items of both.
    pub(super) items_ended: u64,
}

impl Window {
    /// The next chunk is this one.
    pub(super) fn new(base: u64) -> Self {
        Self {
            base,
            places: VecDeque::new(),
            ready: 0,
            ready_bytes: 0,
            open: 0,
            held_bytes: 0,
            succeeded: 0,
            failed: 0,
            items_ended: 0,
        }
    }

    /// The chunk that comes next.
    pub(super) fn next(&self) -> u64 {
        self.base + self.places.len() as u64
    }

    /// Chunks whose calls wait or run.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Chunks at the front that have ended.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    /// Bytes of their answers.
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Whether one more may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.places.len() < AHEAD
    }

    /// The next chunk is under way.
    pub(super) fn push(&mut self, first_item: u64, items: u32) {
        self.places.push_back(Place { slot: Slot::Open, items, first_item, bytes: 0 });
        self.open += 1;
    }

    /// A chunk has ended; one that is known to have is left as it is.
    pub(super) fn end(&mut self, chunk: u64, slot: Slot) {
        let at = chunk.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        let Some(place) = at.and_then(|at| self.places.get_mut(at)) else { return };
        if place.slot != Slot::Open || slot == Slot::Open {
            return;
        }
        self.open -= 1;
        self.items_ended += u64::from(place.items);
        place.slot = match slot {
            Slot::Succeeded(answer) => {
                self.succeeded += 1;
                place.bytes = answer.as_ref().map_or(0, Bytes::len);
                let room = HELD_BYTES.saturating_sub(self.held_bytes);
                let held = answer.filter(|answer| answer.len() <= room);
                self.held_bytes += held.as_ref().map_or(0, Bytes::len);
                Slot::Succeeded(held)
            }
            failed => {
                self.failed += 1;
                failed
            }
        };
        while let Some(place) = self.places.get(self.ready)
            && place.slot != Slot::Open
        {
            self.ready += 1;
            self.ready_bytes += place.bytes;
        }
    }

    /// Takes the first chunk out, if it has ended.
    pub(super) fn pop(&mut self) -> Option<Ended> {
        if self.ready == 0 {
            return None;
        }
        let Place { slot, items, first_item, bytes } = self.places.pop_front()?;
        let chunk = self.base;
        self.base += 1;
        self.ready -= 1;
        self.ready_bytes -= bytes;
        self.items_ended -= u64::from(items);
        match &slot {
            Slot::Succeeded(answer) => {
                self.succeeded -= 1;
                self.held_bytes -= answer.as_ref().map_or(0, Bytes::len);
            }
            _ => self.failed -= 1,
        }
        Some(Ended { chunk, first_item, items, slot })
    }

    /// Chunks that failed, the first of them first: which, its first item, why.
    pub(super) fn failures(&self) -> impl Iterator<Item = (u64, u64, &str)> {
        (self.base..).zip(&self.places).filter_map(|(chunk, place)| match &place.slot {
            Slot::Failed(message) => Some((chunk, place.first_item, message.as_str())),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> Slot {
        Slot::Succeeded(Some(Bytes::from(vec![b'1'; bytes])))
    }

    #[test]
    fn chunks_leave_in_order() {
        let mut window = Window::new(5);
        for items in [3, 1, 2] {
            window.push(0, items);
        }
        assert_eq!((window.next(), window.open(), window.pop()), (8, 3, None));
        window.end(6, Slot::Failed("no".into()));
        assert_eq!((window.ready(), window.open(), window.failed), (0, 2, 1));
        assert_eq!(window.failures().collect::<Vec<_>>(), [(6, 0, "no")]);
        window.end(5, answer(1));
        window.end(5, Slot::Failed("late".into()));
        window.end(99, answer(1));
        window.end(2, answer(1));
        assert_eq!((window.ready(), window.succeeded, window.items_ended), (2, 1, 4));
        assert_eq!(window.pop().unwrap().slot, answer(1));
        assert_eq!(window.pop().unwrap().chunk, 6);
        assert_eq!(window.pop(), None, "the last one is open");
        assert_eq!((window.held_bytes, window.next()), (0, 8));
        assert_eq!((window.succeeded, window.failed, window.items_ended), (0, 0, 0));
    }

    #[test]
    fn not_all_answers_are_held() {
        let mut window = Window::new(0);
        for chunk in 0..3 {
            window.push(0, 1);
            window.end(chunk, answer(HELD_BYTES / 2));
        }
        assert_eq!((window.held_bytes, window.ready_bytes()), (HELD_BYTES, HELD_BYTES / 2 * 3));
        let held = std::iter::from_fn(|| window.pop());
        let held: Vec<_> =
            held.map(|ended| matches!(ended.slot, Slot::Succeeded(Some(_)))).collect();
        assert_eq!((held, window.held_bytes), (vec![true, true, false], 0));
        assert_eq!(window.ready_bytes(), 0);
    }
}
