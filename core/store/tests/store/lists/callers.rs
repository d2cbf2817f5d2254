//! Lists of API keys and accounts.

use std::collections::BTreeSet;

use cuponera_testkit::World;
use sqlx::query;

use super::{LIMIT, follow, touched, world_with_old_statistics};

const ACCOUNT_BLOCKS: &str = "select (heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
                              from pg_statio_user_tables where relname = 'user_account'";

#[tokio::test]
async fn cursors_lead_to_each_live_key_past_many_revoked_ones() {
    let world = World::new().await;
    query(
        "insert into api_key (id, business_id, name, role, secret_hash, hint, revoked_at)
         select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, $1, 'k' || n, 'SERVICE',
                sha256(n::text::bytea), 'k', case when n > 3 then now() end
         from generate_series(1, 2500) n",
    )
    .bind(world.business.0)
    .execute(world.pool())
    .await
    .unwrap();
    let page_after = async |cursor: Option<String>| {
        world.store().list_api_keys(world.business, cursor.map(|id| id.parse().unwrap()), LIMIT).await
    };
    let (found, pages) = follow(page_after, async |_| {}).await;
    let names: BTreeSet<_> = found.iter().map(|key| key.name.as_str()).collect();
    assert_eq!((names, found.len(), pages), (BTreeSet::from(["k1", "k2", "k3"]), 3, 3));
}

#[tokio::test]
async fn a_page_of_accounts_reads_no_more_than_its_accounts() {
    let mut world = world_with_old_statistics(async |_| {}).await;
    query(
        "insert into user_account (id, business_id, email, password_hash, role, user_id)
         select gen_random_uuid(), $1, n || '@example.com', '', 'USER', 'u' || n from generate_series(1, 20000) n",
    )
    .bind(world.business.0)
    .execute(world.pool())
    .await
    .unwrap();
    let blocks = touched(&mut world, ACCOUNT_BLOCKS, async |world| {
        let page = world.store().list_accounts(world.business, None, LIMIT).await.unwrap();
        assert_eq!((page.items.len(), page.next_cursor.is_some()), (10, true));
    })
    .await;
    assert!(blocks < 50, "a page of 10 accounts read {blocks} blocks");
}
