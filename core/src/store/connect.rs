//! Connections: pools for the hot statements and for the rest, and whether the database answers.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{PgConnection, PgPool, Row, query_scalar, raw_sql};

use crate::error::{Error, Result};
use crate::telemetry::TraceParent;

use super::address::connect_options;
use super::outbox::Bell;

/// How long a call waits for a free connection before it is told to come back.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest time a hot statement takes: one that began before a change was committed is over this long after it.
pub(super) const HOT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most connections each pool may open.
#[derive(Debug, Clone, Copy)]
pub struct Pools {
    /// For the batched statements.
    pub hot: u32,
    /// For hot calls that are attempted by themselves.
    pub solo: u32,
    /// For everything else.
    pub rest: u32,
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    /// Connections that keep one plan for each statement: planning the batch statements costs more than running them.
    pub(super) hot: PgPool,
    /// The same for calls that are attempted by themselves: what they wait for keeps no batch from its connection.
    pub(super) solo: PgPool,
    /// The others, which plan for the values at hand.
    pub(super) pool: PgPool,
    /// Rung for new rows of the outbox; without one, workers are woken through the database itself.
    pub(super) bell: Option<Bell>,
    /// What jobs that are submitted through it name as their parent.
    pub(super) trace: Option<TraceParent>,
}

impl Store {
    /// Opens the pools; connections come as they are needed.
    pub async fn connect(url: &str, pools: Pools) -> Result<Self> {
        let options =
            connect_options(url).map_err(|error| Error::internal(format!("the database URL {error}")))?;
        let options = options.application_name("cuponera").options([
            ("timezone", "UTC"),
            ("idle_in_transaction_session_timeout", "60s"),
            ("lock_timeout", "20s"),
        ]);
        // A plan is kept, so it must also do for the table as it will be: made while that was empty, it would scan it whole.
        let hot = options.clone().options([
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("statement_timeout", &HOT_STATEMENT_TIMEOUT.as_millis().to_string()),
        ]);
        // What a statement waits for is one item's, and the others of its batch wait with it.
        let solo = hot.clone().options([("lock_timeout", "100ms")]);
        let hot = hot.options([("lock_timeout", "100ms")]);
        let open = |most: u32, options| pool(most).connect_lazy_with(options);
        let store = Self {
            hot: open(pools.hot, hot),
            solo: open(pools.solo, solo),
            pool: pool(pools.rest)
                .after_release(|connection, _| Box::pin(is_outside_transactions(connection)))
                .connect_lazy_with(options),
            bell: None,
            trace: None,
        };
        store.ping().await?;
        Ok(store)
    }

    /// Work is announced on a queue outside the database: through the outbox, with this bell for whoever sends what is in it.
    #[must_use]
    pub fn with_outbox(mut self, bell: &Bell) -> Self {
        self.bell = Some(bell.clone());
        self
    }

    /// The same connections, for a request of this trace: the jobs that it submits are part of it.
    #[must_use]
    pub fn with_trace(mut self, trace: Option<TraceParent>) -> Self {
        self.trace = trace;
        self
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        query_scalar!("select 1 as one").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// The pool for everything that is not hot: for tests and benches that look behind the curtain.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Closes the connections once they are idle.
    pub async fn close(&self) {
        self.hot.close().await;
        self.solo.close().await;
        self.pool.close().await;
    }
}

fn pool(most: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE_TIMEOUT)
}

/// Whether a connection that comes back may serve others. sqlx 0.9.0 hands one back with an open transaction if the future
/// that begins it is dropped before the answer has come (its issue 4385). What is written next on such a connection would be
/// acknowledged, and taken back later. It is closed, which rolls back. Statements of the hot pools begin no transaction.
async fn is_outside_transactions(connection: &mut PgConnection) -> sqlx::Result<bool> {
    // Outside, a statement is a transaction of its own, and begins when it does. In one that failed, this fails.
    raw_sql("select now() = statement_timestamp()").fetch_one(connection).await?.try_get(0)
}
