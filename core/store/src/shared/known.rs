//! The codes that are known to be SHARED, so that their calls need not run the ordinary statement first.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuponera_domain::id::BusinessId;

/// Maximum number of codes in memory, about 1 MiB. When it is reached, all are forgotten, and each is found again by its next call.
const MAX_KNOWN: usize = 50_000;

/// The codes of a process that are known to be SHARED, by their hashes.
///
/// No decision depends on it: a code that is not SHARED any more, because its book was deleted, or whose hash is that of another, is found
/// not to be SHARED by the statement that locks its row.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownCodes {
    hashes: Arc<Mutex<HashSet<u64>>>,
    state: RandomState,
}

impl KnownCodes {
    pub(crate) fn contains(&self, business: BusinessId, code: &str) -> bool {
        self.hashes().contains(&self.hash(business, code))
    }

    pub(crate) fn insert(&self, business: BusinessId, code: &str) {
        let hash = self.hash(business, code);
        let mut hashes = self.hashes();
        if hashes.len() >= MAX_KNOWN {
            hashes.clear();
        }
        hashes.insert(hash);
    }

    pub(crate) fn remove(&self, business: BusinessId, code: &str) {
        let hash = self.hash(business, code);
        self.hashes().remove(&hash);
    }

    fn hash(&self, business: BusinessId, code: &str) -> u64 {
        self.state.hash_one((business, code))
    }

    fn hashes(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn the_number_of_known_codes_is_bounded() {
        let (known, business) = (KnownCodes::default(), BusinessId(Uuid::from_u128(1)));
        for number in 0..=MAX_KNOWN {
            known.insert(business, &format!("C{number}"));
        }
        assert_eq!(known.hashes().len(), 1);
        assert!(known.contains(business, &format!("C{MAX_KNOWN}")));
        assert!(!known.contains(BusinessId(Uuid::from_u128(2)), &format!("C{MAX_KNOWN}")));
        known.remove(business, &format!("C{MAX_KNOWN}"));
        assert!(known.hashes().is_empty());
    }
}
