//! Faults of the queue delay jobs, but do not change their results.

use std::time::Duration;

use cuponera_domain::job::JobStatus;
use cuponera_testkit::{Adversary, FaultConfig, is_soak};
use futures::future::join_all;

use crate::fleet::{Fleet, count};

/// The load of one run.
struct Load {
    codes: u64,
    rejection: Duration,
}

/// Runs four generation jobs and an ordered job with two workers. All use the queue through an adversary with this
/// seed.
async fn survives(seed: u64, load: &Load) {
    let fleet = Fleet::new().await;
    let adversary =
        Adversary::before(fleet.queue.endpoint(), seed, FaultConfig::bad(seed, load.rejection)).await;
    let api = fleet.queue.connect_through(&adversary.endpoint()).await;
    fleet.relay(&api);
    for name in ["one", "two"] {
        let sqs = fleet.queue.connect_through(&adversary.endpoint()).await;
        fleet.worker(name, &sqs).await;
    }
    let store = fleet.store(&api);
    let ordered = fleet.dry_run(&store, 6, 50).await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(fleet.generate(&store, load.codes / 4).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    for job in &jobs {
        let job = fleet.succeeded(job.id).await;
        assert_eq!(i64::try_from(load.codes / 4), Ok(job.succeeded), "seed {seed}");
    }
    let ordered = fleet.succeeded(ordered.id).await;
    assert_eq!(ordered.result["uploadedCount"], 300, "seed {seed}");
    assert_eq!(i64::try_from(load.codes), Ok(count(&fleet.world, "select count(*) from coupon").await));
    assert_eq!(
        count(&fleet.world, "select coalesce(sum(attempts + crashes), 0)::bigint from job_chunk").await,
        0
    );
    assert!(jobs.iter().all(|job| job.status == JobStatus::Queued), "a submission waited for the queue");
    fleet.world.assert_invariants().await;
}

/// Twenty seeds and long outages with `CUPONERA_SOAK=1`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_end_exactly_right_whatever_the_queue_does() {
    if is_soak() {
        let load = Load { codes: 400_000, rejection: Duration::from_secs(30) };
        for seeds in (1..=20).collect::<Vec<_>>().chunks(2) {
            join_all(seeds.iter().map(|seed| survives(*seed, &load))).await;
        }
    } else {
        let load = Load { codes: 20_000, rejection: Duration::from_secs(3) };
        join_all((1..=3).map(|seed| survives(seed, &load))).await;
    }
}
