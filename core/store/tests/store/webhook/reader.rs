//! The reader of events: each committed event becomes one delivery for each webhook that gets it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cuponera_domain::book::{BookPatch, BookRules, BookStatus, Change};
use cuponera_domain::webhook::{MAX_WEBHOOKS, WebhookPatch};
use cuponera_store::{Call, Redeemed, Revoke, Rollback, Void};
use cuponera_testkit::{World, eventually, generate, rules};
use futures::future::join_all;
use serde_json::{Value, json};
use sqlx::{query, query_scalar};

use super::{PAGE, claim, create, deliveries, new_webhook, read, read_to_end, types, webhook};

fn data(body: &str) -> Value {
    serde_json::from_str::<Value>(body).unwrap()["data"].take()
}

async fn redeem(world: &World, code: &str) -> Redeemed {
    world.run_batch(world.redeem(code, "ana")).await.outcome.unwrap()
}

/// Invariant I-64.
#[tokio::test]
async fn an_event_that_is_committed_after_a_later_one_is_delivered() {
    let world = World::new().await;
    let code = &world.insert_codes(1).await[0];
    let webhook = webhook(&world).await;
    let mut late = world.pool().begin().await.unwrap();
    // Its transaction is older than that of the assignment, and its event is committed after it.
    query(
        "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, actor)
         values (gen_random_uuid(), $1, $2, 900, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'late')",
    )
    .bind(world.business.0)
    .bind(world.book.0)
    .execute(&mut *late)
    .await
    .unwrap();
    world.give(code, "ana").await;
    for _ in 0..3 {
        let round = world.store().read_webhook_events(100).await.unwrap();
        assert_eq!(round.created, 0, "an event after a running transaction was read");
    }
    late.commit().await.unwrap();
    read(&world, 2).await;
    let actors: Vec<Value> = deliveries(&world, webhook)
        .await
        .iter()
        .map(|delivery| data(&delivery.body)["actor"].take())
        .collect();
    assert_eq!(actors, ["late", "service:test"]);
    assert_eq!(read_to_end(&world).await, 0, "an event was read twice");
}

/// Invariant I-64.
#[tokio::test]
async fn a_change_that_is_committed_after_a_later_one_is_delivered() {
    let world = World::new().await;
    let webhook = webhook(&world).await;
    let mut late = world.pool().begin().await.unwrap();
    query(
        r#"insert into admin_event (business_id, subject, subject_id, action, after, actor)
           values ($1, 'BOOK', $2, 'UPDATE', '{"status": "PAUSED"}', 'late')"#,
    )
    .bind(world.business.0)
    .bind(world.book.to_string())
    .execute(&mut *late)
    .await
    .unwrap();
    world.another_book(&rules()).await;
    for _ in 0..3 {
        let round = world.store().read_webhook_events(100).await.unwrap();
        assert_eq!(round.created, 0, "an event after a running transaction was read");
    }
    late.commit().await.unwrap();
    read(&world, 2).await;
    assert_eq!(types(&deliveries(&world, webhook).await), ["book.paused", "book.activated"]);
    assert_eq!(read_to_end(&world).await, 0, "an event was read twice");
}

/// Invariant I-64.
#[tokio::test(flavor = "multi_thread")]
async fn several_readers_beside_writers_create_each_delivery_once() {
    let world = World::new().await;
    let codes = world.insert_codes(60).await;
    let webhooks =
        [webhook(&world).await, create(&world, world.business, new_webhook(&["coupon.redeemed"])).await];
    let is_over = AtomicBool::new(false);
    let writers = async {
        join_all(codes.iter().map(async |code| {
            world.give(code, "ana").await;
            world.locked(code, "ana").await;
            redeem(&world, code).await;
        }))
        .await;
        is_over.store(true, Ordering::Relaxed);
    };
    let reader = async || {
        while !is_over.load(Ordering::Relaxed) {
            world.store().read_webhook_events(7).await.unwrap();
        }
    };
    tokio::join!(writers, reader(), reader(), reader());
    read_to_end(&world).await;
    let all = deliveries(&world, webhooks[0]).await;
    let ids: BTreeSet<_> = all.iter().map(|delivery| delivery.event).collect();
    assert_eq!((all.len(), ids.len()), (180, 180));
    assert_eq!(deliveries(&world, webhooks[1]).await.len(), 60);
    world.assert_invariants().await;
}

/// A call that finds an expired lock writes two events of the coupon in one transaction.
/// Invariant I-65.
#[tokio::test]
async fn the_end_of_an_expired_lock_is_before_the_event_of_the_call_that_found_it() {
    let world = World::with(BookRules { max_redeems_per_user: 2, ..rules() }).await;
    let codes = world.insert_codes(2).await;
    let webhook = webhook(&world).await;
    let mut expected = Vec::new();
    for code in &codes {
        world.give(code, "ana").await;
        world.locked(code, "ana").await;
        expected.extend(["coupon.assigned", "coupon.locked"]);
    }
    world.expire_all_locks().await;
    world.locked(&codes[0], "ana").await;
    world.run_batch(void(&world, &codes[1])).await.outcome.unwrap();
    expected.extend(["coupon.lock_expired", "coupon.locked", "coupon.lock_expired", "coupon.voided"]);
    world.expire_all_locks().await;
    redeem(&world, &codes[0]).await;
    expected.extend(["coupon.lock_expired", "coupon.redeemed"]);
    read_to_end(&world).await;
    assert_eq!(types(&deliveries(&world, webhook).await), expected);
    let code = &world.insert_codes_into(world.book, "R", 1).await[0];
    world.give(code, "ana").await;
    world.locked(code, "ana").await;
    world.expire_all_locks().await;
    let revoke = Revoke { code: code.clone(), user: None, assignment: None, reason: "a mistake".to_owned() };
    world.run_batch(world.call(revoke)).await.outcome.unwrap();
    read_to_end(&world).await;
    let all = deliveries(&world, webhook).await;
    assert_eq!(types(&all)[all.len() - 2..], ["coupon.lock_expired", "coupon.revoked"]);
}

fn void(world: &World, code: &str) -> Call<Void> {
    world.call(Void { code: code.to_owned(), user: None, only: None, reason: "a mistake".to_owned() })
}

#[tokio::test]
async fn a_webhook_gets_the_types_that_it_names_from_its_creation_on() {
    let world = World::new().await;
    let codes = world.insert_codes(2).await;
    world.give(&codes[0], "ana").await;
    let (all, some) = (
        webhook(&world).await,
        create(&world, world.business, new_webhook(&["coupon.redeemed", "coupon.rolled_back"])).await,
    );
    let other = world.another_business().await;
    let theirs = create(&world, other, new_webhook(&["*"])).await;
    world.locked(&codes[0], "ana").await;
    let redeemed = redeem(&world, &codes[0]).await;
    let reason = "a mistake".to_owned();
    let rollback = Rollback { redemption: redeemed.redemption, code: codes[0].clone(), user: None, reason };
    world.run_batch(world.call(rollback)).await.outcome.unwrap();
    read(&world, 3 + 2).await;
    let of_all = deliveries(&world, all).await;
    assert_eq!(types(&of_all), ["coupon.locked", "coupon.redeemed", "coupon.rolled_back"]);
    let of_some = deliveries(&world, some).await;
    assert_eq!(types(&of_some), ["coupon.redeemed", "coupon.rolled_back"]);
    for delivery in &of_some {
        let data = data(&delivery.body);
        assert_eq!(data["redemptionId"], redeemed.redemption.to_string(), "{data}");
        assert_eq!(
            (&data["code"], &data["id"]),
            (&codes[0].as_str().into(), &delivery.event.to_string().into())
        );
    }
    assert_eq!(data(&of_all[0].body).get("redemptionId"), None);
    let theirs: i64 = query_scalar("select count(*) from webhook_delivery where webhook_id = $1")
        .bind(theirs.0)
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(theirs, 0, "a webhook got an event of another business");
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_disabled_webhook_gets_no_events_and_one_that_is_enabled_gets_those_from_then_on() {
    let world = World::new().await;
    let codes = world.insert_codes(3).await;
    let webhook = webhook(&world).await;
    let set = async |enabled| {
        let patch = WebhookPatch { enabled: Some(enabled), ..WebhookPatch::default() };
        world.store().update_webhook(world.business, webhook, &patch).await.unwrap()
    };
    world.give(&codes[0], "ana").await;
    read(&world, 1).await;
    assert!(!set(false).await.enabled);
    world.give(&codes[1], "ana").await;
    assert!(set(true).await.enabled);
    world.give(&codes[2], "ana").await;
    read(&world, 1).await;
    let of: Vec<Value> = deliveries(&world, webhook)
        .await
        .iter()
        .map(|delivery| data(&delivery.body)["code"].take())
        .collect();
    assert_eq!(of, [codes[0].as_str(), codes[2].as_str()]);
    assert_eq!(read_to_end(&world).await, 0);
}

#[tokio::test]
async fn events_of_a_job_are_only_for_webhooks_that_want_them_per_code() {
    let world = World::new().await;
    let codes = world.insert_codes(1).await;
    let (plain, per_code) = (
        webhook(&world).await,
        create(
            &world,
            world.business,
            cuponera_domain::webhook::NewWebhook { per_code: true, ..new_webhook(&["*"]) },
        )
        .await,
    );
    let mut call = world.named(&codes[0], "ana");
    call.audit.actor = "job:01939f2a-0000-7000-8000-000000000005".to_owned();
    world.run_batch(call).await.outcome.unwrap();
    read(&world, 1).await;
    assert_eq!(deliveries(&world, plain).await.len(), 0);
    assert_eq!(deliveries(&world, per_code).await.len(), 1);
}

/// A restored database numbers its transactions from the start.
#[tokio::test]
async fn after_a_restore_no_event_is_skipped_or_delivered_twice() {
    let world = World::new().await;
    let codes = world.insert_codes(30).await;
    let webhook = webhook(&world).await;
    for code in &codes[..10] {
        world.give(code, "ana").await;
    }
    read(&world, 10).await;
    for code in &codes[10..20] {
        world.give(code, "ana").await;
    }
    // As if this were a dump of a database with more transactions.
    for sql in [
        "update coupon_event set tx = (tx::text::bigint + 1000000)::text::xid8",
        "update admin_event set tx = (tx::text::bigint + 1000000)::text::xid8",
        "update webhook_cursor set tx = (tx::text::bigint + 1000000)::text::xid8",
        "update event_epoch set tx = (tx::text::bigint + 1000000)::text::xid8",
        "update webhook set since_snapshot = format('%s:%s:', x, x)::pg_snapshot
         from (select pg_snapshot_xmin(since_snapshot)::text::bigint + 1000000 as x from webhook) s",
    ] {
        query(sql).execute(world.pool()).await.unwrap();
    }
    world.store().open_event_log().await.unwrap();
    for code in &codes[20..] {
        world.give(code, "ana").await;
    }
    read(&world, 20).await;
    let all = deliveries(&world, webhook).await;
    let of: BTreeSet<String> = all.iter().map(|delivery| data(&delivery.body)["code"].to_string()).collect();
    assert_eq!((all.len(), of.len()), (30, 30));
    assert_eq!(read_to_end(&world).await, 0);
}

#[tokio::test]
async fn without_a_webhook_nothing_is_read_and_the_first_one_gets_no_earlier_events() {
    let world = World::new().await;
    let codes = world.insert_codes(5).await;
    for code in &codes[..4] {
        world.give(code, "ana").await;
    }
    let round = world.store().read_webhook_events(2).await.unwrap();
    assert_eq!((round.examined, round.created, round.lag), (0, 0, Duration::ZERO));
    let webhook = webhook(&world).await;
    world.give(&codes[4], "ana").await;
    read(&world, 1).await;
    assert_eq!(deliveries(&world, webhook).await.len(), 1);
}

/// Invariant I-64.
#[tokio::test]
async fn changes_of_books_and_ends_of_jobs_are_delivered_in_order_with_the_status_that_they_had() {
    let world = World::new().await;
    let all = webhook(&world).await;
    let some = create(&world, world.business, new_webhook(&["book.paused", "job.succeeded"])).await;
    let store = world.store();
    let set = async |status| {
        let patch = BookPatch { status: Change::Set(status), ..BookPatch::default() };
        store.update_book(None, world.business, world.book, patch).await.unwrap().outcome.unwrap();
    };
    set(BookStatus::Paused).await;
    set(BookStatus::Active).await;
    let job = generate(store, world.business, world.book, "G-{XXXXXXXX}", 5).await.id;
    set(BookStatus::Closed).await;
    read(&world, 4 + 2).await;
    let of_all = deliveries(&world, all).await;
    assert_eq!(types(&of_all), ["book.paused", "book.activated", "job.succeeded", "book.closed"]);
    let shown: Vec<Value> = of_all.iter().map(|delivery| data(&delivery.body)).collect();
    let found: Vec<_> = shown.iter().map(|data| (&data["id"], &data["status"])).collect();
    let (book, job) = (json!(world.book), json!(job));
    assert_eq!(
        json!(found),
        json!([[book, "PAUSED"], [book, "ACTIVE"], [job, "SUCCEEDED"], [book, "CLOSED"]])
    );
    assert_eq!(types(&deliveries(&world, some).await), ["book.paused", "job.succeeded"]);
    assert_eq!(claim(&world).await.len(), 2 + 2, "a later event of the book is due");
    assert_eq!(read_to_end(&world).await, 0);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_page_that_many_webhooks_get_is_read_in_parts_and_the_age_of_the_rest_is_known() {
    let world = World::new().await;
    let codes = world.insert_codes(25).await;
    let mut webhooks = Vec::new();
    for _ in 0..MAX_WEBHOOKS {
        webhooks.push(webhook(&world).await);
    }
    assert_eq!(read_to_end(&world).await, 0, "the changes of webhooks are events of webhooks");
    let mut late = world.pool().begin().await.unwrap();
    query("select pg_current_xact_id()").execute(&mut *late).await.unwrap();
    for code in &codes {
        world.give(code, "ana").await;
    }
    let round = world.store().read_webhook_events(PAGE).await.unwrap();
    assert_eq!((round.examined, round.created, round.is_behind), (0, 0, false));
    assert!(round.lag > Duration::ZERO, "events that wait for a transaction are not counted");
    late.rollback().await.unwrap();
    // Transactions in other databases of the server delay a reader too.
    eventually("all events to be readable", async || {
        let sql = "select pg_snapshot_xmin(pg_current_snapshot()) > max(tx) from coupon_event";
        query_scalar::<_, bool>(sql).fetch_one(world.pool()).await.unwrap().then_some(())
    })
    .await;
    let first = world.store().read_webhook_events(PAGE).await.unwrap();
    // 2,000 rows, without the last event, of which some may be missing.
    assert_eq!((first.created, first.is_behind), (1_900, true));
    read(&world, 600).await;
    for webhook in webhooks {
        assert_eq!(deliveries(&world, webhook).await.len(), codes.len());
    }
    assert_eq!(read_to_end(&world).await, 0);
    world.assert_invariants().await;
}

#[tokio::test]
async fn each_passing_of_the_end_of_a_book_is_an_event_once() {
    let world = World::new().await;
    let webhook = webhook(&world).await;
    let expire = async |sql| query(sql).bind(world.book.0).execute(world.pool()).await.unwrap();
    expire("update coupon_book set expires_at = now() + interval '1 hour' where id = $1").await;
    assert_eq!(world.store().record_expiries().await.unwrap(), 0);
    expire("update coupon_book set expires_at = now() - interval '1 second' where id = $1").await;
    // A change that holds the row delays neither a call nor the other books.
    let mut change = world.pool().begin().await.unwrap();
    query("select from coupon_book where id = $1 for update")
        .bind(world.book.0)
        .execute(&mut *change)
        .await
        .unwrap();
    assert_eq!(world.store().record_expiries().await.unwrap(), 0);
    change.rollback().await.unwrap();
    let (one, another) = tokio::join!(world.store().record_expiries(), world.store().record_expiries());
    assert_eq!(one.unwrap() + another.unwrap(), 1);
    read(&world, 1).await;
    expire("update coupon_book set expires_at = now() - interval '1 minute' where id = $1").await;
    assert_eq!(world.store().record_expiries().await.unwrap(), 1);
    read(&world, 1).await;
    expire("update coupon_book set expires_at = now(), status = 'CLOSED' where id = $1").await;
    assert_eq!(world.store().record_expiries().await.unwrap(), 0);
    let deliveries = deliveries(&world, webhook).await;
    assert_eq!(types(&deliveries), ["book.expired"; 2]);
    assert_eq!(data(&deliveries[0].body)["isExpired"], true);
}
