//! Indexes of tables that may be large, built while the tables are in use. A migration step cannot do that: CREATE
//! INDEX CONCURRENTLY runs outside a transaction, and waits for all transactions that began before it, including those
//! of programs that wait to migrate.
//!
//! **Invariant.** Without one of these indexes answers are correct but slow. Exception: lists and streams of events are unavailable until
//! `coupon_event_cursor` is valid.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, query, query_scalar};
use tokio::time::sleep;
use tracing::info;

use crate::error::{Error, Result};

use super::Store;

/// An index of a table.
struct Index {
    name: &'static str,
    table: &'static str,
    columns: &'static str,
}

/// The indexes, in the order in which they are built.
const INDEXES: [Index; 14] = [
    Index { name: "request_key_age", table: "request_key", columns: "(at)" },
    Index { name: "refresh_token_expiry", table: "refresh_token", columns: "(expires_at)" },
    Index {
        name: "refresh_token_use",
        table: "refresh_token",
        columns: "(used_at) where used_at is not null",
    },
    Index {
        name: "job_undiscarded",
        table: "job",
        columns: "(finished_at) where finished_at is not null and discarded_at is null",
    },
    // The codes that can be assigned: random assignment passes over those that are reserved without reading them.
    Index {
        name: "coupon_open",
        table: "coupon",
        columns: "(book_id, position) where is_free and reserved_by is null",
    },
    // Each claim counts the running chunks.
    Index { name: "job_chunk_running", table: "job_chunk", columns: "(job_id) where status = 'RUNNING'" },
    Index { name: "user_account_of_business", table: "user_account", columns: "(business_id, id)" },
    Index { name: "redemption_of_user", table: "redemption", columns: "(book_id, user_id, at)" },
    // Not unique: earlier programs made several redemptions with one reference.
    Index { name: "redemption_reference", table: "redemption", columns: "(business_id, code, reference)" },
    // Lists of redemptions.
    Index { name: "redemption_of_business", table: "redemption", columns: "(business_id, at, id)" },
    Index { name: "redemption_of_holder", table: "redemption", columns: "(business_id, user_id, at, id)" },
    Index {
        name: "redemption_with_reference",
        table: "redemption",
        columns: "(business_id, reference, at, id) where reference is not null",
    },
    // The redemption of an event for a webhook.
    Index {
        name: "redemption_rolled_back",
        table: "redemption",
        columns: "(business_id, rolled_back_at) where rolled_back_at is not null",
    },
    // A migration step creates the index of this partitioned table. The parts of its older partitions are built here.
    Index { name: EVENT_CURSOR, table: "coupon_event", columns: "(epoch, tx, id)" },
];
const EVENT_CURSOR: &str = "coupon_event_cursor";
/// Indexes of earlier versions that were replaced. BRIN does not narrow a scan where freed pages are reused.
const REPLACED: [&str; 1] = ["request_key_at"];

/// The advisory lock of the process that builds indexes.
const LOCK: i64 = 0x6375_706f_6964_7873;
/// Interval at which a process checks whether the building process has ended.
const POLL: Duration = Duration::from_millis(200);

impl Store {
    /// Builds missing indexes and drops replaced ones. It may take minutes and blocks no call. An interrupted build
    /// starts over.
    pub async fn build_indexes(&self) -> Result<()> {
        // A separate connection, because building has no statement timeout.
        let mut connection = self.pool.acquire().await?.detach();
        query("select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)")
            .execute(&mut connection)
            .await?;
        while !query_scalar!(r#"select pg_try_advisory_lock($1) as "is_ours!""#, LOCK)
            .fetch_one(&mut connection)
            .await?
        {
            sleep(POLL).await;
        }
        let built = build_missing(&mut connection).await;
        connection.close().await?;
        built
    }
}

async fn build_missing(connection: &mut PgConnection) -> Result<()> {
    for index in INDEXES {
        if index.name == EVENT_CURSOR {
            for partition in partitions_without(connection, &index).await? {
                build_part(connection, &index, &partition).await?;
            }
        } else {
            build(connection, index.name, index.table, index.columns).await?;
        }
    }
    for name in REPLACED {
        run(connection, format!("drop index concurrently if exists {name}")).await?;
    }
    Ok(())
}

/// Builds an index unless it exists and is valid.
async fn build(connection: &mut PgConnection, name: &str, table: &str, columns: &str) -> Result<()> {
    let is_valid = query_scalar!(
        r#"select indisvalid as "is_valid!" from pg_index where indexrelid = to_regclass($1)"#,
        name
    )
    .fetch_optional(&mut *connection)
    .await?;
    match is_valid {
        Some(true) => return Ok(()),
        Some(false) => run(connection, format!("drop index concurrently {name}")).await?,
        None => {}
    }
    info!(index = name, table, "building an index");
    run(connection, format!("create index concurrently {name} on {table} {columns}")).await
}

/// Builds the missing part of a partitioned table's index for one partition. The index becomes valid with the last
/// part.
async fn build_part(connection: &mut PgConnection, index: &Index, partition: &str) -> Result<()> {
    let part = format!("{partition}_cursor");
    build(connection, &part, partition, index.columns).await?;
    // ATTACH waits for readers of the partition, and other calls wait behind it, so its lock timeout is short.
    run(connection, "set lock_timeout = '100ms'".to_owned()).await?;
    let attach = format!("alter index {} attach partition {part}", index.name);
    loop {
        match run(connection, attach.clone()).await {
            Err(Error::Unavailable(_)) => sleep(POLL).await,
            done => break done?,
        }
    }
    run(connection, "set lock_timeout = 0".to_owned()).await
}

/// The partitions that lack their part of an index.
async fn partitions_without(connection: &mut PgConnection, index: &Index) -> Result<Vec<String>> {
    let names = query_scalar!(
        r#"select t.inhrelid::regclass::text as "partition!" from pg_inherits t
           where t.inhparent = $1::text::regclass
             and not exists (select from pg_inherits i join pg_index x on x.indexrelid = i.inhrelid
                             where i.inhparent = $2::text::regclass and x.indrelid = t.inhrelid)
           order by 1"#,
        index.table,
        index.name
    )
    .fetch_all(connection)
    .await?;
    Ok(names)
}

/// Executes a statement whose names come from this file or are partitions.
async fn run(connection: &mut PgConnection, sql: String) -> Result<()> {
    query(AssertSqlSafe(sql)).persistent(false).execute(connection).await?;
    Ok(())
}
