//! Files that assign existing codes: each row assigns its code or is rejected with a reason, whatever else happens to the codes and to the
//! workers.

use std::time::Duration;

use cuponera_domain::book::BookRules;
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::csv::Columns;
use cuponera_domain::job::assign_codes::Chunk;
use cuponera_domain::job::{Job, JobKind, JobStatus, Task};
use cuponera_domain::rejection::Rejection;
use cuponera_store::{Claim, ClaimState, Error, NewImport, Result, Void};
use cuponera_testkit::{World, claim, race, rules};
use sqlx::{query, query_scalar};

use super::{Part, import_of, job, next, parsed, rejected_by};

fn file(world: &World, parts: usize) -> NewImport {
    let columns = Columns { user_id: Some(1), ..Columns::default() };
    NewImport { columns, may_repeat_codes: false, ..import_of(world.book, parts) }
}

async fn submit(world: &World, file: NewImport) -> Job {
    let submitted = world.store().submit_assignments(None, world.business, "service:test", file).await;
    submitted.unwrap().outcome.unwrap()
}

/// Does what a worker does with a chunk, whose part has these rows.
async fn try_work(world: &World, claim: &Claim, part: Part<'_>) -> Result<ClaimState> {
    let Task::AssignCodes(spec, chunk) = &claim.task else { panic!("no assignments: {:?}", claim.task) };
    match chunk {
        Chunk::Part { .. } => world.store().finish_assigned_part(claim, spec, &parsed(part)).await,
        Chunk::Held { rows } => world.store().finish_assigned_held(claim, spec, rows).await,
    }
}

/// The same; returns the rejected rows.
async fn work(world: &World, claim: &Claim, part: Part<'_>) -> Vec<(u64, String, String)> {
    assert_eq!(try_work(world, claim, part).await.unwrap(), ClaimState::Held);
    rejected_by(world, claim).await.into_iter().map(|(line, (code, why))| (line, code, why)).collect()
}

/// The numbers of a result: assigned, already assigned, rejected, duplicates, invalid.
fn numbers(job: &Job) -> [i64; 5] {
    ["assignedCount", "alreadyAssignedCount", "rejectedCount", "duplicatesCount", "invalidRowsCount"]
        .map(|name| job.result[name].as_i64().unwrap())
}

fn reject(line: u64, code: &str, why: &str) -> (u64, String, String) {
    (line, code.to_owned(), why.to_owned())
}

async fn holder(world: &World, code: &str) -> Option<String> {
    world.coupon(code).await.holder
}

/// A world with codes in all states, and a file that names each of them.
async fn mixed() -> (World, Vec<(String, u64, Option<&'static str>)>) {
    let world =
        World::with(BookRules { max_codes_per_user: Some(2), code_valid_days: Some(30), ..rules() }).await;
    let codes = world.insert_codes(10).await;
    let other = world.another_book(&rules()).await;
    let foreign = world.insert_codes_into(other, "OTHER", 1).await.remove(0);
    world.give(&codes[1], "ana").await;
    world.give(&codes[2], "ana").await;
    let void = Void { code: codes[3].clone(), user: None, only: None, reason: "leaked".to_owned() };
    world.run_batch(world.call(void)).await.outcome.unwrap();
    query("update coupon set reserved_by = gen_random_uuid() where code = $1")
        .bind(&codes[4])
        .execute(world.pool())
        .await
        .unwrap();
    let named =
        [&codes[0], &codes[1], &codes[2], &codes[3], &codes[4], &foreign, &"NONE".to_owned(), &codes[5]]
            .map(String::clone);
    let users = ["eva", "ana", "eva", "eva", "eva", "eva", "eva", "ana"];
    let mut rows: Vec<_> =
        named.into_iter().zip(1..).zip(users).map(|((code, line), user)| (code, line, Some(user))).collect();
    // Of the last lines of eva the first one is within her limit.
    rows.extend(codes[6..9].iter().cloned().zip(9..).map(|(code, line)| (code, line, Some("eva"))));
    (world, rows)
}

fn as_part<'a>(rows: &'a [(String, u64, Option<&'a str>)]) -> Vec<(&'a str, u64, Option<&'a str>)> {
    rows.iter().map(|(code, line, user)| (code.as_str(), *line, *user)).collect()
}

/// What the file of [`mixed`] has as rejections.
fn expected(rows: &[(String, u64, Option<&str>)]) -> Vec<(u64, String, String)> {
    let of = |row: usize, why| reject(rows[row].1, &rows[row].0, why);
    vec![
        of(2, "already_assigned"),
        of(3, "coupon_void"),
        of(4, "coupon_reserved"),
        of(5, "other_book"),
        of(6, "not_found"),
        of(7, "user_limit_reached"),
        of(9, "user_limit_reached"),
        of(10, "user_limit_reached"),
    ]
}

#[tokio::test]
async fn each_row_assigns_its_code_or_has_a_reason() {
    let (world, rows) = mixed().await;
    let submitted = submit(&world, file(&world, 1)).await;
    assert_eq!((submitted.kind.as_str(), submitted.total), ("ASSIGN_CODES", Some(10)));
    let chunk = next(&world).await;
    assert_eq!(work(&world, &chunk, &as_part(&rows)).await, expected(&rows));
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 3, 8));
    assert_eq!(numbers(&done), [2, 1, 8, 0, 0]);
    for row in [0, 8] {
        let coupon = world.coupon(&rows[row].0).await;
        assert_eq!((coupon.status, coupon.holder.as_deref()), (CouponStatus::Assigned, Some("eva")));
        assert_eq!(coupon.expires_at, coupon.assigned_at.map(|at| at + chrono::TimeDelta::days(30)));
    }
    let events: i64 = query_scalar(
        "select count(*) from coupon_event where action = 'ASSIGN' and actor = 'job:' || $1::text",
    )
    .bind(done.id.0)
    .fetch_one(world.pool())
    .await
    .unwrap();
    assert_eq!(events, 2);
    query("update coupon set reserved_by = null").execute(world.pool()).await.unwrap();
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_dry_run_counts_the_same_and_changes_nothing() {
    let (world, rows) = mixed().await;
    let before = world.counts().await;
    // The first lines are in another part.
    let submitted = submit(&world, NewImport { dry_run: true, ..file(&world, 2) }).await;
    let rows = as_part(&rows);
    let (first, second) = rows.split_at(4);
    let first = work(&world, &next(&world).await, first).await;
    let second = work(&world, &next(&world).await, second).await;
    let owned: Vec<_> = rows.iter().map(|(code, line, user)| ((*code).to_owned(), *line, *user)).collect();
    assert_eq!([first, second].concat(), expected(&owned));
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, numbers(&done)), (JobStatus::Succeeded, [2, 1, 8, 0, 0]));
    assert_eq!(world.counts().await, before);
    let noted: i64 = query_scalar("select count(*) from dry_run_code").fetch_one(world.pool()).await.unwrap();
    assert_eq!(noted, 0, "the noted codes are deleted with the end of the job");
}

/// Invariant I-57.
#[tokio::test]
async fn of_several_lines_with_one_code_the_first_counts_even_if_it_is_rejected() {
    let world = World::with(BookRules { max_codes_per_user: Some(1), ..rules() }).await;
    let codes = world.insert_codes(4).await;
    let submitted = submit(&world, NewImport { may_repeat_codes: true, ..file(&world, 2) }).await;
    let first = next(&world).await;
    assert!(claim(world.store(), "worker").await.is_none(), "the parts are done one after the other");
    let rows: Part<'_> = &[(&codes[0], 1, Some("ana")), (&codes[1], 2, Some("ana"))];
    assert_eq!(work(&world, &first, rows).await, [reject(2, &codes[1], "user_limit_reached")]);
    let rows: Part<'_> = &[
        (&codes[0], 101, Some("ana")),
        (&codes[1], 102, Some("eva")),
        (&codes[2], 103, Some("eva")),
        (&codes[3], 104, Some("leo")),
    ];
    let expected = [reject(101, &codes[0], "duplicate_in_file"), reject(102, &codes[1], "duplicate_in_file")];
    assert_eq!(work(&world, &next(&world).await, rows).await, expected);
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, numbers(&done)), (JobStatus::Succeeded, [3, 0, 1, 2, 0]));
    assert_eq!(holder(&world, &codes[1]).await, None);
    world.assert_invariants().await;
}

/// A worker that dies rolls back; one that was overtaken finishes nothing. Invariant I-57.
#[tokio::test]
async fn a_chunk_that_is_done_twice_assigns_once() {
    let world = World::new().await;
    let codes = world.insert_codes(2_000).await;
    let rows: Vec<_> = codes.iter().zip(1..).map(|(code, line)| (code.as_str(), line, Some("ana"))).collect();
    let submitted = submit(&world, NewImport { may_repeat_codes: true, ..file(&world, 2) }).await;
    let parts = [&rows[..1_000], &rows[1_000..]];
    while let Some(first) = world.store().claim_chunk("first", Duration::ZERO, &JobKind::ALL).await.unwrap() {
        let second = next(&world).await;
        let part = match &first.task {
            Task::AssignCodes(_, Chunk::Part { file, .. }) if file == "part-0" => parts[0],
            _ => parts[1],
        };
        let (overtaken, mut done) =
            futures::join!(try_work(&world, &first, part), try_work(&world, &second, part));
        assert!(!matches!(overtaken, Ok(ClaimState::Held)), "{overtaken:?}");
        while done.is_err() {
            done = try_work(&world, &second, part).await;
        }
        assert_eq!(done.unwrap(), ClaimState::Held);
    }
    let done = job(&world, submitted.id).await;
    assert_eq!(
        (done.status, done.succeeded, numbers(&done)),
        (JobStatus::Succeeded, 2_000, [2_000, 0, 0, 0, 0])
    );
    world.assert_invariants().await;
}

/// A code that another transaction holds is left to a later chunk; the others are assigned without it.
#[tokio::test]
async fn a_held_code_is_assigned_later_and_delays_no_other() {
    let world = World::new().await;
    let codes = world.insert_codes(20).await;
    let rows: Vec<_> = codes.iter().zip(1..).map(|(code, line)| (code.as_str(), line, Some("ana"))).collect();
    let mut other = world.pool().begin().await.unwrap();
    query("select from coupon where code = any($1) for update")
        .bind(&codes[..2])
        .execute(&mut *other)
        .await
        .unwrap();
    let submitted = submit(&world, file(&world, 1)).await;
    assert_eq!(work(&world, &next(&world).await, &rows).await, []);
    assert_eq!(world.counts().await.assigned, 18);
    let waiting = next(&world).await;
    let held = try_work(&world, &waiting, &[]).await;
    assert!(matches!(held, Err(Error::Unavailable(_))), "it is tried again later: {held:?}");
    other.rollback().await.unwrap();
    world.give(&codes[0], "eva").await;
    assert_eq!(work(&world, &waiting, &[]).await, [reject(1, &codes[0], "already_assigned")]);
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, numbers(&done)), (JobStatus::Succeeded, [19, 0, 1, 0, 0]));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_book_that_is_not_active_stops_the_job_and_a_retry_continues() {
    let world = World::new().await;
    let code = world.insert_codes(1).await.remove(0);
    let submitted = submit(&world, file(&world, 1)).await;
    let pause = async |status: &str| {
        query("update coupon_book set status = $1").bind(status).execute(world.pool()).await.unwrap();
    };
    pause("PAUSED").await;
    let rows: Part<'_> = &[(&code, 1, Some("ana"))];
    let chunk = next(&world).await;
    let stopped = try_work(&world, &chunk, rows).await;
    assert!(matches!(stopped, Err(Error::Rejected(Rejection::BookNotActive))), "{stopped:?}");
    world.store().stop_job_if_held(&chunk, &Rejection::BookNotActive).await.unwrap();
    let refused =
        world.store().submit_assignments(None, world.business, "test", file(&world, 1)).await.unwrap();
    assert_eq!(refused.outcome.unwrap_err(), Rejection::BookNotActive);
    pause("ACTIVE").await;
    world.store().retry_job_if_failed(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
    assert_eq!(work(&world, &next(&world).await, rows).await, []);
    assert_eq!(holder(&world, &code).await.as_deref(), Some("ana"));
    world.assert_invariants().await;
}

/// 50 clients assign the same codes by name while two workers do: each code has one holder, and no user has more than the limit.
/// Invariant I-57.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_that_clients_assign_meanwhile_have_one_holder() {
    let world = World::with(BookRules { max_codes_per_user: Some(8), ..rules() }).await;
    let codes = world.insert_codes(3_000).await;
    let users: Vec<String> = (0..300).map(|n| format!("user-{n}")).collect();
    let row = |n: usize| (codes[n].as_str(), n as u64 + 1, Some(users[n % 300].as_str()));
    let rows: Vec<_> = (0..3_000).map(row).collect();
    let submitted = submit(&world, file(&world, 6)).await;
    let workers = race(2, 0..2, async |_| {
        while let Some(claim) = claim(world.store(), "worker").await {
            let part = match &claim.task {
                Task::AssignCodes(_, Chunk::Part { file, .. }) => {
                    let number: usize = file["part-".len()..].parse().unwrap();
                    &rows[number * 500..][..500]
                }
                _ => &[],
            };
            while let Err(error) = try_work(&world, &claim, part).await {
                assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
            }
        }
    });
    let assign =
        async |n: usize| world.run_batch(world.named(&codes[n], &users[(n + 1) % 300])).await.outcome.is_ok();
    // Fast workers could end before the first client has assigned a code.
    let early = 100;
    let mut given = race(50, (0..3_000).rev().step_by(2).take(early), assign).await;
    let clients = race(50, (0..3_000).rev().step_by(2).skip(early), assign);
    let (_, later) = futures::join!(workers, clients);
    given.extend(later);
    let by_clients = i64::try_from(given.iter().filter(|given| **given).count()).unwrap();
    let done = job(&world, submitted.id).await;
    let [assigned, already, rejected, duplicates, invalid] = numbers(&done);
    assert_eq!((done.status, duplicates, invalid), (JobStatus::Succeeded, 0, 0));
    assert_eq!(assigned + already + rejected, 3_000);
    assert!(by_clients > 0 && assigned > 0 && rejected > 0, "{by_clients} {:?}", done.result);
    assert_eq!(world.counts().await.assigned, assigned + by_clients);
    let most: i64 = query_scalar("select max(codes) from (select count(*) as codes from coupon group by holder having holder is not null) s")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert!(most <= 8, "a user holds {most} codes");
    world.assert_invariants().await;
}
