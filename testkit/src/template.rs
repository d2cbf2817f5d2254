//! The migrated database that those of the tests are copies of: made once for each server and schema version.
//!
//! **Invariant.** Copying holds an advisory lock shared, making and dropping a template holds it alone. A template is
//! marked as one only when its migrations are through, so a half-made one is never copied.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use cuponera_core::store::{Pools, Store};
use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection, query, query_scalar};

use crate::database::{PREFIX, admin_url, unix_seconds, url_of};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// The code of the indexes that are built outside the migrations.
const INDEXES: &str = include_str!("../../core/src/store/index.rs");

const TEMPLATE_PREFIX: &str = "cuponera_template_";
/// Any number: what matters is that every process of every version takes the same.
const LOCK: i64 = 0x6375_706f_6e65_7261;
/// No test runs so long: what is older was left by a process that was killed.
const LEFT_OVER_AFTER_SECONDS: u64 = 3_600;

static SWEPT: AtomicBool = AtomicBool::new(false);

/// Makes the database `name`, with the schema.
pub(crate) async fn copy_to(name: &str) {
    let mut admin =
        PgConnection::connect(&admin_url()).await.expect("the server of the test databases does not answer");
    let template = template_name();
    if !SWEPT.swap(true, Ordering::Relaxed) {
        drop_left_overs(&mut admin).await;
    }
    loop {
        run(&mut admin, format!("select pg_advisory_lock_shared({LOCK})")).await;
        if is_ready(&mut admin, &template).await {
            break;
        }
        run(&mut admin, format!("select pg_advisory_unlock_shared({LOCK})")).await;
        make(&mut admin, &template).await;
    }
    run(&mut admin, format!(r#"create database "{name}" template "{template}""#)).await;
    admin.close().await.expect("closing the connection failed");
}

/// Makes the template unless another process has, and drops those of other versions.
async fn make(admin: &mut PgConnection, template: &str) {
    run(admin, format!("select pg_advisory_lock({LOCK})")).await;
    if !is_ready(admin, template).await {
        for other in names_like(admin, TEMPLATE_PREFIX).await {
            run(admin, format!(r#"alter database "{other}" is_template false"#)).await;
            run(admin, format!(r#"drop database "{other}" with (force)"#)).await;
        }
        run(admin, format!(r#"create database "{template}" template template0"#)).await;
        let store =
            Store::connect(&url_of(template), Pools::LEAST).await.expect("the template does not answer");
        store.migrate().await.expect("the migrations failed");
        store.build_indexes().await.expect("the indexes could not be built");
        store.close().await;
        // Without connections, or copying it is refused; a sampled autovacuum cannot come in between either.
        run(admin, format!(r#"alter database "{template}" is_template true allow_connections false"#)).await;
    }
    run(admin, format!("select pg_advisory_unlock({LOCK})")).await;
}

async fn is_ready(admin: &mut PgConnection, template: &str) -> bool {
    query_scalar("select exists (select from pg_database where datname = $1 and datistemplate)")
        .bind(template)
        .fetch_one(admin)
        .await
        .expect("reading the list of databases failed")
}

/// Drops test databases of processes that ended without doing so.
async fn drop_left_overs(admin: &mut PgConnection) {
    let now = unix_seconds();
    for name in names_like(admin, PREFIX).await {
        let made_at = name[PREFIX.len()..].split('_').next().and_then(|seconds| seconds.parse::<u64>().ok());
        if made_at.is_some_and(|made_at| made_at + LEFT_OVER_AFTER_SECONDS < now) {
            // Another process may be at it as well: one of them has it.
            let _ = query(AssertSqlSafe(format!(r#"drop database if exists "{name}" with (force)"#)))
                .execute(&mut *admin)
                .await;
        }
    }
}

async fn names_like(admin: &mut PgConnection, prefix: &str) -> Vec<String> {
    query_scalar("select datname::text from pg_database where starts_with(datname::text, $1)")
        .bind(prefix)
        .fetch_all(admin)
        .await
        .expect("reading the list of databases failed")
}

async fn run(admin: &mut PgConnection, sql: String) {
    let done = query(AssertSqlSafe(sql.clone())).execute(admin).await;
    done.unwrap_or_else(|error| panic!("`{sql}` failed: {error}"));
}

/// Named after the migrations: another schema is another template.
fn template_name() -> String {
    let mut hash = Sha256::new();
    for migration in MIGRATIONS.iter() {
        hash.update(migration.version.to_be_bytes());
        hash.update(&migration.checksum);
    }
    hash.update(INDEXES);
    let mut name = TEMPLATE_PREFIX.to_owned();
    for byte in &hash.finalize()[..8] {
        write!(name, "{byte:02x}").expect("writing to a string cannot fail");
    }
    name
}
