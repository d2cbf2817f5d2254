//! The connection pools for hot statements, reads, reports and other work, each with a statement timeout, and the check
//! whether the database answers.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgConnection, PgPool, Row, query_scalar, raw_sql};

use crate::error::{Error, Result};
use cuponera_domain::principal::AuditContext;
use cuponera_domain::trace::TraceParent;

use super::address::connect_options;
use super::notifier::Notifier;
use super::shared::KnownCodes;

/// Maximum number of connections of an API for reports.
const MAX_REPORT_CONNECTIONS: u32 = 2;
/// How long a call waits for a free connection before it fails as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of a hot statement, which finds its rows by key. A statement that began before a commit has therefore ended
/// this long after it.
pub(super) const HOT_STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a read, in milliseconds. A read examines a bounded number of rows, so a longer one indicates an error.
const READ_STATEMENT_MS: u128 = 5_000;
/// Timeout of a report, in milliseconds. It may read whole tables.
const REPORT_STATEMENT_MS: u128 = 60_000;
/// Timeout of an ordinary statement of an API or a command. The longest inserts a job with all its chunks.
const ORDINARY_STATEMENT: Duration = Duration::from_secs(30);
/// Timeout of a worker's statement. The longest copies or finishes a chunk of 50,000 codes on a busy disk.
const WORKER_STATEMENT: Duration = Duration::from_mins(2);

/// The maximum number of connections of each pool, and the timeout of ordinary statements.
#[derive(Debug, Clone, Copy)]
pub struct Pools {
    /// For the batched statements.
    pub hot: u32,
    /// For hot calls that run alone.
    pub solo: u32,
    /// For lists, single rows and polls of jobs.
    pub reads: u32,
    /// For statements that may read whole tables. With 0 they use the pool for reads, and its timeout.
    pub reports: u32,
    /// For everything else: ordinary writes, transactions, logins and the lookup of credentials.
    pub rest: u32,
    /// Timeout of a statement of `rest`.
    pub rest_statement: Duration,
}

impl Pools {
    /// One connection in each pool.
    pub const MIN: Self =
        Self { hot: 1, solo: 1, reads: 1, reports: 1, rest: 1, rest_statement: ORDINARY_STATEMENT };

    /// The connections of a worker with this many concurrent chunks: two for each chunk (its transaction, its lease),
    /// one each for the outbox, housekeeping, the reader of events for webhooks and the claims of their deliveries, and
    /// two for the ends of attempts.
    pub const fn of_worker(chunks: u32) -> Self {
        Self { rest: chunks * 2 + 6, rest_statement: WORKER_STATEMENT, ..Self::MIN }
    }

    /// The connections of an API, `total` of at least 4. Half are for hot statements, including an eighth of all, at
    /// most 4, for calls that run alone. The rest, after the reports, is divided equally among reads and ordinary
    /// writes.
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
    /// Connections that keep one plan for each statement, because planning the batch statements costs more than running
    /// them.
    pub(super) hot: PgPool,
    /// The same for calls that run alone, so that their waits do not take connections from batches.
    pub(super) solo: PgPool,
    /// For reads outside transactions. They read an index in its order and stop when the page is full.
    pub(super) reads: PgPool,
    /// For statements that may read whole tables, so that they take no connections from the others.
    pub(super) reports: PgPool,
    /// For everything else. Plans are made for the actual values.
    pub(super) pool: PgPool,
    /// Notified of new outbox rows. `None`: workers are woken through the database.
    pub(super) notifier: Option<Notifier>,
    /// The codes that are known to be SHARED.
    pub(super) known_codes: KnownCodes,
    /// The trace parent of jobs that are submitted through this store.
    pub(super) trace: Option<TraceParent>,
    /// The audit context of changes: see [`Store::acting_as`].
    pub(super) audit: Option<Arc<AuditContext>>,
    /// Maximum size in bytes of the stored uploads and rejected rows of a business.
    pub(super) storage_quota: Option<u64>,
    /// How long the details of a job are kept after its end.
    pub(super) job_retention: Option<Duration>,
}

impl Store {
    /// Creates the pools, and checks that the database answers. Other connections are opened when they are needed.
    pub async fn connect(url: &str, pools: Pools) -> Result<Self> {
        let options =
            connect_options(url).map_err(|error| Error::internal(format!("the database URL {error}")))?;
        let options = options.application_name("cuponera").options([
            ("timezone", "UTC"),
            ("idle_in_transaction_session_timeout", "60s"),
            ("lock_timeout", "20s"),
            // Compiling a query costs more than running any of ours, and the cost of a disabled plan node would trigger
            // it.
            ("jit", "off"),
        ]);
        let at_most = |options: &PgConnectOptions, ms: u128| {
            options.clone().options([("statement_timeout", format!("{ms}ms"))])
        };
        // Plans are kept while tables grow: a plan made for an empty table would scan the whole table.
        // The lock timeout is short, because all items of a batch wait with the one that waits.
        let hot = at_most(&options, HOT_STATEMENT_TIMEOUT.as_millis()).options([
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("lock_timeout", "100ms"),
        ]);
        // Without statistics Postgres would read and sort a whole book instead of reading its index in order.
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
            known_codes: KnownCodes::default(),
            trace: None,
            audit: None,
            storage_quota: None,
            job_retention: None,
        };
        store.ping().await?;
        Ok(store)
    }

    /// Announces work through the outbox, for a queue outside the database. New rows are reported to the notifier.
    #[must_use]
    pub fn with_outbox(mut self, notifier: &Notifier) -> Self {
        self.notifier = Some(notifier.clone());
        self
    }

    /// The same connections, for a request of this trace. The jobs that it submits belong to the trace.
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

    /// The pool for everything that is not hot, for tests and benches that query the tables.
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

/// Whether a released connection may be reused. sqlx 0.9.0 returns a connection with an open transaction to the pool if
/// the future of `begin` is dropped before the answer arrives (its issue 4385). The next write on it would be
/// acknowledged and later rolled back. Such a connection is closed, which rolls back. Statements of the hot pools and
/// of reads begin no transaction.
async fn is_outside_transactions(connection: &mut PgConnection) -> sqlx::Result<bool> {
    // Outside a transaction both times are equal. In a failed transaction this statement fails.
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
