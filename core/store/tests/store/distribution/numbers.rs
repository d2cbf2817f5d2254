//! How many codes each member gets.

use super::*;
use cuponera_store::DistributionFilter;

fn spread(given: &[ReportRow]) -> (i64, i64) {
    let counts = || given.iter().map(|row| row.given);
    (counts().min().unwrap(), counts().max().unwrap())
}

#[tokio::test]
async fn equal_numbers_differ_by_one_at_most_and_each_code_has_one_holder() {
    let world = World::new().await;
    world.insert_codes(60_000).await;
    let pool = pool_of(&world, 20_000).await;
    let submitted =
        submit(&world, new(&world, pool, Mode::Equal, TOTAL(50_010), OnShortage::Fail)).await.unwrap();
    assert_eq!((submitted.status, submitted.total), (JobStatus::Queued, None));
    work_all(&world).await;
    let done = job(&world, submitted.id).await;
    assert_eq!(
        (done.status, done.succeeded, done.failed, done.total),
        (JobStatus::Succeeded, 50_010, 0, Some(50_010))
    );
    let numbers = ["members", "given", "short", "seed", "totalCodes"].map(|name| done.result[name].as_i64());
    assert_eq!(numbers, [Some(20_000), Some(50_010), Some(0), Some(42), Some(50_010)]);
    let rows = report(&world, done.id).await;
    assert_eq!((rows.len(), spread(&rows)), (20_000, (2, 3)));
    let held = held(&world, world.book).await;
    for row in &rows {
        assert_eq!(held[&row.user_id], row.given);
        assert_eq!(i64::try_from(row.codes.split(' ').count()).unwrap(), row.given);
        assert_eq!(row.note, None);
    }
    let code = rows[17].codes.split(' ').next().unwrap();
    assert_eq!(world.coupon(code).await.holder.as_deref(), Some(rows[17].user_id.as_str()));
    let actor: String =
        query_scalar("select distinct actor from coupon_event").fetch_one(world.pool()).await.unwrap();
    assert_eq!(actor, format!("job:{}", done.id));
    assert_released(&world).await;
}

#[tokio::test]
async fn distributed_codes_expire_like_other_assigned_codes() {
    let world = World::with(BookRules { code_valid_days: Some(30), ..rules() }).await;
    world.insert_codes(5).await;
    let pool = pool_of(&world, 5).await;
    submit(&world, new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Fail)).await.unwrap();
    work_all(&world).await;
    let wrong = "select count(*) from coupon where expires_at is distinct from assigned_at + 30 * interval '24 hours'";
    let wrong: i64 = query_scalar(wrong).fetch_one(world.pool()).await.unwrap();
    assert_eq!((world.counts().await.given_out(), wrong), (5, 0));
    world.assert_invariants().await;
}

#[tokio::test]
async fn each_member_gets_codes_in_addition_to_those_it_has_within_its_limit() {
    let world = World::with(limited_to(3)).await;
    let codes = world.insert_codes(40).await;
    for (code, user) in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2)] {
        world.give(&codes[code], &ids([user])[0]).await;
    }
    let pool = pool_of(&world, 5).await;
    let submitted =
        submit(&world, new(&world, pool, Mode::Equal, PER_USER(2), OnShortage::Fail)).await.unwrap();
    work_all(&world).await;
    let rows = report(&world, submitted.id).await;
    let given: Vec<_> = rows.iter().map(|row| (row.given, row.note.as_deref())).collect();
    let limited = Some("limit_reached");
    assert_eq!(given, [(1, limited), (2, None), (0, limited), (2, None), (2, None)]);
    assert_eq!(job(&world, submitted.id).await.result["given"], 7);
    assert_released(&world).await;
}

#[tokio::test]
async fn the_same_seed_gives_the_same_numbers_in_another_book() {
    let world = World::new().await;
    let other = world.another_book(&rules()).await;
    world.insert_codes(3_000).await;
    world.insert_codes_into(other, "OTHER", 4_000).await;
    let pool = pool_of(&world, 300).await;
    let mut numbers = Vec::new();
    for (mode, book, seed) in [
        (Mode::Random, world.book, 7),
        (Mode::Random, other, 7),
        (Mode::Random, other, 8),
        (Mode::Equal, world.book, 7),
        (Mode::Equal, other, 7),
    ] {
        let rules = Rules { mode, amount: TOTAL(1_001), seed, on_shortage: OnShortage::Fail };
        let distribution = NewDistribution { pool, book, rules, dry_run: false };
        let preview = world.store().preview_distribution(world.business, distribution).await.unwrap();
        let submitted = submit(&world, distribution).await.unwrap();
        work_all(&world).await;
        let given: Vec<i64> = report(&world, submitted.id).await.iter().map(|row| row.given).collect();
        assert_eq!(given.iter().sum::<i64>(), 1_001);
        let sample: Vec<i64> = preview.sample.iter().map(|member| i64::from(member.given)).collect();
        assert_eq!(sample, given[..20], "a preview shows what is given");
        assert_eq!(
            (preview.members, preview.eligible, preview.codes_needed, preview.short),
            (300, 300, 1_001, 0)
        );
        numbers.push(given);
    }
    assert_eq!(numbers[0], numbers[1]);
    assert_ne!(numbers[1], numbers[2]);
    assert_eq!(numbers[3], numbers[4]);
    assert_released(&world).await;
}

#[tokio::test]
async fn a_member_may_have_codes_of_several_slices() {
    let world = World::new().await;
    world.insert_codes(25_000).await;
    let pool = pool_of(&world, 2).await;
    let submitted =
        submit(&world, new(&world, pool, Mode::Equal, TOTAL(25_000), OnShortage::Fail)).await.unwrap();
    work_all(&world).await;
    let rows = report(&world, submitted.id).await;
    assert_eq!(spread(&rows), (12_500, 12_500));
    assert_eq!(rows[1].codes.split(' ').count(), 12_500);
    assert_released(&world).await;
}

#[tokio::test]
async fn a_shortage_that_the_counts_show_is_refused_at_once() {
    let world = World::new().await;
    world.insert_codes(10).await;
    let pool = pool_of(&world, 4).await;
    for amount in [TOTAL(11), PER_USER(3)] {
        let rejected = submit(&world, new(&world, pool, Mode::Equal, amount, OnShortage::Fail)).await;
        let needed = if amount == TOTAL(11) { 11 } else { 12 };
        assert_eq!(rejected.unwrap_err(), Rejection::NotEnoughCodes { needed, available: 10 });
    }
    let partial =
        submit(&world, new(&world, pool, Mode::Equal, PER_USER(3), OnShortage::Partial)).await.unwrap();
    work_all(&world).await;
    let done = job(&world, partial.id).await;
    assert_eq!((done.status, done.succeeded), (JobStatus::Succeeded, 10));
    assert_eq!(["given", "short"].map(|name| done.result[name].as_i64()), [Some(10), Some(2)]);
    let rows = report(&world, partial.id).await;
    assert_eq!(spread(&rows), (2, 3));
    assert!(rows.iter().all(|row| row.note.is_none()), "nobody is limited: {rows:?}");
    let empty = submit(&world, new(&world, pool, Mode::Random, TOTAL(3), OnShortage::Partial)).await.unwrap();
    work_all(&world).await;
    let done = job(&world, empty.id).await;
    assert_eq!(
        (done.status, done.result["given"].as_i64(), done.result["short"].as_i64()),
        (JobStatus::Succeeded, Some(0), Some(3))
    );
    assert_released(&world).await;
}

/// Other jobs may have reserved codes that the counts show as free.
#[tokio::test]
async fn a_shortage_that_only_planning_shows_fails_the_job_and_assigns_nothing() {
    let world = World::new().await;
    world.insert_codes(100).await;
    let pool = pool_of(&world, 10).await;
    let first = submit(&world, new(&world, pool, Mode::Equal, TOTAL(60), OnShortage::Fail)).await.unwrap();
    let assign = up_to_assign(&world).await;
    assert_eq!(assign.job, first.id);
    let second = submit(&world, new(&world, pool, Mode::Equal, TOTAL(50), OnShortage::Fail)).await.unwrap();
    work_all(&world).await;
    let failed = job(&world, second.id).await;
    assert_eq!((failed.status, failed.succeeded), (JobStatus::Failed, 0));
    assert_eq!(failed.error.unwrap().code, "not_enough_codes");
    assert_eq!(["needed", "available"].map(|name| failed.result[name].as_i64()), [Some(50), Some(40)]);
    assert_eq!(held(&world, world.book).await.len(), 0);
    assert_eq!(world.store().release_reserved_codes().await.unwrap(), 1);
    assert_eq!(work(world.store(), &assign).await.unwrap(), Step::Finished);
    assert_eq!(held(&world, world.book).await.values().sum::<i64>(), 60);
    assert_released(&world).await;
}

#[tokio::test]
async fn a_dry_run_of_a_large_pool_is_a_job_that_changes_nothing() {
    let world = World::with(limited_to(2)).await;
    world.insert_codes(25).await;
    let pool = pool_of(&world, 30).await;
    let new =
        NewDistribution { dry_run: true, ..new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Fail) };
    let submitted = submit(&world, new).await.unwrap();
    work_all(&world).await;
    let done = job(&world, submitted.id).await;
    assert_eq!(done.status, JobStatus::Succeeded);
    let numbers = ["members", "eligible", "codesNeeded", "codesAvailable", "short"]
        .map(|name| done.result[name].as_i64());
    assert_eq!(numbers, [Some(30), Some(30), Some(30), Some(25), Some(5)]);
    assert_eq!(done.result["perUser"], serde_json::json!({ "min": 0, "max": 1 }));
    assert_eq!(done.result["sample"].as_array().unwrap().len(), 20);
    assert_eq!(world.counts().await.available, 25);
    assert!(
        world
            .store()
            .list_distributions(world.business, DistributionFilter::default(), 10)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    assert_released(&world).await;
}
