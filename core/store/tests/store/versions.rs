//! Rows of other versions: a program shows unknown kinds, does not change them, and sets aside claimed chunks that it cannot
//! read.

use cuponera_domain::id::JobId;
use cuponera_domain::job::{ChunkWork, JobKind, JobStatus, Task, Work};
use cuponera_domain::rejection::{Rejection, RejectionClass};
use cuponera_store::GenerateId;
use cuponera_store::{IdempotencyKey, JobFilter};
use cuponera_testkit::{World, claim, generate};
use serde_json::{Value, json};
use sqlx::{query, query_as};
use uuid::Uuid;

/// A job with one chunk, as a later version writes it.
async fn insert_later_job(world: &World) -> JobId {
    let id = JobId::generate();
    query(
        "with job as (
           insert into job (id, business_id, kind, created_by, work, chunks_total)
           values ($1, $2, 'ARCHIVE', 'service:test', '{\"kind\": \"ARCHIVE\", \"columns\": [\"code\"]}', 1) returning id)
         insert into job_chunk (job_id, number, work) select id, 0, '{\"chunk\": \"ARCHIVE\", \"from\": 7}' from job",
    )
    .bind(id.0)
    .bind(world.business.0)
    .execute(world.pool())
    .await
    .unwrap();
    id
}

async fn works_of(world: &World, id: JobId) -> (Value, Value, String) {
    query_as("select j.work, c.work, c.status from job j join job_chunk c on c.job_id = j.id where j.id = $1")
        .bind(id.0)
        .fetch_one(world.pool())
        .await
        .unwrap()
}

/// Invariant I-30.
#[tokio::test]
async fn a_job_of_a_later_kind_is_listed_shown_and_cancelled_and_never_claimed() {
    let world = World::new().await;
    let known = generate(world.store(), world.business, world.book, "K-{XXXXXXXX}", 3).await;
    let id = insert_later_job(&world).await;
    let before = works_of(&world, id).await;
    let open = JobFilter { status: Some(JobStatus::Queued), ..JobFilter::default() };
    for (filter, expected) in [(JobFilter::default(), vec![id, known.id]), (open, vec![id])] {
        let page = world.store().list_jobs(world.business, &filter, 10).await.unwrap();
        assert_eq!(page.items.iter().map(|job| job.id).collect::<Vec<_>>(), expected);
        assert_eq!(page.items[0].kind, "ARCHIVE");
    }
    let shown = world.store().get_job(world.business, id).await.unwrap();
    assert_eq!((shown.kind.as_str(), shown.status), ("ARCHIVE", JobStatus::Queued));
    assert!(claim(world.store(), "worker").await.is_none(), "only a later version knows its kind");
    assert_eq!(works_of(&world, id).await, before);
    let cancelled = world.store().cancel_job_if_open(None, world.business, id).await.unwrap();
    assert_eq!(cancelled.outcome.unwrap().status, JobStatus::Cancelled);
}

#[tokio::test]
async fn what_is_claimed_and_cannot_be_read_is_held_and_says_why() {
    for spoil in [
        "update job_chunk set work = '{\"chunk\": \"FROM_THE_FUTURE\"}'",
        "update job set work = '{\"kind\": \"GENERATE_CODES\"}'",
    ] {
        let world = World::new().await;
        let pattern = cuponera_domain::coupon::pattern::Pattern::parse("U-{XXXXXXXX}").unwrap();
        let submitted =
            world.store().submit_generation(None, world.business, "test", world.book, &pattern, 3).await;
        let job = submitted.unwrap().outcome.unwrap();
        query(spoil).execute(world.pool()).await.unwrap();
        let claim = claim(world.store(), "worker").await.unwrap();
        let Task::Unreadable { kind, reason } = &claim.task else { panic!("{:?}", claim.task) };
        assert_eq!(*kind, JobKind::GenerateCodes);
        assert!(!reason.is_empty());
        assert_eq!(
            works_of(&world, job.id).await.2,
            "RUNNING",
            "the chunk was not claimed, so it cannot be set aside"
        );
    }
}

/// Invariant I-30.
#[tokio::test]
async fn a_refusal_that_a_later_version_kept_is_answered_again() {
    let world = World::new().await;
    let key = IdempotencyKey { id: Uuid::now_v7(), fingerprint: Uuid::now_v7() };
    let kept = json!({"Err": {"code": "budget_exhausted", "class": "gone", "detail": "the budget is spent", "budget": 5}});
    query("insert into request_key (id, fingerprint, answer) values ($1, $2, $3)")
        .bind(key.id)
        .bind(key.fingerprint)
        .bind(&kept)
        .execute(world.pool())
        .await
        .unwrap();
    let answer = world.store().find_call_result::<Value>(&key).await.unwrap().unwrap();
    let Err(rejection @ Rejection::Unknown { .. }) = answer.outcome else { panic!("{:?}", answer.outcome) };
    assert_eq!((rejection.code(), rejection.class()), ("budget_exhausted", RejectionClass::Gone));
}

/// Rows as the previous version wrote them.
#[test]
fn works_of_the_version_before_are_read() {
    let recorded: Value = serde_json::from_str(include_str!("versions/recorded.json")).unwrap();
    let read = |name: &str| recorded[name].as_array().cloned().unwrap();
    let works: Vec<Work> =
        read("works").into_iter().map(|work| serde_json::from_value(work).unwrap()).collect();
    for kind in JobKind::ALL {
        assert!(works.iter().any(|work| work.kind() == kind), "no work of {kind:?} is recorded");
    }
    for chunk in read("chunks") {
        serde_json::from_value::<ChunkWork>(chunk).unwrap();
    }
    for rejection in read("refusals") {
        let read: Rejection = serde_json::from_value(rejection.clone()).unwrap();
        assert!(!matches!(read, Rejection::Unknown { .. }), "{rejection}");
        assert_eq!(rejection["code"], read.code());
    }
}
