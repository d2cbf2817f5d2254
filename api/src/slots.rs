//! Slots for connections, uploads and watchers: a bounded number in total, and a smaller number for each owner, so that one
//! owner cannot use all of them.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A bounded number of slots, and a limit for each owner.
#[derive(Debug)]
pub(crate) struct Slots<K>(Arc<Shared<K>>);

#[derive(Debug)]
struct Shared<K> {
    total: usize,
    limit_per_owner: usize,
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    total: usize,
    by_owner: HashMap<K, usize>,
}

/// A slot in use; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Slot<K: Eq + Hash> {
    slots: Arc<Shared<K>>,
    owner: Option<K>,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All slots are in use.
    Total,
    /// The owner has as many as one owner may have.
    Owner,
}

impl<K: Clone + Eq + Hash> Slots<K> {
    pub(crate) fn new(total: usize, limit_per_owner: usize) -> Self {
        let taken = Mutex::new(Taken { total: 0, by_owner: HashMap::new() });
        Self(Arc::new(Shared { total, limit_per_owner, taken }))
    }

    /// Takes a slot. Without an owner it counts towards the total only.
    pub(crate) fn take(&self, owner: Option<K>) -> Result<Slot<K>, Full> {
        let mut taken = self.0.taken();
        if taken.total >= self.0.total {
            return Err(Full::Total);
        }
        if let Some(owner) = &owner {
            let own = taken.by_owner.get(owner).copied().unwrap_or(0);
            if own >= self.0.limit_per_owner {
                return Err(Full::Owner);
            }
            taken.by_owner.insert(owner.clone(), own + 1);
        }
        taken.total += 1;
        Ok(Slot { slots: self.0.clone(), owner })
    }

    /// The number of slots in use.
    pub(crate) fn in_use(&self) -> usize {
        self.0.taken().total
    }
}

impl<K> Shared<K> {
    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.total -= 1;
        let Some(owner) = &self.owner else { return };
        if let Some(own) = taken.by_owner.get_mut(owner) {
            *own -= 1;
            if *own == 0 {
                taken.by_owner.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_gets_at_most_its_limit_and_all_together_at_most_the_total() {
        let slots = Slots::new(3, 2);
        let held = [slots.take(Some("ann")).unwrap(), slots.take(Some("ann")).unwrap()];
        assert_eq!(slots.take(Some("ann")).unwrap_err(), Full::Owner);
        let last = slots.take(Some("bob")).expect("one is left");
        assert_eq!(slots.take(Some("bob")).unwrap_err(), Full::Total);
        drop((held, last));
        assert!(slots.take(Some("bob")).is_ok());
        assert_eq!(slots.in_use(), 0);
        assert!(slots.0.taken().by_owner.is_empty(), "an owner without slots is remembered");
    }

    #[test]
    fn without_an_owner_only_the_total_counts() {
        let slots = Slots::<&str>::new(3, 1);
        let held: Vec<_> = std::iter::from_fn(|| slots.take(None).ok()).collect();
        assert_eq!(held.len(), 3);
        assert_eq!(slots.take(None).unwrap_err(), Full::Total);
    }
}
