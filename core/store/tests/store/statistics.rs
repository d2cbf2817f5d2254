//! Statistics are those of a recount, in every time zone, beside writers, and after an upgrade.

mod backfill;
mod windows;
mod workload;

use chrono::{DateTime, Utc};
use cuponera_domain::book::BookRules;
use cuponera_domain::id::{BookId, RedemptionId};
use cuponera_domain::statistics::{EventSums, Interval, Window};
use cuponera_store::{Revoke, Rollback, Statistics};
use cuponera_testkit::{World, rules};
use sqlx::query;

/// The statistics of the book, or of the business.
async fn statistics(world: &World, book: Option<BookId>, window: &Window) -> Statistics {
    let found = world.store().statistics(world.business, book, window).await.unwrap();
    found.expect("the events of an earlier version are not counted")
}

fn window(from: &str, to: &str, interval: Interval, time_zone: &str) -> Window {
    let time = |text: &str| Some(text.parse::<DateTime<Utc>>().unwrap());
    Window { from: time(from), to: time(to), interval, time_zone: time_zone.to_owned() }
}

/// The last 30 days.
fn recently() -> Window {
    Window { from: None, to: None, interval: Interval::Day, time_zone: "UTC".to_owned() }
}

fn total(statistics: &Statistics) -> EventSums {
    let mut total = EventSums::default();
    for sums in &statistics.series {
        total += *sums;
    }
    total
}

fn revoke(code: &str) -> Revoke {
    Revoke { code: code.to_owned(), user: None, assignment: None, reason: "a test".to_owned() }
}

fn roll_back(code: &str, redemption: RedemptionId) -> Rollback {
    Rollback { redemption, code: code.to_owned(), user: None, reason: "a test".to_owned() }
}

async fn redeemed(world: &World, code: &str) {
    world.run_batch(world.redeem(code, "ana")).await.outcome.unwrap();
}

#[tokio::test]
async fn each_step_of_a_code_is_counted_once() {
    let world = World::with(BookRules { max_redeems_per_user: 2, ..rules() }).await;
    let codes = world.insert_codes(6).await;
    for code in &codes[..4] {
        world.give(code, "ana").await;
    }
    world.give(&codes[4], "leo").await;
    let lock = world.locked(&codes[0], "ana").await.lock;
    assert_eq!(world.locked(&codes[0], "ana").await.lock, lock, "a renewal");
    world.run_batch(world.unlock(&codes[0], "ana")).await.outcome.unwrap();
    world.locked(&codes[0], "ana").await;
    world.expire_all_locks().await;
    let first = world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
    world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
    let only = world.run_batch(world.redeem(&codes[1], "ana")).await.outcome.unwrap();
    world.run_batch(world.call(roll_back(&codes[1], only.redemption))).await.outcome.unwrap();
    world.run_batch(world.call(roll_back(&codes[0], first.redemption))).await.outcome.unwrap();
    world.locked(&codes[2], "ana").await;
    world.run_batch(world.unlock(&codes[2], "ana")).await.outcome.unwrap();
    world.run_batch(world.call(revoke(&codes[2]))).await.outcome.unwrap();
    let void =
        cuponera_store::Void { code: codes[3].clone(), user: None, only: None, reason: "a test".to_owned() };
    world.run_batch(world.call(void)).await.outcome.unwrap();
    for rolls_up in [false, true] {
        if rolls_up {
            world.store().roll_up_statistics().await.unwrap();
        }
        for book in [Some(world.book), None] {
            let found = statistics(&world, book, &recently()).await;
            let expected = EventSums {
                assigned: 5,
                locked: 3,
                unlocked: 2,
                lock_expired: 1,
                redeemed: 3,
                revoked: 1,
                rolled_back: 2,
                voided: 1,
            };
            assert_eq!(total(&found), expected);
            let funnel = found.funnel;
            let stages = (funnel.generated, funnel.assigned, funnel.locked, funnel.redeemed);
            assert_eq!(stages, (6, 4, 1, 1), "generated, assigned, locked, redeemed");
            assert_eq!((found.counts.available, found.counts.assigned, found.counts.void), (2, 3, 1));
            assert_eq!(
                found.redeem_times.quantile_seconds(500),
                Some(1.0),
                "two first redemptions within a second"
            );
        }
    }
    world.assert_invariants().await;
}

#[tokio::test]
async fn top_holders_are_those_of_the_quotas_and_change_with_them() {
    let world = World::with(BookRules { max_codes_per_user: None, ..rules() }).await;
    let other = world.another_book(&rules()).await;
    let codes = world.insert_codes(60).await;
    let others = world.insert_codes_into(other, "D", 3).await;
    assert_eq!(statistics(&world, None, &recently()).await.top_holders_as_of, None);
    let mut code = codes.iter();
    for user in 1..=9 {
        for _ in 0..user {
            world.give(code.next().unwrap(), &format!("u{user}")).await;
        }
    }
    for other in &others {
        world.give(other, "u8").await;
    }
    list_holders(&world).await;
    let top = |found: Statistics| {
        assert!(found.top_holders_as_of.is_some_and(|at| at <= found.as_of));
        found.top_holders.into_iter().map(|top| (top.user_id, top.held)).collect::<Vec<_>>()
    };
    let of_book = top(statistics(&world, Some(world.book), &recently()).await);
    assert_eq!(of_book.len(), 9);
    assert_eq!(of_book[..2], [("u9".to_owned(), 9), ("u8".to_owned(), 8)]);
    let of_business = top(statistics(&world, None, &recently()).await);
    assert_eq!(of_business[..2], [("u8".to_owned(), 11), ("u9".to_owned(), 9)]);
    for code in &codes[36..45] {
        world.run_batch(world.call(revoke(code))).await.outcome.unwrap();
    }
    world.store().roll_up_statistics().await.unwrap();
    assert!(!world.store().list_top_holders().await.unwrap(), "it was listed less than 30 s ago");
    let changed = statistics(&world, Some(world.book), &recently()).await;
    assert!(changed.top_holders_as_of.unwrap() < changed.as_of, "it is not of now");
    query("update stat_top_holder set tried_at = tried_at - interval '31 s'")
        .execute(world.pool())
        .await
        .unwrap();
    list_holders(&world).await;
    let of_book = top(statistics(&world, Some(world.book), &recently()).await);
    assert_eq!(of_book[0], ("u8".to_owned(), 8));
}

async fn list_holders(world: &World) {
    world.store().roll_up_statistics().await.unwrap();
    while world.store().list_top_holders().await.unwrap() {}
}

/// Invariant I-62.
#[tokio::test]
async fn a_row_changed_by_hand_is_a_difference() {
    let world = World::new().await;
    let codes = world.insert_codes(3).await;
    for code in &codes {
        world.give(code, "ana").await;
    }
    redeemed(&world, &codes[0]).await;
    world.store().roll_up_statistics().await.unwrap();
    assert_eq!(world.store().reconcile(None).await.unwrap(), []);
    let numbers = async |sql: &'static str, undo: &'static str| {
        query(sql).execute(world.pool()).await.unwrap();
        let found = world.store().reconcile(None).await.unwrap();
        let of_book = world.store().reconcile(Some(world.book)).await.unwrap();
        assert!(!of_book.is_empty() && of_book.iter().all(|difference| difference.scope == world.book.0));
        query(undo).execute(world.pool()).await.unwrap();
        let mut numbers: Vec<_> =
            found.into_iter().map(|found| (found.number, found.recounted - found.stored)).collect();
        numbers.sort();
        numbers.dedup();
        numbers
    };
    let changed = numbers(
        "update stat_bucket set redeemed = redeemed + 1",
        "update stat_bucket set redeemed = redeemed - 1",
    );
    assert_eq!(changed.await, [("redeemed".to_owned(), -1)]);
    let changed = numbers(
        "update coupon set status = 'VOID' where code = 'C000002'",
        "update coupon set status = 'ASSIGNED' where code = 'C000002'",
    );
    assert_eq!(changed.await, [("assigned codes".to_owned(), -1), ("void codes".to_owned(), 1)]);
    let changed = numbers(
        "update redeem_time set redeemed = redeemed * 2",
        "update redeem_time set redeemed = redeemed / 2",
    );
    assert_eq!(changed.await, [("first redemptions after 1.05^0 s".to_owned(), -1)]);
    assert_eq!(world.store().reconcile(None).await.unwrap(), []);
}
