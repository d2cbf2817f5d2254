//! Receivers that fail, do not answer, or are gone, beside a healthy one; and workers that are lost.

use std::collections::BTreeSet;
use std::sync::Mutex;

use cuponera_domain::webhook::delivery::DeliveryStatus;
use cuponera_domain::webhook::{DisabledReason, MAX_WEBHOOKS};
use cuponera_testkit::{Answer, Receiver, World, eventually};
use sqlx::query;

use super::{
    Running, assert_in_order, assert_signed, count, deliveries, local, three_events, webhook, webhook_of,
};

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_signed_and_in_order_whatever_the_receiver_answers_first() {
    let world = World::new().await;
    let codes = world.insert_codes(6).await;
    let healthy = Receiver::healthy().await;
    // The first attempt of each event fails.
    let seen = Mutex::new(BTreeSet::new());
    let failing = Receiver::answering(move |_, request| {
        let is_first = seen.lock().unwrap().insert(request.header("webhook-id").to_owned());
        Answer::Status(if is_first { 500 } else { 200 })
    })
    .await;
    let hanging =
        Receiver::answering(|number, _| if number == 0 { Answer::Hang } else { Answer::Status(200) }).await;
    let redirecting = Receiver::answering({
        let trap = healthy.url();
        move |number, _| match number {
            0 => Answer::With(302, ("location", format!("{trap}?redirected")), "moved".to_owned()),
            1 => Answer::With(503, ("retry-after", "1".to_owned()), "x".repeat(5_000)),
            _ => Answer::Status(202),
        }
    })
    .await;
    let mut webhooks = Vec::new();
    for receiver in [&healthy, &failing, &hanging, &redirecting] {
        webhooks.push(webhook(&world, &receiver.url()).await);
    }
    let worker = Running::start(&world, "worker", local()).await;
    three_events(&world, &codes).await;
    for (receiver, id) in [&healthy, &failing, &hanging, &redirecting].into_iter().zip(&webhooks) {
        eventually("all events to be delivered", async || {
            let all = deliveries(&world, *id).await;
            (count(&all, DeliveryStatus::Delivered) == codes.len() * 3).then_some(())
        })
        .await;
        assert_signed(&receiver.received());
        assert_in_order(&receiver.received(), &codes);
    }
    worker.stop().await;
    assert_eq!(healthy.received().len(), codes.len() * 3, "an event came twice, or a redirect was followed");
    let hung = deliveries(&world, webhooks[2]).await;
    let hung = hung.iter().find(|delivery| delivery.attempts.len() > 1).unwrap();
    assert_eq!(hung.attempts[0].error.as_deref(), Some("no response within 10 s"));
    assert!(hung.attempts[0].duration_ms >= 9_900 && hung.attempts[0].status.is_none(), "{hung:?}");
    let redirected = deliveries(&world, webhooks[3]).await;
    let attempts: Vec<_> = redirected.iter().flat_map(|delivery| &delivery.attempts).collect();
    let with = |status| attempts.iter().find(|attempt| attempt.status == Some(status)).unwrap();
    assert_eq!(with(302).answer.as_deref(), Some("moved"));
    assert_eq!(with(503).answer.as_deref(), Some("x".repeat(1_024).as_str()));
    world.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_receivers_do_not_delay_a_healthy_one() {
    const DEAD: usize = 40;
    assert!(DEAD < usize::try_from(MAX_WEBHOOKS).unwrap());
    let world = World::new().await;
    let codes = world.insert_codes(30).await;
    let dead = Receiver::answering(|_, _| Answer::Hang).await;
    let mut hung = Vec::new();
    for number in 0..DEAD {
        hung.push(webhook(&world, &format!("{}/{number}", dead.url())).await);
    }
    let healthy = Receiver::healthy().await;
    let well = webhook(&world, &healthy.url()).await;
    let worker = Running::start(&world, "worker", local()).await;
    // The dead receivers have many events to come before those of the healthy one.
    query("update webhook set enabled = false where id = $1")
        .bind(well.0)
        .execute(world.pool())
        .await
        .unwrap();
    three_events(&world, &codes[..10]).await;
    eventually("the dead receivers to be called", async || (!dead.received().is_empty()).then_some(())).await;
    query("update webhook set failing_since = now() where id <> $1")
        .bind(well.0)
        .execute(world.pool())
        .await
        .unwrap();
    query("update webhook set enabled = true, since_snapshot = pg_current_snapshot() where id = $1")
        .bind(well.0)
        .execute(world.pool())
        .await
        .unwrap();
    three_events(&world, &codes[10..]).await;
    eventually("the healthy receiver to get its events", async || {
        (healthy.received().len() >= 60).then_some(())
    })
    .await;
    assert_in_order(&healthy.received(), &codes[10..]);
    for id in hung {
        assert_eq!(count(&deliveries(&world, id).await, DeliveryStatus::Delivered), 0);
    }
    worker.stop().await;
    let held: i64 = sqlx::query_scalar("select count(*) from webhook_delivery where lease_until is not null")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(held, 0, "a worker that stopped holds deliveries");
    world.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_receivers_that_do_not_answer_do_not_delay_another_business() {
    let world = World::new().await;
    let codes = world.insert_codes(5).await;
    let dead = Receiver::answering(|_, _| Answer::Hang).await;
    for number in 0..MAX_WEBHOOKS {
        webhook(&world, &format!("{}/{number}", dead.url())).await;
    }
    let (other, healthy) = (world.another_business().await, Receiver::healthy().await);
    let well = webhook_of(&world, other, &healthy.url()).await;
    let worker = Running::start(&world, "worker", local()).await;
    for code in &codes {
        world.give(code, "ana").await;
    }
    // The share of a business.
    eventually("the receivers to be called", async || (dead.received().len() >= 64).then_some(())).await;
    world.store().test_webhook(None, other, well).await.unwrap().outcome.unwrap();
    eventually("the other business to be served", async || (!healthy.received().is_empty()).then_some(()))
        .await;
    assert_eq!(dead.received().len(), 64, "the event came after a call that did not end");
    worker.stop().await;
}

/// Invariant I-65.
#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_lose_their_leases_deliver_each_event_and_in_order() {
    let world = World::new().await;
    let codes = world.insert_codes(12).await;
    // Every third request fails.
    let receiver =
        Receiver::answering(
            |number, _| {
                if number % 3 == 0 { Answer::Status(503) } else { Answer::Status(200) }
            },
        )
        .await;
    let id = webhook(&world, &receiver.url()).await;
    let workers =
        [Running::start(&world, "one", local()).await, Running::start(&world, "two", local()).await];
    three_events(&world, &codes).await;
    eventually("all events to be delivered", async || {
        // As if the workers were frozen: their leases end at once. Retries are due without their delay.
        query(
            "update webhook_delivery set lease_until = now(), next_attempt_at = now()
             where status = 'PENDING' and next_attempt_at is not null",
        )
        .execute(world.pool())
        .await
        .unwrap();
        let all = deliveries(&world, id).await;
        (count(&all, DeliveryStatus::Delivered) == codes.len() * 3).then_some(())
    })
    .await;
    for worker in workers {
        worker.stop().await;
    }
    assert_signed(&receiver.received());
    assert_in_order(&receiver.received(), &codes);
    world.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_abandons_an_attempt_and_the_next_one_makes_it() {
    let world = World::new().await;
    let codes = world.insert_codes(1).await;
    let receiver =
        Receiver::answering(|number, _| if number == 0 { Answer::Hang } else { Answer::Status(200) }).await;
    let id = webhook(&world, &receiver.url()).await;
    let first = Running::start(&world, "first", local()).await;
    world.give(&codes[0], "ana").await;
    eventually("the first attempt", async || (!receiver.received().is_empty()).then_some(())).await;
    first.stop().await;
    assert_eq!(deliveries(&world, id).await[0].attempts.len(), 0, "an abandoned attempt was recorded");
    let second = Running::start(&world, "second", local()).await;
    eventually("the event to be delivered", async || {
        (count(&deliveries(&world, id).await, DeliveryStatus::Delivered) == 1).then_some(())
    })
    .await;
    second.stop().await;
    assert_eq!(receiver.received().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_answers_410_disables_its_webhook() {
    let world = World::new().await;
    let codes = world.insert_codes(2).await;
    let gone = Receiver::answering(|_, _| Answer::Status(410)).await;
    let other = Receiver::healthy().await;
    let id = webhook(&world, &gone.url()).await;
    webhook(&world, &other.url()).await;
    let worker = Running::start(&world, "worker", local()).await;
    world.give(&codes[0], "ana").await;
    eventually("the other webhook to be notified", async || {
        other.received().iter().any(|request| request.json()["type"] == "webhook.disabled").then_some(())
    })
    .await;
    let shown = world.store().get_webhook(world.business, id).await.unwrap();
    assert_eq!((shown.enabled, shown.disabled_reason), (false, Some(DisabledReason::Gone)));
    world.give(&codes[1], "ana").await;
    eventually("the next event", async || (other.received().len() == 3).then_some(())).await;
    assert_eq!(gone.received().len(), 1);
    worker.stop().await;
}
