//! The places of connections. One that is being answered keeps its place; those that wait make room for new ones.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use cuponera_core::telemetry::metrics;
use tokio_util::sync::CancellationToken;

/// When all places are taken, one in so many of those that wait has to leave: so the search for them is rare.
const SHARE_THAT_LEAVES: usize = 16;
/// Where most are being answered, one that waits has this long for itself, in milliseconds: newcomers that come close
/// together must not throw each other out.
const FIRST_WAIT_MS: u64 = 1_000;

/// All places.
#[derive(Debug)]
pub(crate) struct Seats {
    most: usize,
    begun: Instant,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    all: HashMap<u64, Arc<State>>,
}

#[derive(Debug)]
struct State {
    /// Since when it waits, in milliseconds from `begun`.
    waits_since: AtomicU64,
    is_answered: AtomicBool,
    has_asked: AtomicBool,
    leave: CancellationToken,
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    state: Arc<State>,
}

/// A request is being answered on this place, until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy {
    seats: Arc<Seats>,
    state: Arc<State>,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, begun: Instant::now(), taken: Mutex::default() }
    }

    /// A place; none if all are taken by connections that are being answered.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = self.taken();
        if taken.all.len() >= self.most {
            make_room(&mut taken, self.now());
        }
        if taken.all.len() >= self.most {
            return None;
        }
        let number = taken.next;
        taken.next += 1;
        let state = Arc::new(State {
            waits_since: AtomicU64::new(self.now()),
            is_answered: AtomicBool::new(false),
            has_asked: AtomicBool::new(false),
            leave: CancellationToken::new(),
        });
        taken.all.insert(number, state.clone());
        metrics::edge().connections.increment(1);
        Some(Seat { seats: self.clone(), number, state })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends away those that have waited longest.
fn make_room(taken: &mut Taken, now: u64) {
    let waiting = taken.all.iter().filter(|(_, state)| !state.is_answered.load(Ordering::Acquire));
    let mut waiting: Vec<(u64, u64)> =
        waiting.map(|(number, state)| (state.waits_since.load(Ordering::Relaxed), *number)).collect();
    if waiting.len() * 2 < taken.all.len() {
        waiting.retain(|(since, _)| now.saturating_sub(*since) >= FIRST_WAIT_MS);
    }
    let leaving = waiting.len().div_ceil(SHARE_THAT_LEAVES);
    waiting.sort_unstable();
    for (_, number) in &waiting[..leaving] {
        if let Some(state) = taken.all.remove(number) {
            state.leave.cancel();
        }
    }
}

impl Seat {
    /// Holds the place while a request is answered.
    pub(crate) fn begin(&self) -> Busy {
        self.state.is_answered.store(true, Ordering::Release);
        self.state.has_asked.store(true, Ordering::Relaxed);
        Busy { seats: self.seats.clone(), state: self.state.clone() }
    }

    /// Whether a request has come on this connection.
    pub(crate) fn has_asked(&self) -> bool {
        self.state.has_asked.load(Ordering::Relaxed)
    }

    /// Until the place is given to another.
    pub(crate) async fn must_leave(&self) {
        self.state.leave.cancelled().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().all.remove(&self.number);
        metrics::edge().connections.decrement(1);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.state.waits_since.store(self.seats.now(), Ordering::Relaxed);
        self.state.is_answered.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_wait_make_room_and_those_that_are_answered_stay() {
        let seats = Arc::new(Seats::new(2));
        let held: Vec<Seat> = (0..2).map(|_| seats.take().unwrap()).collect();
        let answered = held[0].begin();
        let newcomer = seats.take().expect("the one that waits makes room");
        assert!(held[1].state.leave.is_cancelled() && !held[0].state.leave.is_cancelled());
        let _answered = newcomer.begin();
        assert!(seats.take().is_none(), "all are being answered");
        drop(answered);
        assert!(seats.take().is_some());
    }

    #[test]
    fn where_most_are_answered_a_newcomer_is_not_thrown_out_by_the_next() {
        let seats = Arc::new(Seats::new(3));
        let held: Vec<Seat> = (0..3).map(|_| seats.take().unwrap()).collect();
        let _answered = [held[0].begin(), held[1].begin()];
        assert!(seats.take().is_none());
        assert!(!held[2].state.leave.is_cancelled());
        held[2].state.waits_since.store(0, Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(FIRST_WAIT_MS));
        assert!(seats.take().is_some(), "it has had its time");
        assert!(held[2].state.leave.is_cancelled());
    }

    #[test]
    fn a_place_is_free_when_its_connection_is_gone() {
        let seats = Arc::new(Seats::new(1));
        for _ in 0..3 {
            let seat = seats.take().unwrap();
            let busy = seat.begin();
            assert!(seats.take().is_none());
            drop((busy, seat));
        }
    }
}
