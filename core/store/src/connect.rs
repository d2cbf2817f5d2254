//! Connections: pools for hot statements, reads, reports and the rest, each with a time limit for its statements; and whether
//! the database answers.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool, Row, query_scalar, raw_sql};

use crate::error::{Error, Result};
use cuponera_domain::trace::TraceParent;

use super::address::connect_options;
use super::notifier::Notifier;

/// The most connections of an API for reports.
const MAX_REPORT_CONNECTIONS: u32 = 2;
/// How long a call waits for a free connection before it fails as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a hot statement may run; it finds its rows by key. One that began before a change was committed is over this long
/// after it.
pub(super) const HOT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a read may run, in milliseconds. Each examines a bounded number of rows, so a longer one is a fault.
const READ_STATEMENT_MS: u128 = 5_000;
/// How long a report may run, in milliseconds: it may read whole tables.
const REPORT_STATEMENT_MS: u128 = 60_000;
/// How long an ordinary statement of an API or a command may run. The longest write a job and all its chunks.
const ORDINARY_STATEMENT: Duration = Duration::from_secs(30);
/// How long a statement of a worker may run. The longest copies or settles a chunk of 50,000 codes on a busy disk.
const WORKER_STATEMENT: Duration = Duration::from_mins(2);

/// The most connections each pool may open, and how long an ordinary statement may run.
#[derive(Debug, Clone, Copy)]
pub struct Pools {
    /// For the batched statements.
    pub hot: u32,
    /// For hot calls that are attempted by themselves.
    pub solo: u32,
    /// For lists, single rows and polls of jobs.
    pub reads: u32,
    /// For statements that may read whole tables. With 0 they share the connections for reads, and their time limit.
    pub reports: u32,
    /// For everything else: ordinary writes, transactions, logins and the look-up of credentials.
    pub rest: u32,
    /// How long a statement of `rest` may run.
    pub rest_statement: Duration,
}

impl Pools {
    /// One connection in each pool.
    pub const MIN: Self =
        Self { hot: 1, solo: 1, reads: 1, reports: 1, rest: 1, rest_statement: ORDINARY_STATEMENT };

    /// A worker's connections for as many chunks at once: for each chunk one that holds its transaction and one for its
    /// lease, one for the outbox, and one for housekeeping.
    pub const fn of_worker(chunks: u32) -> Self {
        Self { rest: chunks * 2 + 2, rest_statement: WORKER_STATEMENT, ..Self::MIN }
    }

    /// An API's connections, out of a total of 4 or more. Half are for hot statements, of which an eighth of all, at most 4,
    /// is for calls that are attempted by themselves. Reads and ordinary writes have halves of what the reports leave.
    pub fn of_api(total: u32) -> Self {
        let solo = (total / 8).clamp(1, 4);
        let reports = (total / 8).min(MAX_REPORT_CONNECTIONS);
        let ordinary = total - total / 2 - reports;
        let reads = ordinary / 2;
        Self { hot: total / 2 - solo, solo, reads, reports, rest: ordinary - reads, ..Self::MIN }
    }

    /// All connections.
    pub const fn total(&self) -> u32 {
        self.hot + self.solo + self.reads + self.reports + self.rest
    }
}

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    /// Connections that keep one plan for each statement: planning the batch statements costs more than running them.
    pub(super) hot: PgPool,
    /// The same for calls that are attempted by themselves: what they wait for keeps no batch from its connection.
    pub(super) solo: PgPool,
    /// For reads outside of transactions. They walk an index in its order and stop where the page is full.
    pub(super) reads: PgPool,
    /// For statements that may read whole tables: they take no connection from the others.
    pub(super) reports: PgPool,
    /// The others, which plan for the values at hand.
    pub(super) pool: PgPool,
    /// Rung for new rows of the outbox; without one, workers are woken through the database itself.
    pub(super) notifier: Option<Notifier>,
    /// What jobs that are submitted through it name as their parent.
    pub(super) trace: Option<TraceParent>,
    /// The bytes of uploads and rejected rows that each business may have stored.
    pub(super) storage_quota: Option<u64>,
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
            // Compiling a query costs more than any of ours takes, and a disabled plan node looks expensive enough for it.
            ("jit", "off"),
        ]);
        let at_most = |options: &PgConnectOptions, ms: u128| {
            options.clone().options([("statement_timeout", format!("{ms}ms"))])
        };
        // A plan is kept, so it must also do for the table as it will be: made while that was empty, it would scan it whole.
        // What a statement waits for is one item's, and the others of its batch wait with it.
        let hot = at_most(&options, HOT_STATEMENT_TIMEOUT.as_millis()).options([
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("lock_timeout", "100ms"),
        ]);
        // Where statistics are missing, Postgres would rather read a whole book and sort it than walk its index.
        let reads = at_most(&options, READ_STATEMENT_MS)
            .options([("enable_seqscan", "off"), ("enable_bitmapscan", "off")]);
        let reads = pool(pools.reads).connect_lazy_with(reads);
        let store = Self {
            hot: pool(pools.hot).connect_lazy_with(hot.clone()),
            solo: pool(pools.solo).connect_lazy_with(hot),
            reports: if pools.reports == 0 {
                reads.clone()
            } else {
                transaction_pool(pools.reports).connect_lazy_with(at_most(&options, REPORT_STATEMENT_MS))
            },
            reads,
            pool: transaction_pool(pools.rest)
                .connect_lazy_with(at_most(&options, pools.rest_statement.as_millis())),
            notifier: None,
            trace: None,
            storage_quota: None,
        };
        store.ping().await?;
        Ok(store)
    }

    /// Work is announced on a queue outside the database: through the outbox, with this bell for whoever sends what is in it.
    #[must_use]
    pub fn with_outbox(mut self, notifier: &Notifier) -> Self {
        self.notifier = Some(notifier.clone());
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
        self.reads.close().await;
        self.reports.close().await;
        self.pool.close().await;
    }
}

fn pool(most: u32) -> PgPoolOptions {
    PgPoolOptions::new().max_connections(most).acquire_timeout(ACQUIRE_TIMEOUT)
}

/// A pool whose connections may begin transactions.
fn transaction_pool(most: u32) -> PgPoolOptions {
    pool(most).after_release(|connection, _| Box::pin(is_outside_transactions(connection)))
}

/// Whether a connection that comes back may serve others. sqlx 0.9.0 hands one back with an open transaction if the future
/// that begins it is dropped before the answer has come (its issue 4385). What is written next on such a connection would be
/// acknowledged, and taken back later. It is closed, which rolls back. Statements of the hot pools and of reads begin no
/// transaction.
async fn is_outside_transactions(connection: &mut PgConnection) -> sqlx::Result<bool> {
    // Outside, a statement is a transaction of its own, and begins when it does. In one that failed, this fails.
    raw_sql("select now() = statement_timestamp()").fetch_one(connection).await?.try_get(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_opens_as_many_connections_as_the_setting_says_and_each_kind_of_work_has_one() {
        for total in 4..=1000 {
            let pools = Pools::of_api(total);
            assert_eq!(pools.total(), total);
            let least = [pools.hot, pools.solo, pools.reads, pools.rest].into_iter().min();
            assert!(least >= Some(1), "{total}: {pools:?}");
            assert_eq!(pools.reports, (total / 8).min(2), "below 8 they share those for reads");
        }
    }
}
