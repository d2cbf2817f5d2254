//! Schedules of books: outside of it, codes are neither locked nor redeemed, except those that were locked before.

mod changes;
mod clocks;

use chrono::{DateTime, TimeDelta, Utc};
use cuponera_domain::book::{BookPatch, BookRules, Change};
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::rejection::Rejection;
use cuponera_domain::schedule::{ClockTime, Day, ScheduleWindow};
use cuponera_store::{Call, Error, Lock, Presenter, Redeem, Revoke, Rollback, Void};
use cuponera_testkit::{CallExt, World, rules};
use sqlx::{query, query_scalar};

use crate::bearer::bearer;

/// A time zone whose clocks never change, 9 hours ahead of UTC.
const ZONE: &str = "Asia/Tokyo";

/// A window between these hours from now, and the time at which it begins.
fn from_now(begin: i64, end: i64) -> (ScheduleWindow, DateTime<Utc>) {
    let now = Utc::now();
    let start = DateTime::from_timestamp(now.timestamp() / 60 * 60, 0).unwrap() + TimeDelta::hours(begin);
    let local = |at: DateTime<Utc>| (at + TimeDelta::hours(9)).format("%a %H:%M").to_string().to_uppercase();
    let (from, to) = (local(start), local(start + TimeDelta::hours(end - begin)));
    let days = vec![Day::parse(&from[..3]).unwrap()];
    (ScheduleWindow { days, from: clock(&from[4..]), to: clock(&to[4..]) }, start)
}

/// The rules with a schedule that is open for two hours more.
fn open(rules: BookRules) -> BookRules {
    BookRules { schedule: Some(vec![from_now(-2, 2).0]), time_zone: ZONE.to_owned(), ..rules }
}

async fn change(world: &World, patch: BookPatch) -> Result<(), Rejection> {
    let changed = world.store().update_book(None, world.business, world.book, patch).await;
    changed.unwrap().outcome.map(drop)
}

/// Closes the schedule of the world's book for two hours; returns the rejection of the calls until then.
async fn close(world: &World) -> Rejection {
    let (window, next_at) = from_now(2, 3);
    set(world, Some(vec![window])).await;
    Rejection::OutsideSchedule { next_at }
}

/// Removes it.
async fn open_at_all_times(world: &World) {
    set(world, None).await;
}

async fn set(world: &World, schedule: Option<Vec<ScheduleWindow>>) {
    let time_zone = Change::Set(ZONE.to_owned());
    let patch = BookPatch { schedule: Change::Set(schedule), time_zone, ..BookPatch::default() };
    change(world, patch).await.unwrap();
}

fn clock(text: &str) -> ClockTime {
    ClockTime::parse(text).unwrap()
}

fn lock_for(world: &World, code: &str, seconds: i32) -> Call<Lock> {
    world.call(Lock { code: code.to_owned(), user: "ana".to_owned(), ttl_seconds: Some(seconds) })
}

async fn validate(world: &World, call: &Call<Redeem>) -> Result<(), Rejection> {
    match world.store().validate(call).await {
        Ok(()) => Ok(()),
        Err(Error::Rejected(rejection)) => Err(rejection),
        Err(error) => panic!("{error:?}"),
    }
}

/// Invariant I-81.
#[tokio::test]
async fn outside_the_schedule_codes_are_assigned_but_not_locked_redeemed_or_valid() {
    let world = World::with(open(BookRules { max_redeems_per_user: 2, ..rules() })).await;
    let codes = world.insert_codes(4).await;
    world.give(&codes[0], "ana").await;
    let used = world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
    assert_eq!(validate(&world, &world.redeem(&codes[0], "ana")).await, Ok(()));
    world.locked(&codes[0], "ana").await;
    world.run_batch(world.unlock(&codes[0], "ana")).await.outcome.unwrap();

    let outside = Err(close(&world).await);
    let named = world.give(&codes[1], "ana").await;
    world.run_batch(world.random("ana")).await.outcome.unwrap();
    for code in [&codes[0], &named.code] {
        assert_eq!(world.run_batch(world.redeem(code, "ana")).await.outcome.map(drop), outside);
        assert_eq!(world.run_batch(world.lock(code, "ana")).await.outcome.map(drop), outside);
        assert_eq!(validate(&world, &world.redeem(code, "ana")).await, outside);
        assert_eq!(validate(&world, &world.redeem(code, "ana").by_end_user()).await, outside);
    }
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN", "REDEEM", "LOCK", "UNLOCK"]);
    let (code, user, reason) = (codes[0].clone(), None, "returned".to_owned());
    let rollback = Rollback { redemption: used.redemption, code, user, reason: reason.clone() };
    world.run_batch(world.call(rollback)).await.outcome.unwrap();
    let revoke = Revoke { code: codes[1].clone(), user: None, assignment: None, reason: reason.clone() };
    world.run_batch(world.call(revoke)).await.outcome.unwrap();
    let void = Void { code: codes[1].clone(), user: None, only: None, reason };
    world.run_batch(world.call(void)).await.outcome.unwrap();
    world.assert_invariants().await;
}

/// The customer is at the checkout when the schedule closes, and has seen the discount.
/// Invariant I-81.
#[tokio::test]
async fn a_code_that_was_locked_inside_the_schedule_is_redeemed_until_its_lock_ends() {
    let world = World::with(open(BookRules { max_redeems_per_user: 9, ..rules() })).await;
    let codes = world.insert_codes(5).await;
    let mut locks = Vec::new();
    for code in &codes {
        world.give(code, "ana").await;
        locks.push(world.locked(code, "ana").await.lock);
    }
    let outside = Err(close(&world).await);

    assert_eq!(validate(&world, &world.redeem(&codes[0], "ana")).await, Ok(()));
    world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
    let again = world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.map(drop);
    assert_eq!(again, outside, "the redemption has ended the lock");

    let mut with_id = world.redeem(&codes[1], "ana");
    with_id.ask.lock = Some(locks[0]);
    assert_eq!(world.run_batch(with_id.clone()).await.outcome, Err(Rejection::LockStale));
    with_id.ask.lock = Some(locks[1]);
    world.run_batch(with_id.clone()).await.outcome.unwrap();

    let renewal = world.run_batch(world.lock(&codes[2], "ana")).await.outcome.map(drop);
    assert_eq!(renewal, outside, "a renewal needs the schedule");
    world.run_batch(world.redeem(&codes[2], "ana")).await.outcome.unwrap();

    world.run_batch(world.unlock(&codes[3], "ana")).await.outcome.unwrap();
    assert_eq!(world.run_batch(world.redeem(&codes[3], "ana")).await.outcome.map(drop), outside);

    world.expire_all_locks().await;
    with_id.ask.code.clone_from(&codes[4]);
    with_id.ask.lock = Some(locks[4]);
    assert_eq!(validate(&world, &with_id).await, outside, "another lock is not possible either");
    assert_eq!(world.run_batch(with_id).await.outcome.map(drop), outside);
    assert_eq!(world.run_batch(world.redeem(&codes[4], "ana")).await.outcome.map(drop), outside);
    let foreign = world.run_batch(world.redeem(&codes[4], "eva")).await.outcome.map(drop);
    assert_eq!(foreign, Err(Rejection::NotHolder));
    world.assert_invariants().await;
}

/// Otherwise a lock of a day, taken in the last minute, would extend the schedule by a day.
/// Invariant I-81.
#[tokio::test]
async fn a_lock_outlasts_the_schedule_by_no_more_than_the_lock_of_its_book() {
    let world = World::with(BookRules { lock_ttl_seconds: 60, ..rules() }).await;
    let code = world.insert_codes(1).await.remove(0);
    world.give(&code, "ana").await;
    let (window, start) = from_now(-2, 2);
    let grace = start + TimeDelta::hours(4) + TimeDelta::seconds(60);
    set(&world, Some(vec![window])).await;
    for (asked, lasts) in [(86_400, None), (10_000, None), (30, Some(30)), (5_400, Some(5_400))] {
        let before = Utc::now();
        let locked = world.run_batch(lock_for(&world, &code, asked)).await.outcome.unwrap();
        let expected = lasts.map_or(grace, |seconds| before + TimeDelta::seconds(seconds));
        let late = (locked.locked_until - expected).num_seconds();
        // Of a lock until the end of the schedule, the fraction of a second.
        assert!(
            (0..=if lasts.is_some() { 10 } else { 1 }).contains(&late),
            "{asked} s: {}",
            locked.locked_until
        );
    }
    set(
        &world,
        Some(vec![ScheduleWindow { days: Day::ALL.to_vec(), from: clock("00:00"), to: clock("24:00") }]),
    )
    .await;
    let locked = world.run_batch(lock_for(&world, &code, 86_400)).await.outcome.unwrap();
    assert!(locked.locked_until > Utc::now() + TimeDelta::hours(23), "it never closes");
    world.assert_invariants().await;
}

/// Invariant I-81.
#[tokio::test]
async fn outside_the_schedule_a_free_code_of_a_bearer_book_is_not_presented() {
    let world =
        World::with(open(BookRules { max_codes_per_user: Some(1), require_lock: true, ..bearer() })).await;
    let codes = world.insert_codes(2).await;
    let outside = Err(close(&world).await);
    assert_eq!(world.run_batch(world.lock(&codes[0], "ana")).await.outcome.map(drop), outside);
    let mut without_user = world.redeem(&codes[0], "");
    without_user.ask.presenter = Presenter::Bearer;
    for call in [world.redeem(&codes[0], "ana").by_end_user(), without_user] {
        assert_eq!(validate(&world, &call).await, outside);
        assert_eq!(world.run_batch(call).await.outcome.map(drop), outside);
    }
    let quotas: i64 = query_scalar("select count(*) from user_quota").fetch_one(world.pool()).await.unwrap();
    assert_eq!((quotas, world.coupon(&codes[0]).await.status), (0, CouponStatus::Available));
    open_at_all_times(&world).await;
    world.locked(&codes[0], "ana").await;
    close(&world).await;
    let limit = world.run_batch(world.lock(&codes[1], "ana")).await.outcome.map(drop);
    assert_eq!(limit, outside, "the limit of the user is checked later");
    world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
    world.assert_invariants().await;
}

/// Each code of a batch has the schedule of its own book.
#[tokio::test]
async fn a_batch_may_have_codes_of_books_with_and_without_a_schedule() {
    let world = World::new().await;
    let (window, next_at) = from_now(2, 3);
    let closed = BookRules { schedule: Some(vec![window]), time_zone: ZONE.to_owned(), ..rules() };
    let closed = world.another_book(&closed).await;
    let opened = world.another_book(&open(rules())).await;
    let mut calls = Vec::new();
    for (book, prefix) in [(world.book, "ALWAYS"), (closed, "CLOSED"), (opened, "OPEN")] {
        for code in world.insert_codes_into(book, prefix, 3).await {
            world.give(&code, "ana").await;
            calls.push(world.redeem(&code, "ana"));
        }
    }
    for (call, answer) in calls.iter().zip(world.store().run_batch(&calls).await.unwrap()) {
        match answer.outcome {
            Ok(redeemed) => assert!(!redeemed.code.starts_with("CLOSED")),
            Err(rejected) => {
                assert!(call.ask.code.starts_with("CLOSED"));
                assert_eq!(rejected, Rejection::OutsideSchedule { next_at });
            }
        }
    }
    world.assert_invariants().await;
}

/// A repeated call gets its answer of inside the schedule, and a rejection is stored like others.
#[tokio::test]
async fn what_was_redeemed_inside_the_schedule_is_answered_outside_of_it() {
    let world = World::with(open(BookRules { max_redeems_per_user: 9, ..rules() })).await;
    let code = world.insert_codes(1).await.remove(0);
    world.give(&code, "ana").await;
    let mut sale = world.redeem(&code, "ana");
    sale.ask.reference = Some("sale 1".to_owned());
    let first = world.run_batch(sale.clone()).await.outcome.unwrap();
    let keyed = world.redeem(&code, "ana").with_key("one");
    world.run_batch(keyed.clone()).await.outcome.unwrap();
    let outside = Err(close(&world).await);
    let repeated = world.run_batch(sale.clone()).await.outcome.unwrap();
    assert_eq!((repeated.redemption, repeated.replayed), (first.redemption, true));
    assert!(world.run_batch(keyed).await.replayed);
    let other = world.redeem(&code, "ana").with_key("two");
    assert_eq!(world.run_batch(other.clone()).await.outcome, outside);
    open_at_all_times(&world).await;
    let stored = world.run_batch(other).await;
    assert_eq!((stored.outcome, stored.replayed), (outside, true));
    world.assert_invariants().await;
}

#[tokio::test]
async fn the_state_of_book_and_code_is_checked_before_the_schedule() {
    let world = World::with(open(rules())).await;
    let codes = world.insert_codes(3).await;
    world.give(&codes[0], "ana").await;
    let outside = Err(close(&world).await);
    let past = Utc::now() - TimeDelta::hours(1);
    assert_eq!(world.run_batch(world.lock(&codes[1], "ana")).await.outcome, Err(Rejection::NotAssigned));
    query("update coupon set expires_at = $1 where code = $2")
        .bind(past)
        .bind(&codes[0])
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(world.run_batch(world.redeem(&codes[0], "ana")).await.outcome, Err(Rejection::CouponExpired));
    world.give(&codes[2], "ana").await;
    assert_eq!(world.run_batch(world.lock(&codes[2], "ana")).await.outcome.map(drop), outside);
    let expires_at = Change::Set(Some(past));
    change(&world, BookPatch { expires_at, ..BookPatch::default() }).await.unwrap();
    assert_eq!(world.run_batch(world.lock(&codes[2], "ana")).await.outcome, Err(Rejection::BookExpired));
    assert_eq!(validate(&world, &world.redeem(&codes[2], "ana")).await, Err(Rejection::BookExpired));
}
