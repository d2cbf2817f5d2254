//! Chunks that plan: they add chunks to their job in the commit that finishes them, once.

use std::time::Duration;

use cuponera_domain::job::{CODES_PER_CHUNK, ChunkWork, JobKind, JobStatus, Task, generate};
use cuponera_store::{Claim, ClaimState, Finished, Notifier};
use cuponera_testkit::{World, claim, race};
use serde_json::json;
use sqlx::{query, query_scalar};

use super::{job, submit};
use crate::setup::next;

fn generating(claim: &Claim, codes: u64) -> ChunkWork {
    let Task::GenerateCodes(_, chunk) = &claim.task else { panic!("not a generation") };
    ChunkWork::GenerateCodes(generate::Chunk { indexes: 0..codes, ..chunk.clone() })
}

/// Two workers have claimed the planner: the first froze, and resumes after the second has finished it. Messages are delivered
/// repeatedly.
#[tokio::test]
async fn a_chunk_that_plans_adds_its_chunks_once_in_the_commit_that_settles_it() {
    for has_outbox in [false, true] {
        let world = World::new().await;
        let store = if has_outbox {
            world.store().clone().with_outbox(&Notifier::default())
        } else {
            world.store().clone()
        };
        let submitted = submit(&world, 50).await;
        query("update job set total = null").execute(world.pool()).await.unwrap();
        let frozen = store.claim_chunk("frozen", Duration::ZERO, &JobKind::ALL).await.unwrap().unwrap();
        let planner = claim(&store, "worker").await.unwrap();
        let plan = Finished {
            result: json!({}),
            next: vec![generating(&planner, 10), generating(&planner, 20), generating(&planner, 30)],
            total: Some(60),
            ..Finished::default()
        };
        assert_eq!(store.finish_planned(&frozen, &plan).await.unwrap(), ClaimState::Lost);
        assert!(claim(&store, "worker").await.is_none(), "a chunk whose claim was lost has added chunks");
        assert_eq!(job(&world, submitted.id).await.total, None);
        assert_eq!(store.finish_planned(&planner, &plan).await.unwrap(), ClaimState::Held);
        for again in [&frozen, &planner] {
            assert_eq!(store.finish_planned(again, &plan).await.unwrap(), ClaimState::Lost);
        }
        let running = job(&world, submitted.id).await;
        assert_eq!((running.status, running.total), (JobStatus::Running, Some(60)));
        let announced: i64 =
            query_scalar("select count(*) from outbox").fetch_one(world.pool()).await.unwrap();
        assert_eq!(announced, if has_outbox { 3 } else { 0 });
        let claims = race(6, 0..6, async |_| claim(&store, "worker").await).await;
        let mut claims: Vec<Claim> = claims.into_iter().flatten().collect();
        claims.sort_by_key(|claim| claim.number);
        assert_eq!(claims.iter().map(|claim| claim.number).collect::<Vec<_>>(), [1, 2, 3]);
        let nothing = Finished { result: json!({}), ..Finished::default() };
        // Neither plans more chunks, and both finish at once.
        race(3, &claims, async |claim| {
            assert_eq!(store.finish_planned(claim, &nothing).await.unwrap(), ClaimState::Held);
        })
        .await;
        assert_eq!(job(&world, submitted.id).await.status, JobStatus::Succeeded);
    }
}

#[tokio::test]
async fn chunks_that_plan_side_by_side_number_what_they_add_without_gaps() {
    let world = World::new().await;
    let submitted = submit(&world, 4 * CODES_PER_CHUNK).await;
    let mut planners = Vec::new();
    for _ in 0..4 {
        planners.push(next(&world).await);
    }
    race(4, &planners, async |planner| {
        let next = vec![generating(planner, 10); 3];
        let plan = Finished { result: json!({}), next, ..Finished::default() };
        assert_eq!(world.store().finish_planned(planner, &plan).await.unwrap(), ClaimState::Held);
    })
    .await;
    let numbers: Vec<i32> = query_scalar("select number from job_chunk where job_id = $1 order by number")
        .bind(submitted.id.0)
        .fetch_all(world.pool())
        .await
        .unwrap();
    assert_eq!(numbers, (0..16).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cancelled_job_is_not_planned_further() {
    let world = World::new().await;
    let submitted = submit(&world, 50).await;
    let planner = next(&world).await;
    world.store().cancel_job_if_open(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
    let plan = Finished { result: json!({}), next: vec![generating(&planner, 10)], ..Finished::default() };
    assert_eq!(world.store().finish_planned(&planner, &plan).await.unwrap(), ClaimState::Lost);
    let chunks: i64 = query_scalar("select count(*) from job_chunk").fetch_one(world.pool()).await.unwrap();
    assert_eq!(chunks, 1);
}
