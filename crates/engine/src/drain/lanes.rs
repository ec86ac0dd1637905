//! Which lane is served next, and by how many at once.
//!
//! Lanes take turns, each for a few messages, so that a million calls of one function hold up nobody else's. How many of a lane run at once grows while its calls
//! find instances without waiting, and shrinks when they wait or are refused: it settles at what the function and its limits bear. The last part of the room is
//! kept for lanes that run nothing, so that slow functions cannot fill it all.

use std::collections::{BTreeSet, HashMap, VecDeque};

use model::clock::UnixMillis;
use model::ports::Lane;

/// Most messages that a lane takes in one turn.
const QUANTUM: usize = 16;
/// How many of a lane may run at once before anything is known of it.
const WINDOW_FIRST: usize = 4;
/// Of the whole room, one part in so many is for lanes that run nothing.
const RESERVED_PART: usize = 4;

/// How a call found its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// With room.
    Room,
    /// It had to wait for an instance.
    Crowd,
    /// It was refused.
    Refusal,
}

/// A lane's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) lane: Lane,
    /// How many messages to lease at most.
    pub(super) n: usize,
}

#[derive(Debug)]
struct State {
    /// Its messages that run.
    running: usize,
    /// How many may.
    window: usize,
    /// It stands in the line.
    in_line: bool,
    /// Its turn is being taken.
    leasing: bool,
    /// There may be messages that are due.
    due: bool,
    /// When to look again.
    look_at: Option<UnixMillis>,
}

impl State {
    fn new() -> Self {
        let window = WINDOW_FIRST;
        Self { running: 0, window, in_line: false, leasing: false, due: false, look_at: None }
    }

    fn is_forgettable(&self) -> bool {
        self.running == 0 && !self.in_line && !self.leasing && !self.due && self.look_at.is_none()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lanes {
    known: HashMap<Lane, State>,
    line: VecDeque<Lane>,
    /// When to look at a lane again: what `look_at` says of each.
    times: BTreeSet<(UnixMillis, Lane)>,
    /// Messages that run, and those that turns under way may still bring.
    taken: usize,
    room: usize,
}

impl Lanes {
    /// `room`: messages that may run at once.
    pub(super) fn new(room: usize) -> Self {
        let (known, line, times) = (HashMap::new(), VecDeque::new(), BTreeSet::new());
        Self { known, line, times, taken: 0, room: room.max(1) }
    }

    /// Something of this lane may be due.
    pub(super) fn due(&mut self, lane: &Lane) {
        self.known.entry(lane.clone()).or_insert_with(State::new).due = true;
        self.line_up(lane);
    }

    /// Time has come this far.
    pub(super) fn time(&mut self, now: UnixMillis) {
        while self.next_time().is_some_and(|at| at <= now)
            && let Some((_, lane)) = self.times.pop_first()
        {
            if let Some(state) = self.known.get_mut(&lane) {
                state.look_at = None;
            }
            self.due(&lane);
        }
    }

    /// Times are not what they were: every lane is looked at again.
    pub(super) fn look_at_all(&mut self) {
        self.time(UnixMillis(u64::MAX));
    }

    /// When [`Lanes::time`] has something to do next.
    pub(super) fn next_time(&self) -> Option<UnixMillis> {
        self.times.first().map(|(at, _)| *at)
    }

    /// The next lane that may lease, if one may. [`Lanes::leased`] has to follow.
    pub(super) fn next(&mut self) -> Option<Turn> {
        let reserved = self.room / RESERVED_PART;
        for _ in 0..self.line.len() {
            let free = self.room.saturating_sub(self.taken);
            if free == 0 {
                return None;
            }
            let lane = self.line.pop_front()?;
            let Some(state) = self.known.get_mut(&lane) else { continue };
            let free = if state.running == 0 { free } else { free.saturating_sub(reserved) };
            let n = state.window.saturating_sub(state.running).min(free).min(QUANTUM);
            // One that runs nothing takes no more of the reserved part than one message.
            let n =
                if state.running == 0 { n.min(free.saturating_sub(reserved).max(1)) } else { n };
            if n == 0 {
                self.line.push_back(lane);
                continue;
            }
            (state.in_line, state.leasing, state.due) = (false, true, false);
            self.taken += n;
            return Some(Turn { lane, n });
        }
        None
    }

    /// What came of a turn: so many messages run now. `more`: further ones may be due. `next_due`: when one is that is not yet.
    pub(super) fn leased(
        &mut self,
        turn: &Turn,
        running: usize,
        more: bool,
        next_due: Option<UnixMillis>,
    ) {
        self.taken = self.taken.saturating_sub(turn.n.saturating_sub(running));
        let Some(state) = self.known.get_mut(&turn.lane) else { return };
        state.leasing = false;
        state.running += running;
        // What the watch said meanwhile stays said.
        state.due |= more;
        if let Some(at) = next_due
            && state.look_at.is_none_or(|known| at < known)
        {
            if let Some(later) = state.look_at.replace(at) {
                self.times.remove(&(later, turn.lane.clone()));
            }
            self.times.insert((at, turn.lane.clone()));
        }
        self.line_up(&turn.lane);
        self.forget(&turn.lane);
    }

    /// A message runs no more.
    pub(super) fn over(&mut self, lane: &Lane, found: Found) {
        self.taken = self.taken.saturating_sub(1);
        let room = self.room;
        let Some(state) = self.known.get_mut(lane) else { return };
        state.window = match found {
            // Only one that is full can tell that there is room for more.
            Found::Room if state.running >= state.window => (state.window + 1).min(room),
            Found::Room => state.window,
            Found::Crowd => (state.window - 1).max(1),
            Found::Refusal => (state.window / 2).max(1),
        };
        state.running = state.running.saturating_sub(1);
        self.line_up(lane);
        self.forget(lane);
    }

    /// Gives a lane a place in the line if it needs one and may use it.
    fn line_up(&mut self, lane: &Lane) {
        if let Some(state) = self.known.get_mut(lane)
            && state.due
            && !state.in_line
            && !state.leasing
            && state.running < state.window
        {
            state.in_line = true;
            self.line.push_back(lane.clone());
        }
    }

    fn forget(&mut self, lane: &Lane) {
        if self.known.get(lane).is_some_and(State::is_forgettable) {
            self.known.remove(lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(name: &str) -> Lane {
        Lane::new(name).unwrap()
    }

    /// Takes a turn of which every message is there, and more.
    fn full(lanes: &mut Lanes) -> Option<Turn> {
        let turn = lanes.next()?;
        lanes.leased(&turn, turn.n, true, None);
        Some(turn)
    }

    #[test]
    fn lanes_take_turns() {
        let mut lanes = Lanes::new(1_000);
        let (a, b) = (lane("a"), lane("b"));
        lanes.due(&a);
        lanes.due(&b);
        lanes.due(&a);
        assert_eq!(full(&mut lanes), Some(Turn { lane: a.clone(), n: WINDOW_FIRST }));
        assert_eq!(full(&mut lanes), Some(Turn { lane: b, n: WINDOW_FIRST }));
        assert_eq!(full(&mut lanes), None, "windows are full");
        lanes.over(&a, Found::Room);
        assert_eq!(
            full(&mut lanes),
            Some(Turn { lane: a, n: 2 }),
            "one is over, and one more may run"
        );
    }

    #[test]
    fn a_window_follows_what_its_calls_find() {
        let mut lanes = Lanes::new(1_000);
        let a = lane("a");
        lanes.due(&a);
        for _ in 0..1_000 {
            while full(&mut lanes).is_some() {}
            lanes.over(&a, Found::Room);
        }
        let wide = lanes.known[&a].window;
        assert!(wide > 100, "{wide}");
        lanes.over(&a, Found::Crowd);
        assert_eq!(lanes.known[&a].window, wide - 1);
        for _ in 0..20 {
            lanes.over(&a, Found::Refusal);
        }
        assert_eq!(lanes.known[&a].window, 1);
    }

    #[test]
    fn one_that_is_not_full_learns_nothing() {
        let mut lanes = Lanes::new(1_000);
        let a = lane("a");
        for _ in 0..100 {
            lanes.due(&a);
            let turn = lanes.next().unwrap();
            lanes.leased(&turn, 1, false, None);
            lanes.over(&a, Found::Room);
        }
        assert!(lanes.known.is_empty(), "and is forgotten: {lanes:?}");
        assert_eq!(lanes.taken, 0);
    }

    #[test]
    fn slow_lanes_leave_room_for_those_that_run_nothing() {
        let mut lanes = Lanes::new(16);
        for n in 0..4 {
            lanes.due(&lane(&format!("slow-{n}")));
        }
        let mut slow = 0;
        while let Some(turn) = full(&mut lanes) {
            slow += turn.n;
        }
        assert_eq!(
            slow, 13,
            "each has at least one, together they have little of the last quarter"
        );
        for n in 0..3 {
            let quick = lane(&format!("quick-{n}"));
            lanes.due(&quick);
            let turn = std::iter::from_fn(|| lanes.next()).find(|turn| turn.lane == quick).unwrap();
            assert_eq!(turn.n, 1);
            lanes.leased(&turn, 1, false, None);
        }
        lanes.due(&lane("late"));
        assert_eq!(full(&mut lanes), None);
        lanes.over(&lane("quick-0"), Found::Room);
        assert_eq!(full(&mut lanes).map(|turn| turn.lane), Some(lane("late")));
    }

    #[test]
    fn what_is_not_due_yet_is_looked_at_in_time() {
        let mut lanes = Lanes::new(16);
        let a = lane("a");
        lanes.due(&a);
        let turn = lanes.next().unwrap();
        lanes.leased(&turn, 0, false, Some(UnixMillis(50)));
        assert_eq!((lanes.next(), lanes.next_time()), (None, Some(UnixMillis(50))));
        lanes.time(UnixMillis(49));
        assert_eq!(lanes.next(), None);
        lanes.time(UnixMillis(50));
        let turn = lanes.next().unwrap();
        // Something came while the turn was taken.
        lanes.due(&a);
        lanes.leased(&turn, 0, false, None);
        assert!(lanes.next().is_some());
    }
}
