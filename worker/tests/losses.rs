//! Lost, rejected and unknown messages, and workers that die.

use std::time::{Duration, Instant};

use cuponera_domain::job::{CODES_PER_CHUNK, JobKind};
use cuponera_platform::queue::Queue;
use cuponera_store::{OutgoingKind, RESCUE_AFTER, WorkerAvailability};
use cuponera_testkit::{Adversary, FaultConfig, bound, eventually, waits_for};
use sqlx::query;

use crate::fleet::{Fleet, LEASE, count};

/// Invariant I-31.
#[tokio::test]
async fn a_job_is_taken_while_the_queue_refuses_and_announced_soon_after_its_return() {
    let fleet = Fleet::new().await;
    let adversary = Adversary::before(fleet.queue.endpoint(), 1, FaultConfig::GOOD).await;
    let sqs = fleet.queue.connect_through(&adversary.endpoint()).await;
    let relay = fleet.relay(&sqs);
    adversary.refuse();
    let begun = Instant::now();
    let job = fleet.generate(&fleet.store(&sqs), 3 * CODES_PER_CHUNK).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "the submission waited for the queue");
    // Long enough that the pauses have grown and the chunks look lost by their age.
    tokio::time::sleep(RESCUE_AFTER + Duration::from_secs(1)).await;
    assert_eq!((fleet.unsent().await, fleet.queue.messages().await.len()), (3, 0));
    adversary.reset_faults();
    let returned = Instant::now();
    fleet.all_is_sent().await;
    assert!(returned.elapsed() < Duration::from_secs(5), "{:?}", returned.elapsed());
    // No worker is running: the chunks count as lost after a time, but not immediately.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let messages = fleet.queue.messages().await;
    assert_eq!(messages.len(), 3, "one message for each chunk");
    for message in messages {
        let (body, group) = (message["Body"].as_str().unwrap(), message["MessageGroupId"].as_str().unwrap());
        assert_eq!(body, format!(r#"{{"v":1,"kind":"chunk","job":"{}","work":"GENERATE_CODES"}}"#, job.id));
        assert_eq!(group, fleet.world.business.to_string());
    }
    fleet.stop.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn a_message_that_the_queue_refused_in_a_call_that_succeeded_is_sent_again() {
    let fleet = Fleet::new().await;
    let fault_config = FaultConfig { refuse_message: 0.5, ..FaultConfig::GOOD };
    let adversary = Adversary::before(fleet.queue.endpoint(), 2, fault_config).await;
    let sqs = fleet.queue.connect_through(&adversary.endpoint()).await;
    fleet.relay(&sqs);
    // No worker is running: all messages in the queue are those that the relay sent.
    fleet.generate(&fleet.store(&sqs), 12 * CODES_PER_CHUNK).await;
    fleet.all_is_sent().await;
    assert!(fleet.queue.messages().await.len() >= 12, "at least one message for each chunk");
}

/// With 20,000 waiting messages, some are always due.
#[tokio::test]
async fn messages_that_the_queue_takes_none_of_keep_nobody_from_looking_for_lost_work() {
    let fleet = Fleet::new().await;
    let fault_config = FaultConfig { refuse_message: 1.0, ..FaultConfig::GOOD };
    let adversary = Adversary::before(fleet.queue.endpoint(), 3, fault_config).await;
    let sqs = fleet.queue.connect_through(&adversary.endpoint()).await;
    fleet.generate(&fleet.store(&sqs), 50).await;
    for sql in [
        "delete from outbox",
        "update job_chunk set run_at = run_at - interval '1 hour'",
        "insert into outbox (kind, business_id, job_id, number, work, attempt)
         select 'CHUNK', business_id, gen_random_uuid(), 0, kind, 0 from job, generate_series(1, 20000)",
    ] {
        query(sql).execute(fleet.world.pool()).await.unwrap();
    }
    fleet.relay(&sqs);
    eventually("the lost chunk to be announced", async || {
        let announced = "select count(*) from outbox join job on job.id = job_id";
        (count(&fleet.world, announced).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_relay_that_died_over_its_messages_loses_none() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    fleet.generate(&store, 3 * CODES_PER_CHUNK).await;
    let lease = Duration::from_mins(1);
    let held = store.claim_outgoing(OutgoingKind::WakeUp, lease, 2).await.unwrap();
    assert_eq!(held.len(), 2);
    let others = store.claim_outgoing(OutgoingKind::WakeUp, lease, 9).await.unwrap();
    assert_eq!(others.len(), 1, "a message was claimed twice");
    query("update outbox set claimed_until = now()").execute(fleet.world.pool()).await.unwrap();
    fleet.relay(&sqs);
    fleet.all_is_sent().await;
    assert_eq!(fleet.queue.messages().await.len(), 3);
}

/// Invariant I-32.
#[tokio::test]
async fn a_job_ends_although_the_queue_has_lost_all_its_messages() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let relay = fleet.relay(&sqs);
    let job = fleet.generate(&fleet.store(&sqs), 2 * CODES_PER_CHUNK).await;
    fleet.all_is_sent().await;
    fleet.queue.purge().await;
    // A process without a worker sees that no chunk is running and announces the chunks again. This starts workers in a
    // fleet that was scaled to zero.
    eventually("messages without a worker", async || (fleet.queue.messages().await.len() == 2).then_some(()))
        .await;
    fleet.queue.purge().await;
    fleet.worker("worker", &sqs).await;
    fleet.succeeded(job.id).await;
    fleet.world.assert_invariants().await;
    fleet.stop.cancel();
    relay.await.unwrap();
}

#[tokio::test]
async fn an_honest_backlog_is_not_announced_again_and_again() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    let job = fleet.generate(&store, 1_900 * CODES_PER_CHUNK).await;
    let sent = "delete from outbox";
    query(sent).execute(fleet.world.pool()).await.unwrap();
    let old = "update job_chunk set run_at = run_at - interval '1 hour'";
    query(old).execute(fleet.world.pool()).await.unwrap();

    let long = Duration::from_mins(10);
    let claim = store.claim_chunk("busy", long, &JobKind::ALL).await.unwrap().unwrap();
    assert_eq!(
        (claim.job, store.rescue_chunks(WorkerAvailability::Unknown).await.unwrap()),
        (job.id, 0),
        "a worker is running"
    );
    assert_eq!(store.rescue_chunks(WorkerAvailability::Idle).await.unwrap(), 1_000, "at most 1,000 chunks");
    for _ in 0..5 {
        assert_eq!(store.rescue_chunks(WorkerAvailability::Idle).await.unwrap(), 0);
    }
    // Sent again and lost again: each is announced again after a time that doubles.
    let mut seconds = 10;
    for _ in 0..4 {
        query(sent).execute(fleet.world.pool()).await.unwrap();
        age_rescues(&fleet, seconds - 4).await;
        assert_eq!(store.rescue_chunks(WorkerAvailability::Idle).await.unwrap(), 0, "before {seconds} s");
        age_rescues(&fleet, seconds + 1).await;
        assert_eq!(store.rescue_chunks(WorkerAvailability::Idle).await.unwrap(), 1_000, "after {seconds} s");
        seconds *= 2;
    }
    // Each claimed chunk allows the announcement of another.
    query(sent).execute(fleet.world.pool()).await.unwrap();
    for _ in 0..3 {
        store.claim_chunk("busy", long, &JobKind::ALL).await.unwrap().unwrap();
    }
    assert_eq!(store.rescue_chunks(WorkerAvailability::Idle).await.unwrap(), 3);
}

/// Sets the time of the last rescue of all rescued chunks to this many seconds ago.
async fn age_rescues(fleet: &Fleet, seconds: i32) {
    let age =
        "update job_chunk set rescued_at = now() - make_interval(secs => $1) where rescued_at is not null";
    query(age).bind(f64::from(seconds)).execute(fleet.world.pool()).await.unwrap();
}

#[tokio::test]
async fn two_who_look_for_lost_work_at_once_announce_it_once() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    fleet.generate(&store, 200 * CODES_PER_CHUNK).await;
    query("delete from outbox").execute(fleet.world.pool()).await.unwrap();
    query("update job_chunk set run_at = run_at - interval '1 hour'")
        .execute(fleet.world.pool())
        .await
        .unwrap();
    // All statements read the chunks before one of them changes any.
    let mut holding = fleet.world.pool().begin().await.unwrap();
    query("select from job_chunk for update").execute(&mut *holding).await.unwrap();
    let look = || async { store.rescue_chunks(WorkerAvailability::Idle).await.unwrap() };
    let all = futures::future::join_all((0..6).map(|_| look()));
    let announced = waits_for(fleet.world.pool(), 6, holding.rollback(), all).await;
    assert_eq!(announced.iter().sum::<u64>(), 200);
    assert_eq!(fleet.unsent().await, 200);
}

/// The worker dies while it holds its chunk and has received the message.
#[tokio::test]
async fn the_chunk_of_a_killed_worker_is_taken_over_within_20_seconds() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    fleet.relay(&sqs);
    let job = fleet.generate(&store, 100).await;
    let (mut receivers, _deleter) = Queue::Sqs(sqs.clone()).open(&store, LEASE, 1);
    let mut receiver = receivers.pop().unwrap();
    let delivery = receiver.next(&fleet.stop).await.unwrap();
    store.claim_chunk("killed", LEASE, &JobKind::ALL).await.unwrap().unwrap();
    let killed = Instant::now();
    drop((delivery, receiver));
    fleet.worker("alive", &sqs).await;
    fleet.succeeded(job.id).await;
    // A message without heartbeats is hidden for 17 s, twice.
    let within = bound(Duration::from_secs(20), Duration::from_secs(30));
    assert!(killed.elapsed() < within, "{:?}", killed.elapsed());
    assert_eq!(count(&fleet.world, "select sum(crashes)::bigint from job_chunk").await, 1);
}

#[tokio::test]
async fn what_is_not_ours_is_left_to_others() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let strangers = [
        r#"{"v":2,"kind":"chunk","job":"0190163d-8694-739b-aea5-966c26f8ad91","work":"GENERATE_CODES"}"#,
        r#"{"v":1,"kind":"parcel"}"#,
        r#"{"v":1,"kind":"chunk","job":"0190163d-8694-739b-aea5-966c26f8ad91","work":"TELEPORT"}"#,
        "hello",
    ];
    for body in strangers {
        fleet.queue.put(body).await;
    }
    fleet.worker("worker", &sqs).await;
    eventually("the unknown messages to be received", async || {
        let messages = fleet.queue.messages().await;
        messages
            .iter()
            .all(|message| message["ReceiveCount"] == 1 && message["IsVisible"] == false)
            .then_some(())
    })
    .await;
    // Known messages are processed meanwhile.
    let job = fleet.generate(&fleet.store(&sqs), 50).await;
    fleet.succeeded(job.id).await;
    eventually("our message to be deleted", async || (fleet.queue.messages().await.len() == 4).then_some(()))
        .await;
    let messages = fleet.queue.messages().await;
    assert!(
        messages.iter().all(|message| message["ReceiveCount"] == 1),
        "unknown messages were received again: {messages:?}"
    );
    assert!(fleet.queue.dead_letters().await.is_empty());
}

#[tokio::test]
async fn messages_are_deleted_when_their_work_is_done_or_there_is_none() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let job = fleet.generate(&fleet.store(&sqs), 50).await;
    for _ in 0..25 {
        fleet
            .queue
            .put(&format!(r#"{{"v":1,"kind":"chunk","job":"{}","work":"GENERATE_CODES"}}"#, job.id))
            .await;
    }
    fleet.worker("worker", &sqs).await;
    fleet.succeeded(job.id).await;
    eventually("all messages to be deleted", async || fleet.queue.messages().await.is_empty().then_some(()))
        .await;
    assert_eq!(fleet.job(job.id).await.succeeded, 50);
}

#[tokio::test]
async fn a_queue_that_is_away_says_so_and_how_much_waits_is_known() {
    let fleet = Fleet::new().await;
    let adversary = Adversary::before(fleet.queue.endpoint(), 1, FaultConfig::GOOD).await;
    let sqs = fleet.queue.connect_through(&adversary.endpoint()).await;
    let store = fleet.store(&sqs);
    fleet.generate(&store, 3 * CODES_PER_CHUNK).await;
    let backlog = store.backlog().await.unwrap();
    assert_eq!((backlog.runnable, backlog.unsent), (3, 3));
    assert!(backlog.oldest.is_some());
    fleet.relay(&sqs);
    fleet.all_is_sent().await;
    assert_eq!(sqs.depth().await.unwrap().visible, 3);
    assert_eq!(sqs.dead_letters().await.unwrap().visible, 0);
    eventually("an answer", async || sqs.answers().await.then_some(())).await;
    adversary.refuse();
    assert!(sqs.answers().await, "the last answer is cached for a few seconds");
    assert!(sqs.depth().await.unwrap_err().is_retryable());
    eventually("the outage to be detected", async || (!sqs.answers().await).then_some(())).await;
    adversary.reset_faults();
    eventually("the end of the outage to be detected", async || sqs.answers().await.then_some(())).await;
}

#[tokio::test]
async fn a_message_whose_chunk_is_at_work_is_for_nobody_else() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    fleet.relay(&sqs);
    fleet.generate(&fleet.store(&sqs), 50).await;
    // Messages are hidden for 6 seconds at a time.
    let lease = Duration::from_secs(4);
    let (mut receivers, _deleter) = Queue::Sqs(sqs.clone()).open(&fleet.store(&sqs), lease, 2);
    let (mut other, mut receiver) = (receivers.pop().unwrap(), receivers.pop().unwrap());
    let delivery = receiver.next(&fleet.stop).await.unwrap();
    fleet.store(&sqs).claim_chunk("worker", LEASE, &JobKind::ALL).await.unwrap().unwrap();
    let at_work = async {
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            receiver.hold(&delivery).await;
        }
    };
    tokio::select! {
        () = at_work => {}
        _ = other.next(&fleet.stop) => panic!("the message was delivered to another slot"),
    }
    // After the worker has died, the message is delivered to the other slot.
    drop((receiver, delivery));
    assert!(other.next(&fleet.stop).await.is_some());
}
