//! Files that name users: the first line of a code is imported, no limit is exceeded, and parts of a file without repeated
//! codes are imported concurrently.

use cuponera_domain::book::BookRules;
use cuponera_domain::job::JobStatus;
use cuponera_store::{Claim, ClaimState, RowRejection};
use cuponera_testkit::{World, claim, race, rules};
use sqlx::{query, query_as, query_scalar};

use super::{
    Part, job, line_of, next, parsed, rejected, run_batch, submit_with_users, submit_without_repeats, work,
};

const FIRST: Part<'static> = &[("DUP", 5, Some("ana")), ("ONE", 6, Some("ana"))];
const SECOND: Part<'static> = &[("DUP", 105, Some("eva")), ("TWO", 106, Some("eva"))];

fn limited_to(codes: i32) -> BookRules {
    BookRules { max_codes_per_user: Some(codes), ..rules() }
}

/// The number of codes that all users hold, and the maximum of one user.
async fn held(world: &World) -> (i64, i32) {
    query_as("select coalesce(sum(held), 0)::bigint, coalesce(max(held), 0) from user_quota")
        .fetch_one(world.pool())
        .await
        .unwrap()
}

/// Invariant I-26.
#[tokio::test]
async fn a_file_that_may_repeat_codes_is_worked_in_order_and_its_first_lines_are_imported() {
    let world = World::new().await;
    let submitted = submit_with_users(&world, 2).await;
    let first = next(&world).await;
    assert!(claim(world.store(), "worker").await.is_none(), "the first chunk is not finished");
    assert_eq!(work(&world, &first, FIRST).await, rejected([]));
    let found = work(&world, &next(&world).await, SECOND).await;
    assert_eq!(found, rejected([(105, "DUP", RowRejection::DuplicateInFile)]));
    assert_eq!(line_of(&world, "DUP").await, 5);
    assert_eq!(world.coupon("DUP").await.holder.as_deref(), Some("ana"));
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 3, 1));
    world.assert_invariants().await;
}

/// As in an upgrade: a worker of the previous version records its codes, and other workers of that version begin the next chunk.
#[tokio::test]
async fn a_chunk_after_one_that_noted_its_codes_waits_for_it_all_the_same() {
    let world = World::new().await;
    submit_with_users(&world, 2).await;
    let first = next(&world).await;
    query("update job_chunk set has_noted_codes = true where number = 0")
        .execute(world.pool())
        .await
        .unwrap();
    assert!(claim(world.store(), "worker").await.is_none(), "this version does not need recorded codes");
    work(&world, &first, FIRST).await;
    assert_eq!(work(&world, &next(&world).await, SECOND).await.len(), 1);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_code_that_stands_takes_nothing_of_the_limit_of_the_user_it_was_meant_for() {
    let world = World::with(limited_to(1)).await;
    let standing = world.insert_codes(1).await;
    submit_without_repeats(&world, 1).await;
    let part = [(standing[0].as_str(), 1, Some("ana")), ("NEW", 2, Some("ana")), ("MORE", 3, Some("ana"))];
    let found = work(&world, &next(&world).await, &part).await;
    let (exists, limit) = (RowRejection::AlreadyExists, RowRejection::UserLimitReached);
    assert_eq!(found, rejected([(1, &standing[0], exists), (3, "MORE", limit)]));
    assert_eq!(world.coupon("NEW").await.holder.as_deref(), Some("ana"));
    assert_eq!(world.actions("NEW").await, ["ASSIGN"]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_worker_that_was_overtaken_gives_no_code_to_a_user() {
    let world = World::with(limited_to(2)).await;
    submit_without_repeats(&world, 1).await;
    let lost = next(&world).await;
    query("update job_chunk set lease_until = now()").execute(world.pool()).await.unwrap();
    let again = next(&world).await;
    assert_eq!(run_batch(&world, &lost, &parsed(FIRST)).await, ClaimState::Lost);
    assert_eq!(held(&world).await, (0, 0));
    assert_eq!(work(&world, &again, FIRST).await, rejected([]));
    assert_eq!(run_batch(&world, &lost, &parsed(FIRST)).await, ClaimState::Lost);
    assert_eq!(held(&world).await, (2, 2));
    world.assert_invariants().await;
}

/// Six parts of 40 rows, which name the same users. The users request codes meanwhile.
/// Invariant I-27.
#[tokio::test]
async fn parts_that_race_exceed_no_limit() {
    const PARTS: u64 = 6;
    for _ in 0..4 {
        let world = World::with(limited_to(3)).await;
        world.insert_codes(60).await;
        let submitted = submit_without_repeats(&world, 6).await;
        let users: Vec<String> = (0..20).map(|user| format!("user-{user}")).collect();
        let codes: Vec<Vec<String>> =
            (0..PARTS).map(|part| (0..40).map(|row| format!("C-{part}-{row}")).collect()).collect();
        let parts: Vec<Vec<(&str, u64, Option<&str>)>> = (0..PARTS)
            .zip(&codes)
            .map(|(part, codes)| {
                let lines = (0..).map(|row| part * 100 + 1 + row);
                let rows = codes.iter().zip(lines).zip(users.iter().cycle());
                rows.map(|((code, line), user)| (code.as_str(), line, Some(user.as_str()))).collect()
            })
            .collect();
        let mut claims = Vec::new();
        for _ in 0..PARTS {
            claims.push(next(&world).await);
        }
        let imports = race(6, claims.iter(), async |claim: &Claim| {
            let part = usize::try_from(claim.number).unwrap();
            assert_eq!(run_batch(&world, claim, &parsed(&parts[part])).await, ClaimState::Held);
        });
        let asks =
            race(4, users.iter().chain(&users), async |user| world.run_batch(world.random(user)).await);
        tokio::join!(imports, asks);
        let done = job(&world, submitted.id).await;
        assert_eq!((done.status, &done.result["uploadedCount"]), (JobStatus::Succeeded, &240.into()));
        assert_eq!(held(&world).await, (60, 3), "each user has exactly the limit");
        world.assert_invariants().await;
    }
}

/// The same codes for the same users in two files. One part updates the users' quotas before it writes the codes. The other has
/// found an existing code and does the opposite, so each may wait for the other.
#[tokio::test]
async fn two_files_with_the_same_codes_and_users_race_and_each_code_is_imported_once() {
    for _ in 0..4 {
        let world = World::with(limited_to(2)).await;
        let standing = world.insert_codes(1).await;
        let codes: Vec<String> = (0..90).map(|row| format!("SAME-{row:03}")).collect();
        let users: Vec<String> = (0..45).map(|user| format!("user-{user}")).collect();
        let mut rows: Vec<(&str, u64, Option<&str>)> = (1..)
            .zip(codes.iter().zip(users.iter().rev().cycle()))
            .map(|(line, (code, user))| (code.as_str(), line, Some(user.as_str())))
            .collect();
        let straight = rows.clone();
        rows.push((&standing[0], 95, None));
        let mut claims = Vec::new();
        for _ in 0..4 {
            submit_without_repeats(&world, 1).await;
            claims.push(next(&world).await);
        }
        race(4, claims.iter().zip([&rows, &straight].into_iter().cycle()), async |(claim, part)| {
            assert_eq!(run_batch(&world, claim, &parsed(part)).await, ClaimState::Held);
        })
        .await;
        let imported: i64 =
            query_scalar("select count(*) from coupon where code like 'SAME-%' and holder is not null")
                .fetch_one(world.pool())
                .await
                .unwrap();
        assert_eq!((imported, held(&world).await), (90, (90, 2)));
        world.assert_invariants().await;
    }
}
