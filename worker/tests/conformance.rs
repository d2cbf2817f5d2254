//! The guarantees of a queue, tested on both implementations.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cuponera_domain::csv::Columns;
use cuponera_domain::id::JobId;
use cuponera_domain::job::{CODES_PER_CHUNK, JobError, JobKind, JobStatus, import};
use cuponera_platform::queue::{Delivery, Queue, Receiver, Relay, Wakeups};
use cuponera_store::GenerateId;
use cuponera_store::{Claim, ClaimState, ImportPart, NewImport, Store};
use cuponera_testkit::{Emulator, World, no_lines, work_generation};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::fleet::{generate, import_to, submit_dry_run};

/// Timeout of a condition. Reaching it fails the test, so it is generous.
const TIMEOUT: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_secs(15);
/// Timeout of a condition that begins with the end of a lease.
const SHORT_LEASE: Duration = Duration::from_secs(2);

/// A world whose work is announced on this queue.
struct Rig {
    world: World,
    queue: Queue,
    store: Store,
    lease: Duration,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl Rig {
    async fn on_postgres() -> Self {
        let world = World::new().await;
        let wakeups = Arc::new(Wakeups::default());
        let rig = Self::with(world, Queue::Postgres(wakeups.clone()));
        let (url, stop) = (rig.world.database.url().to_owned(), rig.stop.clone());
        tokio::spawn(async move { wakeups.listen(&url, &stop).await });
        rig
    }

    async fn on_sqs() -> Self {
        let sqs = Emulator::get().await.queue().await.connect().await;
        let rig = Self::with(World::new().await, Queue::Sqs(sqs.clone()));
        tokio::spawn(Relay::new(rig.store.clone(), sqs).run(rig.stop.clone()));
        rig
    }

    fn with(world: World, queue: Queue) -> Self {
        let store = queue.attach(world.store().clone());
        let stop = CancellationToken::new();
        Self { world, queue, store, lease: LEASE, _stop: stop.clone().drop_guard(), stop }
    }

    /// This many idle slots.
    fn places(&self, places: usize) -> Vec<Receiver> {
        let (receivers, deleter) = self.queue.open(&self.store, self.lease, places);
        if let Some(deleter) = deleter {
            tokio::spawn(deleter.run());
        }
        receivers
    }

    fn place(&self) -> Receiver {
        self.places(1).pop().unwrap()
    }

    async fn next(&self, receiver: &mut Receiver) -> Delivery {
        let next = receiver.next(&self.stop);
        tokio::time::timeout(TIMEOUT, next).await.expect("nothing was delivered").unwrap()
    }

    async fn claim(&self) -> Option<Claim> {
        self.store.claim_chunk("worker", self.lease, &JobKind::ALL).await.unwrap()
    }

    /// Receives deliveries as a worker does until a chunk can be claimed.
    async fn next_chunk(&self, receiver: &mut Receiver) -> (Delivery, Claim) {
        let found = async {
            loop {
                let delivery = self.next(receiver).await;
                match self.claim().await {
                    Some(claim) => return (delivery, claim),
                    None => receiver.found_nothing(delivery),
                }
            }
        };
        tokio::time::timeout(TIMEOUT, found).await.expect("no chunk was delivered")
    }

    async fn submit(&self, quantity: u64) -> JobId {
        generate(&self.world, &self.store, quantity).await.id
    }

    async fn status(&self, id: JobId) -> JobStatus {
        self.store.get_job(self.world.business, id).await.unwrap().status
    }
}

async fn a_submitted_job_wakes_who_waits(rig: Rig) {
    let mut receiver = rig.place();
    let begun = Instant::now();
    let waiting = rig.next_chunk(&mut receiver);
    let submitting = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        rig.submit(50).await
    };
    let ((_, claim), job) = futures::join!(waiting, submitting);
    assert_eq!(claim.job, job);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "the chunk was found by polling, without a notification"
    );
}

async fn what_was_submitted_before_anybody_listens_is_delivered(rig: Rig) {
    let job = rig.submit(50).await;
    assert_eq!(rig.next_chunk(&mut rig.place()).await.1.job, job);
}

async fn every_chunk_finds_a_place_of_its_own(rig: Rig) {
    rig.submit(3 * CODES_PER_CHUNK).await;
    let mut numbers = Vec::new();
    for mut receiver in rig.places(3) {
        let (delivery, claim) = rig.next_chunk(&mut receiver).await;
        numbers.push(claim.number);
        receiver.claimed();
        receiver.finished(delivery);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2]);
}

async fn a_chunk_to_be_tried_later_is_delivered_then(rig: Rig) {
    rig.submit(50).await;
    let mut receiver = rig.place();
    let (delivery, claim) = rig.next_chunk(&mut receiver).await;
    let delay = Duration::from_millis(1_500);
    let begun = Instant::now();
    rig.store.retry_chunk_if_held(&claim, delay, "the disk is full").await.unwrap();
    receiver.finished(delivery);
    let (_, again) = rig.next_chunk(&mut receiver).await;
    assert_eq!((again.job, again.attempts), (claim.job, 1));
    assert!(begun.elapsed() >= delay);
}

async fn the_next_chunk_of_an_ordered_job_is_delivered_when_its_turn_comes(rig: Rig) {
    let part = |number: u64| import::Chunk::at_line(format!("part-{number}"), number + 1);
    let parts = (0..4).map(part).collect();
    let job = submit_dry_run(&rig.world, &rig.store, JobId::generate(), parts, 0).await.id;
    let mut receiver = rig.place();
    for number in 0..4 {
        let (delivery, claim) = rig.next_chunk(&mut receiver).await;
        assert_eq!(claim.number, number);
        let finished = rig.store.finish_dry_run(&claim, &ImportPart::default()).await.unwrap();
        assert_eq!(finished, ClaimState::Held);
        receiver.finished(delivery);
    }
    assert_eq!(rig.status(job).await, JobStatus::Succeeded);
}

async fn the_chunks_of_a_file_with_users_are_delivered_side_by_side_if_it_repeats_no_code(rig: Rig) {
    let part = |number: u64| import::Chunk::at_line(format!("part-{number}"), number + 1);
    let columns = Columns { user_id: Some(1), ..Columns::default() };
    let parts = (0..4).map(part).collect();
    let import = NewImport { columns, parts, may_repeat_codes: false, ..import_to(&rig.world) };
    let world = &rig.world;
    let job = rig.store.submit_import(None, world.business, "test", import).await.unwrap().outcome.unwrap();
    let (mut receiver, mut claims) = (rig.place(), Vec::new());
    for number in 0..4 {
        let (delivery, claim) = rig.next_chunk(&mut receiver).await;
        assert_eq!(claim.number, number);
        receiver.finished(delivery);
        claims.push(claim);
    }
    for claim in claims.iter().rev() {
        let finished = rig.store.finish_imported(claim, &ImportPart::default(), 0, &no_lines).await.unwrap();
        assert_eq!(finished, ClaimState::Held);
    }
    assert_eq!(rig.status(job.id).await, JobStatus::Succeeded);
}

async fn what_was_given_back_is_delivered_to_another(rig: Rig) {
    let job = rig.submit(50).await;
    let mut first = rig.place();
    let delivery = rig.next(&mut first).await;
    first.give_back(delivery, Duration::ZERO).await;
    drop(first);
    let begun = Instant::now();
    assert_eq!(rig.next_chunk(&mut rig.place()).await.1.job, job);
    assert!(begun.elapsed() < LEASE, "it was not delivered again immediately");
}

async fn a_job_that_is_retried_is_delivered_again(rig: Rig) {
    let job = rig.submit(50).await;
    let mut receiver = rig.place();
    let (delivery, claim) = rig.next_chunk(&mut receiver).await;
    let sorry = JobError { code: "sorry".to_owned(), detail: "the chunk failed for the test".to_owned() };
    rig.store.fail_chunk_if_held(&claim, &sorry).await.unwrap();
    receiver.finished(delivery);
    assert_eq!(rig.status(job).await, JobStatus::Failed);
    rig.store.retry_job_if_failed(None, rig.world.business, job).await.unwrap().outcome.unwrap();
    let (_, again) = rig.next_chunk(&mut receiver).await;
    work_generation(&rig.store, &again).await;
    assert_eq!(rig.status(job).await, JobStatus::Succeeded);
}

async fn the_chunk_of_a_worker_that_died_is_delivered_when_its_lease_ends(mut rig: Rig) {
    rig.lease = SHORT_LEASE;
    let job = rig.submit(50).await;
    let mut receiver = rig.place();
    let dead = rig.next_chunk(&mut receiver).await;
    drop((dead, receiver));
    let (_, claim) = rig.next_chunk(&mut rig.place()).await;
    assert_eq!((claim.job, claim.epoch, claim.crashes), (job, 2, 1));
}

async fn waiting_ends_at_once_when_it_is_told_to(rig: Rig) {
    let mut receiver = rig.place();
    // With the database as the queue, a new slot always checks once.
    let stop = rig.stop.clone();
    let waiting = async {
        while let Some(delivery) = receiver.next(&stop).await {
            receiver.found_nothing(delivery);
        }
    };
    let told = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        stop.cancel();
        Instant::now()
    };
    let ((), told) = futures::join!(waiting, told);
    assert!(told.elapsed() < Duration::from_secs(1), "it waited for the poll to end");
}

macro_rules! kept_by_both {
    ($($promise:ident)*) => {
        mod on_postgres {
            $(#[tokio::test] async fn $promise() { super::$promise(super::Rig::on_postgres().await).await; })*
        }
        mod on_sqs {
            $(#[tokio::test] async fn $promise() { super::$promise(super::Rig::on_sqs().await).await; })*
        }
    };
}

kept_by_both! {
    a_submitted_job_wakes_who_waits
    what_was_submitted_before_anybody_listens_is_delivered
    every_chunk_finds_a_place_of_its_own
    a_chunk_to_be_tried_later_is_delivered_then
    the_next_chunk_of_an_ordered_job_is_delivered_when_its_turn_comes
    the_chunks_of_a_file_with_users_are_delivered_side_by_side_if_it_repeats_no_code
    what_was_given_back_is_delivered_to_another
    a_job_that_is_retried_is_delivered_again
    the_chunk_of_a_worker_that_died_is_delivered_when_its_lease_ends
    waiting_ends_at_once_when_it_is_told_to
}
