//! What is left when a distribution ends early, and when its worker dies.

use std::time::Duration;

use cuponera_domain::job::{JobError, JobKind};
use cuponera_store::{CallResult, DistributionFilter};

use super::*;

async fn cancel(world: &World, id: JobId) -> CallResult<Job> {
    world.store().cancel_job_if_open(None, world.business, id).await.unwrap()
}

/// A distribution of 25,000 codes with one slice assigned, and the chunk of the next.
async fn half_done(world: &World) -> (Job, Claim) {
    world.insert_codes(26_000).await;
    let pool = pool_of(world, 5_000).await;
    let submitted =
        submit(world, new(world, pool, Mode::Equal, TOTAL(25_000), OnShortage::Fail)).await.unwrap();
    let first = up_to_assign(world).await;
    assert_eq!(work(world.store(), &first).await.unwrap(), Step::Finished);
    let second = next(world).await;
    assert!(is_assign(&second));
    (submitted, second)
}

/// Invariant I-54.
#[tokio::test]
async fn a_cancelled_distribution_keeps_what_it_gave_and_releases_the_rest() {
    let world = World::new().await;
    let (submitted, at_work) = half_done(&world).await;
    cancel(&world, submitted.id).await.outcome.unwrap();
    assert_eq!(work(world.store(), &at_work).await.unwrap(), Step::Lost, "it finishes nothing");
    assert_eq!(world.store().release_reserved_codes().await.unwrap(), 2);
    assert_eq!(world.counts().await.available, 16_000);
    world.run_batch(world.random("eva")).await.outcome.unwrap();
    assert_released(&world).await;
}

#[tokio::test]
async fn a_distribution_that_is_cancelled_before_its_codes_are_allocated_releases_them() {
    let world = World::new().await;
    world.insert_codes(60_000).await;
    let pool = pool_of(&world, 100).await;
    let submitted =
        submit(&world, new(&world, pool, Mode::Equal, TOTAL(60_000), OnShortage::Fail)).await.unwrap();
    for _ in 0..2 {
        let chunk = next(&world).await;
        assert_eq!(work(world.store(), &chunk).await.unwrap(), Step::Finished);
    }
    assert!(reserved(&world).await > 50_000);
    let at_work = next(&world).await;
    cancel(&world, submitted.id).await.outcome.unwrap();
    assert_eq!(work(world.store(), &at_work).await.unwrap(), Step::Lost);
    assert_eq!(world.store().release_reserved_codes().await.unwrap(), 5);
    assert_released(&world).await;
}

#[tokio::test]
async fn a_failed_distribution_releases_its_codes_and_a_retry_takes_others() {
    let world = World::new().await;
    let (submitted, at_work) = half_done(&world).await;
    let error = JobError { code: "internal_error".into(), detail: "a test".into() };
    world.store().fail_chunk_if_held(&at_work, &error).await.unwrap();
    work_all(&world).await;
    assert_eq!(job(&world, submitted.id).await.status, JobStatus::Failed);
    assert_eq!(world.store().release_reserved_codes().await.unwrap(), 1);
    assert_eq!(reserved(&world).await, 0);
    world.run_batch(world.random("eva")).await.outcome.unwrap();
    world.store().retry_job_if_failed(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
    work_all(&world).await;
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded), (JobStatus::Succeeded, 25_000));
    assert!(report(&world, done.id).await.iter().all(|row| row.given == 5));
    assert_released(&world).await;
}

#[tokio::test]
async fn a_distribution_whose_book_is_paused_stops_and_goes_on_after_a_retry() {
    let world = World::new().await;
    let (submitted, at_work) = half_done(&world).await;
    query("update coupon_book set status = 'PAUSED'").execute(world.pool()).await.unwrap();
    let rejected = work(world.store(), &at_work).await;
    assert!(matches!(rejected, Err(Error::Rejected(Rejection::BookNotActive))), "{rejected:?}");
    world.store().stop_job_if_held(&at_work, &Rejection::BookNotActive).await.unwrap();
    world.store().release_reserved_codes().await.unwrap();
    assert_released(&world).await;
    query("update coupon_book set status = 'ACTIVE'").execute(world.pool()).await.unwrap();
    world.store().retry_job_if_failed(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
    work_all(&world).await;
    assert_eq!(job(&world, submitted.id).await.succeeded, 25_000);
    assert_released(&world).await;
}

/// A worker that dies rolls back; one that was overtaken finishes nothing.
#[tokio::test]
async fn each_step_that_is_done_twice_has_its_effect_once() {
    let world = World::new().await;
    world.insert_codes(21_000).await;
    let pool = pool_of(&world, 3_000).await;
    let submitted =
        submit(&world, new(&world, pool, Mode::Random, TOTAL(20_500), OnShortage::Fail)).await.unwrap();
    let mut steps = 0;
    while let Some(first) = world.store().claim_chunk("first", Duration::ZERO, &JobKind::ALL).await.unwrap() {
        steps += 1;
        let second = next(&world).await;
        assert_eq!((second.number, second.epoch), (first.number, first.epoch + 1));
        let (overtaken, held) = futures::join!(work(world.store(), &first), work(world.store(), &second));
        // It may also find the rows of the other, and fail.
        assert!(!matches!(overtaken, Ok(Step::Finished | Step::Stopped)), "{overtaken:?}");
        assert_eq!(held.unwrap(), Step::Finished);
        world.assert_invariants().await;
    }
    assert!(steps >= 3 + 3);
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded), (JobStatus::Succeeded, 20_500));
    assert_released(&world).await;
}

#[tokio::test]
async fn lists_and_reports_belong_to_the_business() {
    let world = World::new().await;
    world.insert_codes(10).await;
    let pool = pool_of(&world, 2).await;
    let submitted =
        submit(&world, new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Fail)).await.unwrap();
    work_all(&world).await;
    let other = world.another_business().await;
    let store = world.store();
    let mine = store.list_distributions(world.business, DistributionFilter::default(), 10).await.unwrap();
    assert_eq!(mine.items.iter().map(|job| job.id).collect::<Vec<_>>(), [submitted.id]);
    assert!(
        store.list_distributions(other, DistributionFilter::default(), 10).await.unwrap().items.is_empty()
    );
    assert!(store.get_distribution(other, submitted.id).await.is_err());
    let found = store.get_distribution(world.business, submitted.id).await.unwrap();
    assert_eq!((found.id, found.status), (submitted.id, JobStatus::Succeeded));
    let new = new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Fail);
    let rejected = store.submit_distribution(None, other, "test", new).await.unwrap().outcome;
    assert!(matches!(rejected, Err(Rejection::NotFound { .. })));
}
