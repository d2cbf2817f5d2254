//! Places for work that takes long, of which nobody may have all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

/// So many places, and so many for one caller.
#[derive(Debug)]
pub(crate) struct Places {
    all: Semaphore,
    most_of_one: usize,
    taken: Mutex<HashMap<Uuid, usize>>,
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    places: &'a Places,
    of: Uuid,
    _one_of_all: SemaphorePermit<'a>,
}

impl Places {
    pub(crate) fn new(all: usize, most_of_one: usize) -> Self {
        Self { all: Semaphore::new(all), most_of_one, taken: Mutex::default() }
    }

    /// A place for this caller; none if all are taken, or the caller's own.
    pub(crate) fn take(&self, of: Uuid) -> Option<Place<'_>> {
        let one_of_all = self.all.try_acquire().ok()?;
        let mut taken = self.taken();
        let own = taken.entry(of).or_default();
        if *own >= self.most_of_one {
            return None;
        }
        *own += 1;
        Some(Place { places: self, of, _one_of_all: one_of_all })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(own) = taken.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_its_share_and_all_together_not_more_than_there_are() {
        let places = Places::new(3, 2);
        let [ann, bob] = [Uuid::now_v7(), Uuid::now_v7()];
        let held = [places.take(ann), places.take(ann)];
        assert!(held.iter().all(Option::is_some));
        assert!(places.take(ann).is_none());
        let last = places.take(bob).expect("one is left");
        assert!(places.take(bob).is_none());
        drop((held, last));
        assert!(places.take(bob).is_some());
        assert!(places.taken().is_empty());
    }
}
