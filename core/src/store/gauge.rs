//! What there is to see of the pools.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::time::timeout;

use super::Store;

/// Whoever waits longer for a connection has been told enough.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The connections of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLevel {
    /// Connections that are open.
    pub size: u32,
    /// Those of them that nobody uses.
    pub idle: usize,
    /// The most there may be.
    pub most: u32,
}

impl Store {
    /// How full each pool is.
    pub fn pool_levels(&self) -> [(&'static str, PoolLevel); 5] {
        let level = |pool: &PgPool| PoolLevel {
            size: pool.size(),
            idle: pool.num_idle(),
            most: pool.options().get_max_connections(),
        };
        self.pools().map(|(name, pool)| (name, level(pool)))
    }

    /// How long one has to wait for a connection of each pool at this moment, at most a second. Taken by waiting for one;
    /// a pool that has opened none yet is left alone.
    pub async fn pool_waits(&self) -> Vec<(&'static str, Duration)> {
        let used = self.pools().into_iter().filter(|(_, pool)| pool.size() > 0);
        let wait = |(name, pool): (&'static str, &PgPool)| {
            let pool = pool.clone();
            async move {
                let begun = Instant::now();
                let _ = timeout(LONGEST_WAIT, pool.acquire()).await;
                (name, begun.elapsed().min(LONGEST_WAIT))
            }
        };
        futures::future::join_all(used.map(wait)).await
    }

    fn pools(&self) -> [(&'static str, &PgPool); 5] {
        [
            ("hot", &self.hot),
            ("solo", &self.solo),
            ("reads", &self.reads),
            ("reports", &self.reports),
            ("rest", &self.pool),
        ]
    }
}
