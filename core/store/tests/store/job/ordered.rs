//! Jobs whose chunks run in order.

use std::time::Duration;

use cuponera_domain::job::{Job, JobStatus, import};
use cuponera_store::{Claim, ClaimState, ImportPart, NewImport};
use cuponera_testkit::{World, claim, race};
use sqlx::query;

use super::{job, sorry};
use crate::setup::{import_of, next};

/// A dry run with this number of parts: its chunks run in order.
async fn submit_ordered(world: &World, parts: u64) -> Job {
    let part = |number| import::Chunk::at_line(format!("part-{number}"), number + 1);
    let parts_of_file = (0..parts).map(part).collect();
    let import = NewImport {
        dry_run: true,
        may_repeat_codes: true,
        last_place: parts,
        ..import_of(world, parts_of_file)
    };
    world.store().submit_import(None, world.business, "test", import).await.unwrap().outcome.unwrap()
}

async fn settle_empty(world: &World, claim: &Claim) {
    let settled = world.store().finish_dry_run(claim, &ImportPart::default()).await.unwrap();
    assert_eq!(settled, ClaimState::Held);
}

#[tokio::test]
async fn an_ordered_job_works_one_chunk_at_a_time() {
    let world = World::new().await;
    let submitted = submit_ordered(&world, 3).await;
    for number in 0..3 {
        let claims = race(6, 0..6, async |_| claim(world.store(), "worker").await).await;
        let claims: Vec<_> = claims.into_iter().flatten().collect();
        assert_eq!(claims.iter().map(|claim| claim.number).collect::<Vec<_>>(), [number]);
        // A chunk that waits for its retry also delays the chunks after it.
        world.store().retry_chunk_if_held(&claims[0], Duration::from_hours(1), "later").await.unwrap();
        assert!(claim(world.store(), "worker").await.is_none());
        query("update job_chunk set run_at = now()").execute(world.pool()).await.unwrap();
        settle_empty(&world, &next(&world).await).await;
    }
    assert_eq!(job(&world, submitted.id).await.status, JobStatus::Succeeded);
    world.assert_invariants().await;
}

#[tokio::test]
async fn an_ordered_job_stops_at_a_chunk_that_failed_and_a_retry_goes_on_from_there() {
    let world = World::new().await;
    let submitted = submit_ordered(&world, 3).await;
    settle_empty(&world, &next(&world).await).await;
    world.store().fail_chunk_if_held(&next(&world).await, &sorry()).await.unwrap();
    assert_eq!(job(&world, submitted.id).await.status, JobStatus::Failed);
    assert!(
        claim(world.store(), "worker").await.is_none(),
        "a later chunk of an ordered job was claimed first"
    );
    world.assert_invariants().await;
    world.store().retry_job_if_failed(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
    for number in 1..3 {
        let chunk = next(&world).await;
        assert_eq!(chunk.number, number);
        settle_empty(&world, &chunk).await;
    }
    assert_eq!(job(&world, submitted.id).await.status, JobStatus::Succeeded);
    world.assert_invariants().await;
}
