//! Claims, ends of attempts, replay, and deletion.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use cuponera_domain::id::WebhookId;
use cuponera_domain::rejection::Rejection;
use cuponera_domain::webhook::delivery::DeliveryStatus;
use cuponera_domain::webhook::signature::Secret;
use cuponera_domain::webhook::{DisabledReason, MAX_WEBHOOKS, WebhookPatch};
use cuponera_store::{AttemptOutcome, ClaimLimits, Finish};
use cuponera_testkit::{World, race};
use serde_json::Value;
use sqlx::{query, query_scalar};

use super::{LEASE, claim, create, deliveries, finish, forget, new_webhook, read, types, webhook};

const RETRY: AttemptOutcome = AttemptOutcome::Retry(Duration::ZERO);

/// A webhook with pending deliveries of the events ASSIGN, LOCK and UNLOCK of one code, and ASSIGN of another.
async fn with_events(world: &World) -> WebhookId {
    let codes = world.insert_codes(2).await;
    let webhook = webhook(world).await;
    world.give(&codes[0], "ana").await;
    world.locked(&codes[0], "ana").await;
    world.run_batch(world.unlock(&codes[0], "ana")).await.outcome.unwrap();
    world.give(&codes[1], "eva").await;
    read(world, 4).await;
    webhook
}

/// Invariant I-65.
#[tokio::test]
async fn the_next_event_of_a_code_is_attempted_when_the_earlier_one_has_ended_also_by_a_failure() {
    let world = World::new().await;
    let webhook = with_events(&world).await;
    let first = claim(&world).await;
    assert_eq!(first.len(), 2, "the first events of both codes are due");
    assert!(first.iter().all(|claimed| claimed.event_type == "coupon.assigned"));
    assert_eq!(claim(&world).await.len(), 0);
    assert_eq!(finish(&world, &first[0], RETRY).await, Finish::Recorded);
    let again = claim(&world).await;
    assert_eq!(
        (again.len(), again[0].id, again[0].tries),
        (1, first[0].id, 1),
        "a retry blocks the next event"
    );
    assert_eq!(finish(&world, &again[0], AttemptOutcome::Failed).await, Finish::Recorded);
    assert_eq!(finish(&world, &first[1], AttemptOutcome::Delivered).await, Finish::Recorded);
    let mut rest = Vec::new();
    while let [next] = &claim(&world).await[..] {
        rest.push(next.event_type.clone());
        finish(&world, next, AttemptOutcome::Delivered).await;
    }
    assert_eq!(rest, ["coupon.locked", "coupon.unlocked"]);
    let statuses: Vec<_> = deliveries(&world, webhook).await.iter().map(|delivery| delivery.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == DeliveryStatus::Failed).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == DeliveryStatus::Delivered).count(), 3);
    world.assert_invariants().await;
}

/// Invariant I-65.
#[tokio::test]
async fn a_claim_whose_lease_has_ended_is_taken_over_and_changes_nothing() {
    let world = World::new().await;
    let webhook = with_events(&world).await;
    let limits = ClaimLimits::at_most(100);
    let lost = world.store().claim_deliveries(&limits, Duration::ZERO).await.unwrap();
    let held = claim(&world).await;
    assert_eq!((lost.len(), held.len()), (2, 2));
    for claimed in &lost {
        assert_eq!(finish(&world, claimed, AttemptOutcome::Delivered).await, Finish::Lost);
    }
    assert_eq!(claim(&world).await.len(), 0, "a lost claim made the next event due");
    for claimed in &held {
        assert_eq!(finish(&world, claimed, AttemptOutcome::Delivered).await, Finish::Recorded);
        assert_eq!(finish(&world, claimed, AttemptOutcome::Delivered).await, Finish::Lost, "it ended twice");
    }
    let released = claim(&world).await;
    world.store().release_delivery_if_held(&released[0]).await.unwrap();
    let after = claim(&world).await;
    assert_eq!((after.len(), after[0].id, after[0].tries), (1, released[0].id, 0));
    let attempts: Vec<usize> =
        deliveries(&world, webhook).await.iter().map(|delivery| delivery.attempts.len()).collect();
    assert_eq!(attempts.iter().sum::<usize>(), 2);
    world.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_claim_at_once_get_different_deliveries() {
    let world = World::new().await;
    let codes = world.insert_codes(50).await;
    webhook(&world).await;
    race(8, &codes, async |code| world.give(code, "ana").await).await;
    read(&world, 50).await;
    let few = ClaimLimits::at_most(7);
    let claims = race(10, 0..10, async |_| world.store().claim_deliveries(&few, LEASE).await.unwrap()).await;
    let claimed: Vec<_> = claims.into_iter().flatten().map(|claimed| claimed.id).collect();
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), claimed.len(), "a delivery was claimed twice");
    assert_eq!(claimed.len() + claim(&world).await.len(), 50);
}

#[tokio::test]
async fn a_claim_locks_only_the_deliveries_that_it_takes() {
    let world = World::new().await;
    let codes = world.insert_codes(3).await;
    for _ in 0..20 {
        webhook(&world).await;
    }
    for code in &codes {
        world.give(code, "ana").await;
    }
    read(&world, 60).await;
    assert_eq!(world.store().claim_deliveries(&ClaimLimits::at_most(4), LEASE).await.unwrap().len(), 4);
    // A lock leaves its transaction in the row. A claim writes another version of it.
    let locked = "select count(*) from webhook_delivery where xmax <> '0' and lease_until is null";
    assert_eq!(query_scalar::<_, i64>(locked).fetch_one(world.pool()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_failing_webhook_has_few_attempts_and_the_others_come_first() {
    let world = World::new().await;
    let codes = world.insert_codes(10).await;
    let (dead, healthy) = (webhook(&world).await, webhook(&world).await);
    for code in &codes {
        world.give(code, "ana").await;
    }
    read(&world, 20).await;
    query("update webhook set failing_since = now() where id = $1")
        .bind(dead.0)
        .execute(world.pool())
        .await
        .unwrap();
    let limits =
        |all, running| ClaimLimits { all, failing: 3, each_business: 100, each: 8, each_failing: 2, running };
    let claim = async |limits| {
        let claimed = world.store().claim_deliveries(&limits, Duration::ZERO).await.unwrap();
        let of = |webhook| claimed.iter().filter(|claimed| claimed.webhook == webhook).count();
        (of(healthy), of(dead))
    };
    assert_eq!(claim(limits(100, vec![])).await, (8, 2));
    assert_eq!(claim(limits(8, vec![])).await, (8, 0));
    assert_eq!(claim(limits(100, vec![(healthy, 5), (dead, 2)])).await, (3, 0));
    assert_eq!(claim(ClaimLimits { failing: 1, ..limits(100, vec![]) }).await, (8, 1));
}

#[tokio::test]
async fn a_business_has_a_share_of_the_attempts_and_the_others_come_next_to_it() {
    let world = World::new().await;
    let other = world.another_business().await;
    let theirs = create(&world, other, new_webhook(&["*"])).await;
    for _ in 0..9 {
        world.store().test_webhook(None, other, theirs).await.unwrap().outcome.unwrap();
    }
    let codes = world.insert_codes(10).await;
    let (dead, healthy) = (webhook(&world).await, webhook(&world).await);
    for code in &codes {
        world.give(code, "ana").await;
    }
    read(&world, 20).await;
    let claim = async |all, each_business, running| {
        let limits = ClaimLimits { all, failing: 100, each_business, each: 100, each_failing: 100, running };
        let claimed = world.store().claim_deliveries(&limits, Duration::ZERO).await.unwrap();
        [dead, healthy, theirs]
            .map(|webhook| claimed.iter().filter(|claimed| claimed.webhook == webhook).count())
    };
    assert_eq!(claim(100, 6, vec![]).await, [3, 3, 6]);
    assert_eq!(claim(8, 100, vec![]).await, [2, 2, 4], "a business with two webhooks has more attempts");
    assert_eq!(claim(100, 6, vec![(dead, 4)]).await, [0, 2, 6], "running attempts are not counted");
    assert_eq!(claim(100, 6, vec![(dead, 5), (healthy, 3)]).await, [0, 0, 6]);
    query("update webhook set failing_since = now() where id = $1")
        .bind(dead.0)
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(claim(100, 6, vec![(dead, 3)]).await, [0, 3, 6], "failing webhooks have more than half");
    assert_eq!(claim(100, 30, vec![]).await, [10, 10, 9]);
}

#[tokio::test]
async fn a_receiver_that_is_gone_disables_its_webhook_and_the_others_are_notified() {
    let world = World::new().await;
    let gone = with_events(&world).await;
    let others =
        [webhook(&world).await, create(&world, world.business, new_webhook(&["webhook.disabled"])).await];
    let silent = create(&world, world.business, new_webhook(&["coupon.voided"])).await;
    let claimed = claim(&world).await;
    assert_eq!(
        finish(&world, &claimed[0], AttemptOutcome::Gone).await,
        Finish::Disabled(DisabledReason::Gone)
    );
    assert_eq!(finish(&world, &claimed[1], AttemptOutcome::Delivered).await, Finish::Recorded);
    let shown = world.store().get_webhook(world.business, gone).await.unwrap();
    assert_eq!((shown.enabled, shown.disabled_reason), (false, Some(DisabledReason::Gone)));
    let notified = claim(&world).await;
    assert_eq!(notified.iter().map(|claimed| claimed.webhook).collect::<BTreeSet<_>>(), others.into());
    assert_eq!(notified[0].event, notified[1].event, "the event has an id for each webhook");
    for claimed in &notified {
        let body: Value = serde_json::from_str(&claimed.body).unwrap();
        assert_eq!(body["type"], "webhook.disabled");
        assert_eq!(
            (&body["data"]["id"], &body["data"]["disabledReason"]),
            (&gone.to_string().into(), &"GONE".into())
        );
    }
    assert_eq!(deliveries(&world, silent).await.len(), 0);
    let test = world.store().test_webhook(None, world.business, gone).await.unwrap().outcome;
    assert_eq!(test.unwrap_err(), Rejection::WebhookDisabled);
    let enabled = WebhookPatch { enabled: Some(true), ..WebhookPatch::default() };
    let shown = world.store().update_webhook(world.business, gone, &enabled).await.unwrap();
    assert_eq!((shown.enabled, shown.disabled_reason), (true, None));
    assert_eq!(claim(&world).await.len(), 1, "a pending delivery does not continue");
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_does_not_disable_a_webhook_that_has_another_url_now() {
    let world = World::new().await;
    let id = with_events(&world).await;
    let claimed = claim(&world).await.remove(0);
    let url = "https://receiver.example/new".to_owned();
    let patch = WebhookPatch { url: Some(url), ..WebhookPatch::default() };
    world.store().update_webhook(world.business, id, &patch).await.unwrap();
    assert_eq!(finish(&world, &claimed, AttemptOutcome::Gone).await, Finish::Recorded);
    assert!(world.store().get_webhook(world.business, id).await.unwrap().enabled);
}

#[tokio::test]
async fn three_days_of_failures_disable_a_webhook_and_a_success_starts_anew() {
    let world = World::new().await;
    let webhook = with_events(&world).await;
    let age = async |interval: &str| {
        query("update webhook set failing_since = failing_since - $1::text::interval where id = $2")
            .bind(interval)
            .bind(webhook.0)
            .execute(world.pool())
            .await
            .unwrap();
    };
    let claimed = claim(&world).await;
    assert_eq!(finish(&world, &claimed[0], RETRY).await, Finish::Recorded);
    age("4 days").await;
    assert_eq!(finish(&world, &claimed[1], AttemptOutcome::Delivered).await, Finish::Recorded);
    let fail = async || finish(&world, &claim(&world).await[0], RETRY).await;
    assert_eq!(fail().await, Finish::Recorded, "a success did not count");
    age("2 days 23 hours").await;
    assert_eq!(fail().await, Finish::Recorded);
    age("2 hours").await;
    // Nothing is known of a time without attempts: it is no time of failures.
    query("update webhook set last_attempt_at = now() - interval '26 hours'")
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(fail().await, Finish::Recorded, "a day without attempts counts as a failure");
    age("2 days").await;
    assert_eq!(fail().await, Finish::Recorded);
    age("1 day").await;
    assert_eq!(fail().await, Finish::Disabled(DisabledReason::Failing));
    assert_eq!(claim(&world).await.len(), 0);
}

#[tokio::test]
async fn a_test_is_attempted_once_and_its_failure_counts_for_nothing() {
    let world = World::new().await;
    let webhook = webhook(&world).await;
    let test = world.store().test_webhook(None, world.business, webhook).await.unwrap().outcome.unwrap();
    let claimed = claim(&world).await;
    assert_eq!((claimed.len(), claimed[0].id, claimed[0].tries), (1, test.id, 11));
    assert_eq!(finish(&world, &claimed[0], AttemptOutcome::Failed).await, Finish::Recorded);
    let shown = deliveries(&world, webhook).await;
    assert_eq!((types(&shown), shown[0].status), (vec!["webhook.test"], DeliveryStatus::Failed));
    assert_eq!(shown[0].attempts[0].status, Some(500));
    let failing: Option<chrono::DateTime<Utc>> =
        query_scalar("select failing_since from webhook").fetch_one(world.pool()).await.unwrap();
    assert_eq!(failing, None);
    let last = world.store().get_webhook(world.business, webhook).await.unwrap().last_delivery.unwrap();
    assert_eq!(
        (last.id, last.status, last.event_type.as_str()),
        (test.id, DeliveryStatus::Failed, "webhook.test")
    );
    // A test of a receiver that has failed for days must not disable its webhook.
    query("update webhook set failing_since = now() - interval '4 days'")
        .execute(world.pool())
        .await
        .unwrap();
    world.store().test_webhook(None, world.business, webhook).await.unwrap().outcome.unwrap();
    assert_eq!(finish(&world, &claim(&world).await[0], AttemptOutcome::Failed).await, Finish::Recorded);
    assert!(world.store().get_webhook(world.business, webhook).await.unwrap().enabled);
}

#[tokio::test]
async fn failed_deliveries_are_replayed_in_order_and_later_ones_of_the_code_wait() {
    let world = World::new().await;
    let webhook = with_events(&world).await;
    for claimed in &claim(&world).await {
        finish(&world, claimed, AttemptOutcome::Failed).await;
    }
    let locked = claim(&world).await;
    assert_eq!(locked[0].event_type, "coupon.locked");
    finish(&world, &locked[0], RETRY).await;
    let replay = async |since| {
        let replayed = world.store().replay_deliveries(None, world.business, webhook, since).await.unwrap();
        replayed.outcome.unwrap()
    };
    assert_eq!(replay(Utc::now() + TimeDelta::minutes(1)).await, 0);
    assert_eq!(replay(Utc::now() - TimeDelta::minutes(1)).await, 2);
    assert_eq!(replay(Utc::now() - TimeDelta::minutes(1)).await, 0, "they were replayed twice");
    world.assert_invariants().await;
    let first = claim(&world).await;
    assert_eq!(first.len(), 2, "an event was claimed before an earlier one of its code");
    assert!(first.iter().all(|claimed| claimed.event_type == "coupon.assigned" && claimed.tries == 0));
    for claimed in &first {
        finish(&world, claimed, AttemptOutcome::Delivered).await;
    }
    assert_eq!(claim(&world).await[0].event_type, "coupon.locked");
    let attempts = deliveries(&world, webhook).await[0].attempts.len();
    assert_eq!(attempts, 2, "the attempts before the replay are not shown");
    world.assert_invariants().await;
}

#[tokio::test]
async fn deliveries_are_kept_for_thirty_days_and_end_with_their_webhook() {
    let world = World::new().await;
    let webhook = with_events(&world).await;
    for claimed in &claim(&world).await {
        finish(&world, claimed, RETRY).await;
    }
    assert_eq!(forget(&world).await, 0);
    let age = "update webhook_delivery set created_at = created_at - interval '31 days' where type = 'coupon.assigned'";
    query(age).execute(world.pool()).await.unwrap();
    assert_eq!(forget(&world).await, 2);
    assert_eq!(types(&deliveries(&world, webhook).await), ["coupon.locked", "coupon.unlocked"]);
    world.assert_invariants().await;
    assert_eq!(claim(&world).await[0].event_type, "coupon.locked", "it waits for a deleted delivery");
    world.store().delete_webhook(world.business, webhook).await.unwrap();
    assert_eq!(claim(&world).await.len(), 0);
    assert_eq!(forget(&world).await, 2 + 1);
    let rows: (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from webhook), (select count(*) from webhook_delivery), (select count(*) from webhook_attempt)",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    assert_eq!(rows, (0, 0, 0));
}

#[tokio::test]
async fn the_number_of_webhooks_is_limited_and_an_old_secret_signs_for_a_day() {
    let world = World::new().await;
    let webhook = with_events(&world).await;
    let rotated =
        world.store().rotate_webhook_secret(None, world.business, webhook, &Secret::new([8; 32])).await;
    assert_eq!(rotated.unwrap().outcome.unwrap().secret, Secret::new([8; 32]).to_text());
    let claimed = claim(&world).await;
    assert_eq!(claimed[0].secrets, [Secret::new([8; 32]), Secret::new([7; 32])]);
    query("update webhook set old_secret_until = now()").execute(world.pool()).await.unwrap();
    finish(&world, &claimed[0], RETRY).await;
    assert_eq!(claim(&world).await[0].secrets, [Secret::new([8; 32])]);
    let made = race(8, 0..MAX_WEBHOOKS + 9, async |_| {
        let new = new_webhook(&["*"]);
        world.store().create_webhook(None, world.business, &new, &Secret::new([1; 32])).await.unwrap().outcome
    })
    .await;
    let rejected: Vec<_> = made.into_iter().filter_map(Result::err).collect();
    assert_eq!(rejected, vec![Rejection::WebhookLimitReached { limit: MAX_WEBHOOKS }; 10]);
    let page = world.store().list_webhooks(world.business, None, 60).await.unwrap();
    let cursor = page.next_cursor.unwrap().parse().unwrap();
    let rest = world.store().list_webhooks(world.business, Some(cursor), 60).await.unwrap();
    assert_eq!((page.items.len(), rest.items.len(), rest.next_cursor), (60, 40, None));
}
