//! A slow database: writing statements sleep, and another transaction holds rows that requests need.

use std::time::Duration;

use rand::RngExt;
use sqlx::{AssertSqlSafe, PgPool, query};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::held_code;
use crate::support::Server;

/// Tables whose writes sleep. Each kind of request writes to one of them, mostly between two other writes.
const NAPPING: [&str; 6] = ["request_key", "job", "job_chunk", "coupon_book", "refresh_token", "book_delta"];
/// Maximum sleep. A request sleeps several times.
const MAX_NAP_MS: u32 = 15;
/// Maximum time that rows are held.
const MAX_HOLD_MS: u64 = 20;

/// The disturbance of the database, until `end`.
pub(super) struct Trouble {
    pool: PgPool,
    stop: CancellationToken,
    holding: JoinHandle<()>,
}

impl Trouble {
    /// Starts the disturbance. Codes below `held` are held at random times.
    pub(super) async fn begin(server: &Server, held: i32) -> Self {
        let pool = server.database.pool().clone();
        run(
            &pool,
            format!(
                "create function nap() returns trigger language plpgsql as
                 $$ begin perform pg_sleep(random() * {MAX_NAP_MS} / 1000); return null; end $$"
            ),
        )
        .await;
        for table in NAPPING {
            run(&pool, format!("create trigger nap after insert or update on {table} for each statement execute function nap()"))
                .await;
        }
        let stop = CancellationToken::new();
        let holding = tokio::spawn(hold_rows(pool.clone(), stop.clone(), held));
        Self { pool, stop, holding }
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.holding.await.expect("holding rows failed");
        for table in NAPPING {
            run(&self.pool, format!("drop trigger nap on {table}")).await;
        }
    }
}

/// Repeatedly holds a few codes for a moment.
async fn hold_rows(pool: PgPool, stop: CancellationToken, held: i32) {
    while !stop.is_cancelled() {
        let codes: Vec<String> = (0..5).map(|_| held_code(rand::rng().random_range(0..held))).collect();
        let mut transaction = pool.begin().await.expect("beginning failed");
        query("select from coupon where code = any($1) order by code for update")
            .bind(codes)
            .execute(&mut *transaction)
            .await
            .expect("holding rows failed");
        let moment = Duration::from_millis(rand::rng().random_range(0..MAX_HOLD_MS));
        tokio::time::sleep(moment).await;
        transaction.rollback().await.expect("rolling back failed");
    }
}

async fn run(pool: &PgPool, sql: String) {
    query(AssertSqlSafe(sql)).execute(pool).await.expect("the statement failed");
}
