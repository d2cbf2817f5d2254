//! Readings of jobs: the later reading counts, and a reading expires within a second.

use std::time::{Duration, Instant};

use cuponera_domain::id::{BusinessId, JobId};
use cuponera_domain::job::{Job, JobKind, JobStatus};
use cuponera_platform::cache::{Cache, READING_TTL};
use cuponera_testkit::{Redis, eventually};
use uuid::Uuid;

use super::{connect, connect_in_haste};

fn job(status: JobStatus, attempts: i32, succeeded: i64) -> Job {
    let now = chrono::Utc::now();
    Job {
        id: JobId(Uuid::nil()),
        business: BusinessId(Uuid::nil()),
        kind: JobKind::GenerateCodes.as_str().to_owned(),
        status,
        total: Some(100),
        succeeded,
        failed: 1,
        result: serde_json::json!({"generatedCount": succeeded}),
        error: None,
        warnings: Vec::new(),
        attempts,
        created_at: now,
        started_at: Some(now),
        finished_at: None,
        heartbeat_at: None,
        read_at: now,
    }
}

async fn keep(cache: &Cache, job: &Job) {
    cache.keep_jobs(std::slice::from_ref(job), Instant::now()).await;
}

async fn find(cache: &Cache) -> Option<Job> {
    cache.find_jobs(&[(BusinessId(Uuid::nil()), JobId(Uuid::nil()))]).await.remove(0)
}

/// Invariant I-29.
#[tokio::test]
async fn an_earlier_reading_never_replaces_a_later_one() {
    let redis = Redis::start().await;
    let (one, two) = (connect(&redis).await, connect(&redis).await);
    let life = [
        job(JobStatus::Queued, 0, 0),
        job(JobStatus::Running, 1, 9),
        job(JobStatus::Running, 1, 10),
        job(JobStatus::Failed, 1, 10),
        job(JobStatus::Queued, 1, 10),
        job(JobStatus::Running, 2, 10),
        job(JobStatus::Succeeded, 2, 99),
    ];
    for (number, reading) in life.iter().enumerate() {
        keep(&one, reading).await;
        for earlier in &life[..number] {
            keep(&two, earlier).await;
        }
        assert_eq!(find(&two).await.as_ref(), Some(reading), "the reading differs");
    }
}

#[tokio::test]
async fn a_reading_is_believed_for_less_than_a_second_and_the_stage_it_had_for_longer() {
    let redis = Redis::start().await;
    let cache = connect(&redis).await;
    let is_believed = async || {
        keep(&cache, &job(JobStatus::Running, 1, 10)).await;
        find(&cache).await.is_some().then_some(())
    };
    eventually("the reading to be valid", is_believed).await;
    let begun = Instant::now();
    eventually("the reading to expire", async || {
        let asked = begun.elapsed();
        let found = find(&cache).await.is_some();
        assert!(!found || asked < Duration::from_secs(1), "the reading was valid after {asked:?}");
        (!found).then_some(())
    })
    .await;
    keep(&cache, &job(JobStatus::Running, 1, 9)).await;
    assert_eq!(find(&cache).await, None, "an earlier reading was stored");
    eventually("a reading to be valid again", is_believed).await;
}

#[tokio::test]
async fn a_reading_that_was_long_on_its_way_is_not_kept() {
    let redis = Redis::start().await;
    let cache = connect(&redis).await;
    let begun = Instant::now().checked_sub(READING_TTL * 2).expect("the machine has run for seconds");
    cache.keep_jobs(&[job(JobStatus::Running, 1, 10)], begun).await;
    assert_eq!(find(&cache).await, None);
    // A late reading of a job that can no longer change is stored.
    cache.keep_jobs(&[job(JobStatus::Succeeded, 1, 10)], begun).await;
    assert!(find(&cache).await.is_some());
}

#[tokio::test]
async fn a_reading_that_a_frozen_redis_takes_in_late_is_not_believed() {
    let redis = Redis::start().await;
    let (one, two) = (connect_in_haste(&redis).await, connect(&redis).await);
    redis.freeze();
    // The command is sent and stays in the buffers of the server.
    keep(&one, &job(JobStatus::Running, 1, 10)).await;
    tokio::time::sleep(READING_TTL).await;
    redis.thaw();
    let seen = eventually("Redis to be back", async || {
        let found = find(&two).await;
        (two.take("probe", Duration::from_millis(1), 9).await.is_some()).then_some(found)
    });
    assert_eq!(seen.await, None);
    assert_eq!(find(&two).await, None);
}

#[tokio::test]
async fn a_job_is_found_only_under_its_business() {
    let redis = Redis::start().await;
    let cache = connect(&redis).await;
    keep(&cache, &job(JobStatus::Succeeded, 1, 10)).await;
    let another = BusinessId(Uuid::now_v7());
    assert_eq!(cache.find_jobs(&[(another, JobId(Uuid::nil()))]).await, [None]);
}
