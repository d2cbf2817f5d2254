//! Metrics of the connection pools.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::time::timeout;

use super::Store;

/// Upper bound of the pool-wait probe.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// The connections of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolLevel {
    /// Open connections.
    pub size: u32,
    /// Open connections that are not in use.
    pub idle: usize,
    /// Maximum number of connections.
    pub most: u32,
}

impl Store {
    /// The connections of each pool.
    pub fn pool_levels(&self) -> [(&'static str, PoolLevel); 5] {
        let level = |pool: &PgPool| PoolLevel {
            size: pool.size(),
            idle: pool.num_idle(),
            most: pool.options().get_max_connections(),
        };
        self.pools().map(|(name, pool)| (name, level(pool)))
    }

    /// The current wait for a connection of each pool, at most 1 s, measured by acquiring one. A pool without open
    /// connections is not measured.
    pub async fn pool_waits(&self) -> Vec<(&'static str, Duration)> {
        let used = self.pools().into_iter().filter(|(_, pool)| pool.size() > 0);
        let wait = |(name, pool): (&'static str, &PgPool)| {
            let pool = pool.clone();
            async move {
                let begun = Instant::now();
                let _ = timeout(MAX_WAIT, pool.acquire()).await;
                (name, begun.elapsed().min(MAX_WAIT))
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
