//! A cache of credentials that were read from the database. Entries expire after a few seconds; a change in this process
//! invalidates them immediately.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cuponera_store::Result;
use moka::future::Cache;

/// Lifetime of an entry. A credential that another process revokes works this long in this one. Long requests add the period
/// of their own checks (`credentials::RECHECK`).
const TTL: Duration = Duration::from_secs(3);
/// Maximum number of entries, each of about 200 bytes: more than the callers that are active at the same time.
const MAX_ENTRIES: u64 = 100_000;

/// Values by key. Absence is not cached.
pub(crate) struct CredentialCache<K, V> {
    entries: Cache<K, V>,
    /// The number of invalidations so far.
    invalidations: AtomicU64,
}

impl<K, V> CredentialCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new() -> Self {
        let entries = Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(TTL).build();
        Self { entries, invalidations: AtomicU64::new(0) }
    }

    /// The cached value, or else the result of `lookup`.
    pub(crate) async fn find(
        &self,
        key: K,
        lookup: impl Future<Output = Result<Option<V>>>,
    ) -> Result<Option<V>> {
        if let Some(value) = self.entries.get(&key).await {
            return Ok(Some(value));
        }
        let before = self.invalidations.load(Ordering::SeqCst);
        let value = lookup.await?;
        if let Some(value) = &value {
            self.entries.insert(key.clone(), value.clone()).await;
            // The lookup may have read the value before a change whose invalidation has already run.
            if self.invalidations.load(Ordering::SeqCst) != before {
                self.entries.invalidate(&key).await;
            }
        }
        Ok(value)
    }

    /// Removes one entry. Call it after the commit of the change.
    pub(crate) async fn invalidate(&self, key: &K) {
        self.invalidations.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate(key).await;
    }

    /// Removes all entries. Call it after the commit of the change.
    pub(crate) fn invalidate_all(&self) {
        self.invalidations.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate_all();
    }
}

// Written by hand, so that no log contains the entries.
impl<K, V> fmt::Debug for CredentialCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialCache").field("invalidations", &self.invalidations).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use cuponera_store::Error;

    use super::*;

    fn lookup(value: Option<&'static str>) -> Ready<Result<Option<&'static str>>> {
        ready(Ok(value))
    }

    #[tokio::test]
    async fn a_value_is_cached_until_it_is_invalidated_and_absence_never_is() {
        let cache = CredentialCache::new();
        assert_eq!(cache.find(1, lookup(None)).await.ok(), Some(None));
        assert_eq!(cache.find(1, lookup(Some("then"))).await.ok(), Some(Some("then")));
        assert_eq!(cache.find(1, lookup(Some("now"))).await.ok(), Some(Some("then")));
        cache.invalidate(&2).await;
        assert_eq!(cache.find(1, lookup(Some("now"))).await.ok(), Some(Some("then")));
        cache.invalidate_all();
        assert_eq!(cache.find(1, lookup(Some("now"))).await.ok(), Some(Some("now")));
        cache.invalidate(&1).await;
        assert_eq!(cache.find(1, lookup(Some("later"))).await.ok(), Some(Some("later")));
        let fault = async { Err(Error::internal("away")) };
        assert!(cache.find(2, fault).await.is_err());
    }

    #[tokio::test]
    async fn a_value_read_before_a_change_is_not_cached_after_it() {
        let cache = CredentialCache::new();
        let overtaken = async {
            cache.invalidate_all();
            Ok(Some("then"))
        };
        assert_eq!(cache.find(1, overtaken).await.ok(), Some(Some("then")));
        assert_eq!(cache.find(1, lookup(Some("now"))).await.ok(), Some(Some("now")));
    }
}
