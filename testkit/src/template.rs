//! The migrated template of all test databases: created once for each server and schema version.
//!
//! **Invariant.** Copying holds an advisory lock in shared mode; creating or dropping a template holds it
//! exclusively. A database is marked as a template only after its migrations, so an unfinished one is never
//! copied.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use cuponera_store::{Pools, Store};
use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Connection, PgConnection, query, query_scalar};

use crate::address::{PREFIX, admin_url, unix_seconds, url_of};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// The source of the indexes that are built outside the migrations.
const INDEXES: &str = include_str!("../../core/store/src/index.rs");

const TEMPLATE_PREFIX: &str = "cuponera_template_";
/// An arbitrary number, the same in all processes of all versions.
const LOCK: i64 = 0x6375_706f_6e65_7261;
/// Longer than any test. Older databases were left by killed processes.
const LEFTOVER_AFTER_SECONDS: u64 = 3_600;

static SWEPT: AtomicBool = AtomicBool::new(false);

/// Creates the database `name`, with the schema.
pub(crate) async fn copy_to(name: &str) {
    let mut admin = PgConnection::connect(&admin_url()).await.expect("the test server does not answer");
    let template = template_name();
    if !SWEPT.swap(true, Ordering::Relaxed) {
        drop_leftovers(&mut admin).await;
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

/// Creates the template unless another process has, and drops the templates of other versions.
async fn make(admin: &mut PgConnection, template: &str) {
    run(admin, format!("select pg_advisory_lock({LOCK})")).await;
    if !is_ready(admin, template).await {
        for other in names_like(admin, TEMPLATE_PREFIX).await {
            run(admin, format!(r#"alter database "{other}" is_template false"#)).await;
            run(admin, format!(r#"drop database "{other}" with (force)"#)).await;
        }
        run(admin, format!(r#"create database "{template}" template template0"#)).await;
        let store = Store::connect(&url_of(&admin_url(), template), Pools::MIN).await;
        let store = store.expect("the template does not answer");
        store.migrate().await.expect("the migrations failed");
        store.build_indexes().await.expect("the indexes could not be built");
        store.close().await;
        // Connections are disabled: a template with connections cannot be copied. This also excludes
        // autovacuum.
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

/// Drops the test databases of processes that ended without dropping them.
async fn drop_leftovers(admin: &mut PgConnection) {
    let now = unix_seconds();
    for name in names_like(admin, PREFIX).await {
        let made_at = name[PREFIX.len()..].split('_').next().and_then(|seconds| seconds.parse::<u64>().ok());
        if made_at.is_some_and(|made_at| made_at + LEFTOVER_AFTER_SECONDS < now) {
            // Another process may drop it at the same time.
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

/// The name contains a hash of the migrations, so each schema has its own template.
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
