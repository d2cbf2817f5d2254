//! Erasure of users: the id is nowhere afterwards, the audit chain still proves all events, and calls run meanwhile.

mod accounts;
mod chain;
mod everywhere;
mod races;

use cuponera_domain::principal::AuditContext;
use cuponera_store::{Erased, Erasure, ErasureStart, Store};
use cuponera_testkit::World;
use sqlx::{AssertSqlSafe, query, query_scalar};

use crate::audit_chain::key;

/// Holds codes, acts, and is erased. The quotes are doubled in files and escaped in JSON.
const ANA: &str = r#"ana-needle "é""#;
/// A part of the ids and the email of the user, which nothing else has.
const NEEDLE: &str = "ana-needle";

async fn begin(store: &Store, world: &World, user: &str) -> Box<Erasure> {
    match store.begin_erasure(world.business, user, false).await.unwrap() {
        ErasureStart::Begun(erasure) => erasure,
        other => panic!("{other:?}"),
    }
}

/// Erases a user completely.
pub(crate) async fn erase(world: &World, user: &str) -> Erased {
    let store = world.store().clone().acting_as(AuditContext::of_program("cli"));
    let erasure = begin(&store, world, user).await;
    store.erase_rows(&erasure, Some(&key()), |_| {}).await.unwrap();
    store.finish_erasure(*erasure).await.unwrap()
}

/// The tables that have the text in a column, also in bytes.
async fn tables_with(world: &World, text: &str) -> Vec<String> {
    let tables: Vec<String> = query_scalar(
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition order by 1",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let mut found = Vec::new();
    for table in tables {
        let sql = format!(
            "select exists (select from {table} t where position($1 in t::text) > 0
                            or position(encode(convert_to($1, 'UTF8'), 'hex') in t::text) > 0)"
        );
        if query_scalar(AssertSqlSafe(sql)).bind(text).fetch_one(world.pool()).await.unwrap() {
            found.push(table);
        }
    }
    found
}

async fn execute(world: &World, sql: &'static str) -> u64 {
    query(sql).execute(world.pool()).await.unwrap().rows_affected()
}
