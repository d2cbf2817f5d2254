//! Parts of a file that names users, worked side by side: the first line of a code is imported, and no limit is exceeded.

use std::time::Duration;

use cuponera_core::book::BookRules;
use cuponera_core::error::{Error, Refusal};
use cuponera_core::job::{Job, JobStatus, Work};
use cuponera_core::store::{Claim, Pulse, Rejected};
use cuponera_testkit::{World, claim, eventually, race, rules};
use sqlx::{query, query_as, query_scalar};

use super::{Part, job, line_of, next, parsed, rejected, rejected_by, settle, submit_with_users, work};

const FIRST: Part<'static> = &[("DUP", 5, Some("ana")), ("ONE", 6, Some("ana"))];
const SECOND: Part<'static> = &[("DUP", 105, Some("eva")), ("TWO", 106, Some("eva"))];

/// Tries the first chunk while its book is closed: it has noted its codes then, and has imported none.
async fn only_note(world: &World, claim: &Claim, part: Part<'_>) {
    let close = |status| query("update coupon_book set status = $1").bind(status).execute(world.pool());
    close("CLOSED").await.unwrap();
    let Work::ImportCodes { first_position, .. } = &claim.work else { panic!("not an import") };
    let tried = world.store().settle_imported(claim, &parsed(part), *first_position).await;
    assert!(matches!(tried, Err(Error::Refused(Refusal::BookClosed))), "{tried:?}");
    close("ACTIVE").await.unwrap();
}

async fn assert_first_line_imported(world: &World, submitted: &Job) {
    assert_eq!(line_of(world, "DUP").await, 5);
    assert_eq!(world.coupon("DUP").await.holder.as_deref(), Some("ana"));
    let done = job(world, submitted.id).await;
    assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 3, 1));
    world.assert_invariants().await;
}

/// Invariant I-26.
#[tokio::test]
async fn a_chunk_begins_once_those_before_it_have_noted_their_codes() {
    let world = World::new().await;
    let submitted = submit_with_users(&world, 2).await;
    let first = next(&world).await;
    assert!(claim(world.store(), "worker").await.is_none(), "the first chunk has not noted its codes");
    only_note(&world, &first, FIRST).await;
    let second = next(&world).await;
    assert_eq!(second.number, 1);
    let found = work(&world, &second, SECOND).await;
    assert_eq!(found, rejected([(105, "DUP", Rejected::DuplicateInFile)]));
    assert_eq!(work(&world, &first, FIRST).await, rejected([]));
    assert_first_line_imported(&world, &submitted).await;
}

/// Its worker has died after it noted the codes, and another redoes it after the second chunk.
#[tokio::test]
async fn a_chunk_that_is_redone_does_not_take_its_own_codes_for_those_of_earlier_lines() {
    let world = World::new().await;
    let submitted = submit_with_users(&world, 2).await;
    let first = next(&world).await;
    only_note(&world, &first, FIRST).await;
    work(&world, &next(&world).await, SECOND).await;
    world.store().release_chunk_if_held(&first, Duration::ZERO).await.unwrap();
    assert_eq!(work(&world, &next(&world).await, FIRST).await, rejected([]));
    assert_eq!(settle(&world, &first, &parsed(FIRST)).await, Pulse::Lost);
    assert_first_line_imported(&world, &submitted).await;
}

/// As in an upgrade: versions that note no codes settle each chunk before the next begins.
#[tokio::test]
async fn codes_of_a_chunk_that_noted_none_stand_for_the_chunks_after_it() {
    let world = World::new().await;
    let submitted = submit_with_users(&world, 2).await;
    work(&world, &next(&world).await, FIRST).await;
    query("delete from dry_run_code").execute(world.pool()).await.unwrap();
    query("update job_chunk set has_noted_codes = false").execute(world.pool()).await.unwrap();
    let found = work(&world, &next(&world).await, SECOND).await;
    assert_eq!(found, rejected([(105, "DUP", Rejected::DuplicateInFile)]));
    assert_first_line_imported(&world, &submitted).await;
}

/// Six parts of 40 rows: each part repeats ten codes of the first, and all name the same users, who ask for codes themselves.
/// Invariant I-27.
#[tokio::test]
async fn parts_that_race_import_first_lines_only_and_exceed_no_limit() {
    const PARTS: u64 = 6;
    for round in 0..4 {
        let world = World::with(BookRules { max_codes_per_user: Some(3), ..rules() }).await;
        world.plant_codes(60).await;
        let submitted = submit_with_users(&world, 6).await;
        let users: Vec<String> = (0..20).map(|user| format!("user-{user}")).collect();
        let codes: Vec<Vec<String>> = (0..PARTS)
            .map(|part| (0..40).map(|row| format!("C-{}-{row}", if row < 10 { 0 } else { part })).collect())
            .collect();
        let parts: Vec<Vec<(&str, u64, Option<&str>)>> = (0..PARTS)
            .zip(&codes)
            .map(|(part, codes)| {
                let lines = (0..).map(|row| part * 100 + 1 + row);
                let users = users.iter().cycle().map(|user| Some(user.as_str()));
                codes
                    .iter()
                    .map(String::as_str)
                    .zip(lines)
                    .zip(users)
                    .map(|((code, line), user)| (code, line, user))
                    .collect()
            })
            .collect();
        let imports = race(4, 0..4, async |_| {
            while !job(&world, submitted.id).await.status.is_over() {
                if let Some(claim) = claim(world.store(), "worker").await {
                    let part = usize::try_from(claim.number).unwrap();
                    assert_eq!(settle(&world, &claim, &parsed(&parts[part])).await, Pulse::Held);
                } else {
                    tokio::task::yield_now().await;
                }
            }
        });
        let asks = race(4, users.iter().chain(&users), async |user| world.settle(world.random(user)).await);
        tokio::join!(imports, asks);
        for row in 0..10 {
            assert_eq!(line_of(&world, &format!("C-0-{row}")).await, row + 1, "round {round}");
        }
        let done = job(&world, submitted.id).await;
        assert_eq!(done.result["uploadedCount"], 40 + 5 * 30);
        assert_eq!(done.result["duplicatesCount"], 50);
        let held: (i64, i32) = query_as("select sum(held)::bigint, max(held) from user_quota")
            .fetch_one(world.pool())
            .await
            .unwrap();
        assert_eq!(held, (60, 3), "each user has exactly the limit");
        world.assert_invariants().await;
    }
}

#[tokio::test]
async fn housekeeping_deletes_the_noted_codes_of_an_import_that_is_over() {
    let world = World::new().await;
    submit_with_users(&world, 1).await;
    let claim = next(&world).await;
    only_note(&world, &claim, FIRST).await;
    world.store().forget_dry_runs().await.unwrap();
    let noted = async || -> i64 {
        query_scalar("select count(*) from dry_run_code").fetch_one(world.pool()).await.unwrap()
    };
    assert_eq!(noted().await, 2, "the job is not over");
    work(&world, &claim, FIRST).await;
    world.store().forget_dry_runs().await.unwrap();
    assert_eq!(noted().await, 0);
}

/// The second part waits for the codes of the first, which a worker that is overtaken notes.
#[tokio::test]
async fn a_worker_that_was_overtaken_lets_no_chunk_begin() {
    let world = World::new().await;
    submit_with_users(&world, 2).await;
    let first = next(&world).await;
    world.store().release_chunk_if_held(&first, Duration::ZERO).await.unwrap();
    let again = next(&world).await;
    assert_eq!(settle(&world, &first, &parsed(&[("OTHER", 5, Some("ana"))])).await, Pulse::Lost);
    assert!(claim(world.store(), "worker").await.is_none());
    work(&world, &again, FIRST).await;
    let second = eventually("the second chunk", async || claim(world.store(), "worker").await).await;
    work(&world, &second, SECOND).await;
    assert_eq!(rejected_by(&world, &second).await.len(), 1);
    world.assert_invariants().await;
}
