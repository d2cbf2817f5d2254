//! Import: every row is imported or rejected, the first line of a code wins, and the rejections agree with the table of codes.

mod assignments;
mod parts;
mod users;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::book::BookRules;
use cuponera_domain::csv::{Columns, Delimiter};
use cuponera_domain::id::{BookId, JobId};
use cuponera_domain::job::{Job, JobKind, JobStatus, Task, import};
use cuponera_store::GenerateId;
use cuponera_store::{
    Claim, ClaimState, ImportPart, ImportRow, NewImport, RejectedRow, RejectedRowCursor, RowRejection,
};
use cuponera_testkit::{World, claim, no_lines, race, read_as, rules};
use futures::FutureExt;
use sqlx::{query, query_as, query_scalar};

/// One part of a file: its rows by code, line and user.
type Part<'a> = &'a [(&'a str, u64, Option<&'a str>)];
/// The rejected rows of a chunk by line, with code and reason.
type Rejections = BTreeMap<u64, (String, String)>;

async fn submit_to(world: &World, book: BookId, parts: usize, columns: Columns, dry_run: bool) -> Job {
    submit_import(world, NewImport { columns, dry_run, ..import_of(book, parts) }).await
}

async fn submit_import(world: &World, import: NewImport) -> Job {
    world.store().submit_import(None, world.business, "test", import).await.unwrap().outcome.unwrap()
}

fn import_of(book: BookId, parts: usize) -> NewImport {
    let part = |number: usize| import::Chunk::at_line(format!("part-{number}"), number as u64 * 100 + 1);
    NewImport {
        id: JobId::generate(),
        book,
        columns: Columns::default(),
        delimiter: Delimiter::default(),
        read_as: read_as(),
        dry_run: false,
        may_repeat_codes: true,
        parts: (0..parts).map(part).collect(),
        rows: 10,
        last_place: parts as u64 * 100,
    }
}

async fn submit(world: &World, parts: usize) -> Job {
    submit_to(world, world.book, parts, Columns::default(), false).await
}

async fn submit_with_users(world: &World, parts: usize) -> Job {
    submit_to(world, world.book, parts, Columns { user_id: Some(1), ..Columns::default() }, false).await
}

/// A file with users that repeats no code.
async fn submit_without_repeats(world: &World, parts: usize) -> Job {
    let columns = Columns { user_id: Some(1), ..Columns::default() };
    let import = NewImport { columns, may_repeat_codes: false, ..import_of(world.book, parts) };
    submit_import(world, import).await
}

async fn next(world: &World) -> Claim {
    claim(world.store(), "worker").await.expect("there is a runnable chunk")
}

/// The part as a worker passes it: sorted by code.
fn parsed(part: Part<'_>) -> ImportPart {
    let row = |(code, line, user): &(&str, u64, Option<&str>)| ImportRow {
        code: (*code).to_owned(),
        line: *line,
        place: *line,
        user: user.map(str::to_owned),
        metadata: Some(format!(r#"{{"line": {line}}}"#)),
        limits: SharedLimits::default(),
        text: format!("{code},{line}"),
    };
    let mut rows: Vec<_> = part.iter().map(row).collect();
    rows.sort_by(|one, other| one.code.cmp(&other.code));
    ImportPart { rows, ..ImportPart::default() }
}

async fn run_batch(world: &World, claim: &Claim, part: &ImportPart) -> ClaimState {
    let Task::ImportCodes(spec, _) = &claim.task else { panic!("not an import") };
    let store = world.store();
    let settled = if spec.dry_run {
        store.finish_dry_run(claim, part).await
    } else {
        store.finish_imported(claim, part, spec.first_position, &no_lines).await
    };
    settled.unwrap()
}

/// Executes a chunk; returns the rejected rows.
async fn work(world: &World, claim: &Claim, part: Part<'_>) -> Rejections {
    assert_eq!(run_batch(world, claim, &parsed(part)).await, ClaimState::Held);
    rejected_by(world, claim).await
}

async fn rejected_by(world: &World, claim: &Claim) -> Rejections {
    let rows = "select line, code, reason from import_rejection where job_id = $1 and chunk = $2";
    let rows: Vec<(i64, String, String)> =
        query_as(rows).bind(claim.job.0).bind(claim.number).fetch_all(world.pool()).await.unwrap();
    rows.into_iter().map(|(line, code, reason)| (u64::try_from(line).unwrap(), (code, reason))).collect()
}

fn rejected<const N: usize>(lines: [(u64, &str, RowRejection); N]) -> Rejections {
    let text =
        |(line, code, why): (u64, &str, RowRejection)| (line, (code.to_owned(), why.reason().to_owned()));
    lines.into_iter().map(text).collect()
}

/// The line of a code, from its metadata.
async fn line_of(world: &World, code: &str) -> u64 {
    world.coupon(code).await.metadata.unwrap()["line"].as_u64().unwrap()
}

async fn position_of(world: &World, code: &str) -> i32 {
    let position = "select position from coupon where code = $1";
    query_scalar(position).bind(code).fetch_one(world.pool()).await.unwrap()
}

async fn job(world: &World, id: JobId) -> Job {
    world.store().get_job(world.business, id).await.unwrap()
}

#[tokio::test]
async fn rows_are_taken_at_the_positions_of_their_lines() {
    let world = World::new().await;
    world.insert_codes(7).await;
    let submitted = submit(&world, 1).await;
    let told =
        work(&world, &next(&world).await, &[("ZED", 1, None), ("ABC", 2, None), ("MID", 5, None)]).await;
    assert_eq!(told, rejected([]));
    assert_eq!((position_of(&world, "ZED").await, position_of(&world, "MID").await), (7 + 1, 7 + 5));
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 3, 0));
    assert_eq!(done.result["uploadedCount"], 3);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_code_the_business_has_is_rejected_and_left_alone() {
    let world = World::new().await;
    let standing = world.insert_codes(3).await;
    world.give(&standing[0], "ana").await;
    let other = world.another_book(&rules()).await;
    let submitted = submit_to(&world, other, 1, Columns::default(), false).await;
    let part = [("NEW", 1, None), (standing[0].as_str(), 2, None), (standing[2].as_str(), 3, None)];
    let told = work(&world, &next(&world).await, &part).await;
    let exists = RowRejection::AlreadyExists;
    assert_eq!(told, rejected([(2, &standing[0], exists), (3, &standing[2], exists)]));
    assert_eq!(world.coupon(&standing[0]).await.book, world.book);
    let done = job(&world, submitted.id).await;
    assert_eq!((done.succeeded, done.failed), (1, 2));
    world.assert_invariants().await;
}

/// Invariant I-25.
#[tokio::test]
async fn rejections_of_the_parser_and_of_the_database_are_listed_together_and_counted() {
    let world = World::new().await;
    let standing = world.insert_codes(1).await;
    let submitted = submit(&world, 1).await;
    let claim = next(&world).await;
    let mut part = parsed(&[("NEW", 1, None), (&standing[0], 2, None)]);
    let bad = |line, reason: &'static str| RejectedRow {
        line,
        code: "n o".to_owned(),
        reason: reason.into(),
        detail: "a sentence".into(),
        row: "n o,\"x\ny\"".to_owned(),
    };
    part.rejections = vec![bad(3, "bad_character"), bad(5, "duplicate_in_file")];
    assert_eq!(run_batch(&world, &claim, &part).await, ClaimState::Held);
    let page = world.store().list_rejected_rows(submitted.id, RejectedRowCursor::default()).await.unwrap();
    let exists = RowRejection::AlreadyExists;
    let found = RejectedRow {
        line: 2,
        code: standing[0].clone(),
        reason: exists.reason().into(),
        detail: exists.detail().into(),
        row: format!("{},2", standing[0]),
    };
    assert_eq!(page.rejections, [found, bad(3, "bad_character"), bad(5, "duplicate_in_file")]);
    assert_eq!(world.store().list_rejected_rows(submitted.id, page.next).await.unwrap().rejections, []);
    let done = job(&world, submitted.id).await;
    assert_eq!((done.succeeded, done.failed), (1, 3));
    let counts =
        ["uploadedCount", "duplicatesCount", "invalidRowsCount"].map(|name| done.result[name].clone());
    assert_eq!(counts, [1, 2, 1]);
    world.assert_invariants().await;
}

/// Rows of the maximum length, and more short rows than a page has.
#[tokio::test]
async fn pages_of_rejections_are_bounded_in_bytes_and_list_each_row_once() {
    let world = World::new().await;
    let submitted = submit(&world, 2).await;
    for bytes in [60_000, 10] {
        let rejection = |line| RejectedRow {
            line,
            code: "no".to_owned(),
            reason: "too_short".into(),
            detail: String::new().into(),
            row: "x".repeat(bytes),
        };
        let count = if bytes == 10 { 12_000 } else { 60 };
        let part = ImportPart { rejections: (1..=count).map(rejection).collect(), ..ImportPart::default() };
        assert_eq!(run_batch(&world, &next(&world).await, &part).await, ClaimState::Held);
    }
    let (mut after, mut lines) = (RejectedRowCursor::default(), Vec::new());
    loop {
        let page = world.store().list_rejected_rows(submitted.id, after).await.unwrap();
        if page.rejections.is_empty() {
            break;
        }
        let bytes: usize = page.rejections.iter().map(|rejection| rejection.row.len()).sum();
        assert!(bytes < 1_200_000, "a page of {bytes} bytes");
        lines.extend(page.rejections.iter().map(|rejection| rejection.line));
        after = page.next;
    }
    assert!(lines.into_iter().eq((1..=60).chain(1..=12_000)));
    world.assert_invariants().await;
}

/// The later part committed first: its line is displaced.
/// Invariant I-24.
#[tokio::test]
async fn the_first_line_of_a_code_wins_whichever_part_is_worked_first() {
    for later_first in [false, true] {
        let world = World::new().await;
        let submitted = submit(&world, 2).await;
        let (first, second) = (next(&world).await, next(&world).await);
        let (early, late) = ([("DUP", 5, None), ("ONE", 6, None)], [("DUP", 105, None), ("TWO", 106, None)]);
        let told = if later_first {
            assert_eq!(work(&world, &second, &late).await, rejected([]));
            assert_eq!(line_of(&world, "DUP").await, 105);
            work(&world, &first, &early).await
        } else {
            assert_eq!(work(&world, &first, &early).await, rejected([]));
            work(&world, &second, &late).await
        };
        assert_eq!(told, rejected([(105, "DUP", RowRejection::DuplicateInFile)]));
        assert_eq!((line_of(&world, "DUP").await, position_of(&world, "DUP").await), (5, 5));
        let done = job(&world, submitted.id).await;
        assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 3, 1));
        world.assert_invariants().await;
    }
}

/// Of a file with blank lines, the places of rows are not lines, and the line of a row of another part is read from its file.
#[tokio::test]
async fn a_displaced_row_of_a_file_with_blank_lines_is_rejected_with_its_line() {
    let world = World::new().await;
    let part = |record, line| import::Chunk {
        file: format!("part-{record}"),
        begin: import::Begin::Record { record, line },
    };
    let import =
        NewImport { parts: vec![part(0, 1), part(2, 700)], last_place: 4, ..import_of(world.book, 0) };
    let submitted = submit_import(&world, import).await;
    let (first, second) = (next(&world).await, next(&world).await);
    let Task::ImportCodes(spec, _) = &first.task else { panic!("not an import") };
    let at_places = |part: Part<'_>, places: &[u64]| {
        let mut parsed = parsed(part);
        for row in &mut parsed.rows {
            let index = part.iter().position(|(code, ..)| *code == row.code).unwrap();
            row.place = places[index];
        }
        parsed
    };
    let late = at_places(&[("TWO", 700, None), ("DUP", 900, None)], &[2, 3]);
    let early = at_places(&[("ONE", 1, None), ("DUP", 500, None)], &[0, 1]);
    let pool = world.pool();
    let find_lines = |places: Vec<u64>| {
        async move {
            assert_eq!(places, [3]);
            // No row is locked while a file is read.
            let free = "select code from coupon order by code for update nowait";
            assert_eq!(query_scalar::<_, String>(free).fetch_all(pool).await.unwrap(), ["DUP", "TWO"]);
            Ok(HashMap::from([(3, 900)]))
        }
        .boxed()
    };
    let finish = async |claim: &Claim, part: &ImportPart| {
        let done = world.store().finish_imported(claim, part, spec.first_position, &find_lines).await;
        assert_eq!(done.unwrap(), ClaimState::Held);
    };
    finish(&second, &late).await;
    finish(&first, &early).await;
    assert_eq!(rejected_by(&world, &first).await, rejected([(900, "DUP", RowRejection::DuplicateInFile)]));
    let positions = [
        position_of(&world, "ONE").await,
        position_of(&world, "DUP").await,
        position_of(&world, "TWO").await,
    ];
    assert_eq!(positions.map(|position| position - spec.first_position), [0, 1, 2]);
    let next: i32 = query_scalar("select next_position from coupon_book where id = $1")
        .bind(world.book.0)
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(next, spec.first_position + 5);
    assert_eq!(job(&world, submitted.id).await.status, JobStatus::Succeeded);
    world.assert_invariants().await;
}

/// Concurrent parts of one file with the same codes: in any order, the lines of the first part win.
#[tokio::test]
async fn parts_racing_with_the_same_codes_end_as_if_read_in_order() {
    for _ in 0..6 {
        let world = World::new().await;
        let submitted = submit(&world, 4).await;
        let codes: Vec<String> = (0..60).map(|number| format!("CODE-{number:02}")).collect();
        let parts: Vec<Vec<_>> = (0..4)
            .map(|part| {
                (1..).zip(&codes).map(|(line, code)| (code.as_str(), part * 100 + line, None)).collect()
            })
            .collect();
        let mut claims = Vec::new();
        for _ in 0..4 {
            claims.push(next(&world).await);
        }
        // The race decides whether the last or the first part gets its connection first.
        let told = race(4, claims.iter().rev(), async |claim| {
            let part = usize::try_from(claim.number).unwrap();
            work(&world, claim, &parts[part]).await
        })
        .await;
        assert_eq!(told.iter().map(Rejections::len).sum::<usize>(), 180);
        for (line, code) in (1..).zip(&codes) {
            assert_eq!(line_of(&world, code).await, line, "{code}");
        }
        let done = job(&world, submitted.id).await;
        assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 60, 180));
        world.assert_invariants().await;
    }
}

/// Its events refer to its position, so it is not moved, and the earlier line is rejected instead.
#[tokio::test]
async fn a_code_given_out_meanwhile_keeps_its_place_and_its_history() {
    let world = World::new().await;
    let submitted = submit(&world, 2).await;
    let (first, second) = (next(&world).await, next(&world).await);
    work(&world, &second, &[("DUP", 105, None)]).await;
    world.give("DUP", "ana").await;
    let found = work(&world, &first, &[("DUP", 5, None), ("ONE", 6, None)]).await;
    assert_eq!(found, rejected([(5, "DUP", RowRejection::DuplicateInFile)]));
    assert_eq!((line_of(&world, "DUP").await, position_of(&world, "DUP").await), (105, 105));
    assert_eq!(world.actions("DUP").await, ["ASSIGN"]);
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 2, 1));
    world.assert_invariants().await;
}

#[tokio::test]
async fn users_get_their_codes_up_to_their_limit_in_the_order_of_the_lines() {
    let world = World::with(BookRules { max_codes_per_user: Some(2), ..rules() }).await;
    let planted = world.insert_codes(1).await;
    world.give(&planted[0], "eva").await;
    let submitted = submit_with_users(&world, 2).await;
    let first =
        [("A-4", 1, Some("ana")), ("A-3", 2, Some("ana")), ("A-1", 3, Some("ana")), ("B-1", 4, Some("eva"))];
    let told = work(&world, &next(&world).await, &first).await;
    let limit = RowRejection::UserLimitReached;
    assert_eq!(told, rejected([(3, "A-1", limit)]));
    let second =
        [("A-0", 101, Some("ana")), ("B-0", 102, Some("eva")), ("C-0", 103, Some("leo")), ("D-0", 104, None)];
    let told = work(&world, &next(&world).await, &second).await;
    assert_eq!(told, rejected([(101, "A-0", limit), (102, "B-0", limit)]));
    assert_eq!(world.coupon("A-4").await.holder.as_deref(), Some("ana"));
    assert_eq!(world.coupon("A-1").await.holder, None, "the code exists and is free");
    assert_eq!(world.actions("C-0").await, ["ASSIGN"]);
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 5, 3));
    world.assert_invariants().await;
}

/// While the file is imported, its users request codes.
#[tokio::test]
async fn an_import_and_its_users_race_for_the_same_limits() {
    let world = World::with(BookRules { max_codes_per_user: Some(2), ..rules() }).await;
    world.insert_codes(100).await;
    submit_with_users(&world, 1).await;
    let users: Vec<String> = (0..40).map(|user| format!("user-{user}")).collect();
    let codes: Vec<String> = (0..80).map(|number| format!("ROW-{number:02}")).collect();
    let part: Vec<_> = (1..)
        .zip(codes.iter().zip(users.iter().cycle()))
        .map(|(line, (code, user))| (code.as_str(), line, Some(user.as_str())))
        .collect();
    let claim = next(&world).await;
    let asking = race(12, users.iter().chain(&users), async |user| world.run_batch(world.random(user)).await);
    let (told, _) = futures::join!(work(&world, &claim, &part), asking);
    let held: i64 =
        query_scalar("select sum(held)::bigint from user_quota").fetch_one(world.pool()).await.unwrap();
    assert_eq!(held, 80, "every user has exactly the limit");
    assert!(told.values().all(|(_, why)| why == RowRejection::UserLimitReached.reason()));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_dry_run_counts_and_writes_nothing() {
    let world = World::new().await;
    let standing = world.insert_codes(1).await;
    let submitted = submit_to(&world, world.book, 2, Columns::default(), true).await;
    let first = [("ONE", 1, None), (standing[0].as_str(), 2, None)];
    let told = work(&world, &next(&world).await, &first).await;
    assert_eq!(told, rejected([(2, &standing[0], RowRejection::AlreadyExists)]));
    let second = [("ONE", 101, None), ("TWO", 102, None)];
    let told = work(&world, &next(&world).await, &second).await;
    assert_eq!(told, rejected([(101, "ONE", RowRejection::DuplicateInFile)]));
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 2, 2));
    assert!(world.store().get_coupon(world.business, "ONE").await.is_err());
    world.store().forget_dry_runs().await.unwrap();
    let noted: i64 = query_scalar("select count(*) from dry_run_code").fetch_one(world.pool()).await.unwrap();
    assert_eq!((noted, world.counts().await.all()), (0, 1));
    world.assert_invariants().await;
}

#[tokio::test]
async fn housekeeping_forgets_what_a_cancelled_dry_run_has_seen() {
    let world = World::new().await;
    let submitted = submit_to(&world, world.book, 2, Columns::default(), true).await;
    work(&world, &next(&world).await, &[("ONE", 1, None)]).await;
    let late = next(&world).await;
    world.store().cancel_job_if_open(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
    assert_eq!(run_batch(&world, &late, &parsed(&[("TWO", 101, None)])).await, ClaimState::Lost);
    world.store().forget_dry_runs().await.unwrap();
    let noted: i64 = query_scalar("select count(*) from dry_run_code").fetch_one(world.pool()).await.unwrap();
    assert_eq!(noted, 0);
    world.assert_invariants().await;
}

#[tokio::test]
async fn redoing_a_part_after_its_worker_died_takes_the_same_rows() {
    let world = World::new().await;
    let submitted = submit(&world, 1).await;
    let part = [("ONE", 1, None), ("TWO", 2, None)];
    let dead = world.store().claim_chunk("dead", Duration::ZERO, &JobKind::ALL).await.unwrap().unwrap();
    let alive = next(&world).await;
    assert_eq!(run_batch(&world, &dead, &parsed(&part)).await, ClaimState::Lost);
    assert!(
        world.store().get_coupon(world.business, "ONE").await.is_err(),
        "the stale attempt had an effect"
    );
    assert_eq!(work(&world, &alive, &part).await, rejected([]));
    // The first worker resumes: its rows exist already.
    assert_eq!(run_batch(&world, &dead, &parsed(&part)).await, ClaimState::Lost);
    assert_eq!(
        rejected_by(&world, &dead).await,
        rejected([]),
        "a chunk whose claim was lost has rejected rows"
    );
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 2, 0));
    world.assert_invariants().await;
}

/// The rows of an import are free when they are assigned, while the statistics contain only assigned codes.
#[tokio::test]
async fn a_part_with_users_takes_no_longer_once_the_statistics_know_no_free_code() {
    const ROWS: usize = 10_000;
    let world = World::with(rules()).await;
    query("alter table coupon set (autovacuum_enabled = off)").execute(world.pool()).await.unwrap();
    submit_with_users(&world, 2).await;
    let mut times = Vec::new();
    for part in 0..2 {
        let codes: Vec<String> = (0..ROWS).map(|row| format!("P{part}-{row:06}")).collect();
        let users: Vec<String> = (0..ROWS).map(|row| format!("user-{part}-{row}")).collect();
        let lines = (0..).map(|row| part * 100_000 + row + 1);
        let rows = codes.iter().zip(lines).zip(&users);
        let rows: Vec<_> =
            rows.map(|((code, line), user)| (code.as_str(), line, Some(user.as_str()))).collect();
        let claim = next(&world).await;
        let begun = Instant::now();
        assert_eq!(work(&world, &claim, &rows).await, rejected([]));
        times.push(begun.elapsed());
        query("analyze coupon").execute(world.pool()).await.unwrap();
    }
    assert!(times[1] < 5 * times[0] + Duration::from_millis(500), "{times:?}");
}
