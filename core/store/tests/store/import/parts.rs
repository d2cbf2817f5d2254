//! One code in three parts of a file: in any order of the parts, the coupon is that of the first line.

use cuponera_domain::job::JobStatus;
use cuponera_store::{Claim, RowRejection};
use cuponera_testkit::{World, eventually, waits_for};
use sqlx::{PgTransaction, query, query_scalar};

use super::{Part, Rejections, job, line_of, next, position_of, rejected, submit, work};

const PARTS: [Part<'static>; 3] = [&[("DUP", 5, None)], &[("DUP", 105, None)], &[("DUP", 205, None)]];

async fn claims(world: &World) -> [Claim; 3] {
    let claims = [next(world).await, next(world).await, next(world).await];
    assert!(claims.iter().zip(0..).all(|(claim, number)| claim.number == number));
    claims
}

async fn assert_the_first_line_stands(world: &World, found: &[Rejections]) {
    assert_eq!((line_of(world, "DUP").await, position_of(world, "DUP").await), (5, 5));
    let all: Rejections = found.iter().flatten().map(|(line, found)| (*line, found.clone())).collect();
    let duplicate = RowRejection::DuplicateInFile;
    assert_eq!(all, rejected([(105, "DUP", duplicate), (205, "DUP", duplicate)]));
    world.assert_invariants().await;
}

async fn hold(world: &World, code: &str) -> PgTransaction<'static> {
    let mut holder = world.pool().begin().await.unwrap();
    let lock = "select from coupon where code = $1 for update";
    query(lock).bind(code).execute(&mut *holder).await.unwrap();
    holder
}

#[tokio::test]
async fn of_three_lines_in_three_parts_the_first_stands_in_whatever_order_the_parts_end() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let world = World::new().await;
        let submitted = submit(&world, 3).await;
        let claims = claims(&world).await;
        let mut found = Vec::new();
        for part in order {
            found.push(work(&world, &claims[part], PARTS[part]).await);
        }
        assert_the_first_line_stands(&world, &found).await;
        let done = job(&world, submitted.id).await;
        assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 1, 2), "{order:?}");
    }
}

/// Both parts have read line 205. The second detects that the first has moved the coupon.
#[tokio::test]
async fn two_parts_that_displace_one_line_at_the_same_time_look_again_once_they_have_its_lock() {
    for first_to_wait in [0, 1] {
        let world = World::new().await;
        let submitted = submit(&world, 3).await;
        let claims = claims(&world).await;
        let last = work(&world, &claims[2], PARTS[2]).await;
        let holder = hold(&world, "DUP").await;
        let second_to_wait = 1 - first_to_wait;
        let one = work(&world, &claims[first_to_wait], PARTS[first_to_wait]);
        let other = work(&world, &claims[second_to_wait], PARTS[second_to_wait]);
        let both = async { tokio::join!(one, other) };
        let (one, other) = Box::pin(waits_for(world.pool(), 2, holder.commit(), both)).await;
        assert_the_first_line_stands(&world, &[last, one, other]).await;
        let done = job(&world, submitted.id).await;
        assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 1, 2));
    }
}

/// The first to lock the row decides. Events refer to the position of a code, so an assigned code is not moved.
/// Invariant I-24.
#[tokio::test]
async fn a_later_line_whose_code_is_given_out_at_the_same_time_is_moved_before_or_not_at_all() {
    for _ in 0..6 {
        let world = World::new().await;
        submit(&world, 2).await;
        let claims = [next(&world).await, next(&world).await];
        work(&world, &claims[1], PARTS[1]).await;
        let holder = hold(&world, "DUP").await;
        let import = async {
            eventually("the call to wait", async || {
                let waits = "select exists (select from pg_stat_activity
                                            where datname = current_database() and wait_event_type = 'Lock')";
                query_scalar::<_, bool>(waits).fetch_one(world.pool()).await.unwrap().then_some(())
            })
            .await;
            work(&world, &claims[0], PARTS[0]).await
        };
        let both = async { tokio::join!(world.give("DUP", "ana"), import) };
        let (_, found) = Box::pin(waits_for(world.pool(), 2, holder.commit(), both)).await;
        world.assert_invariants().await;
        let line = line_of(&world, "DUP").await;
        let rejected_line = if line == 5 { 105 } else { 5 };
        assert_eq!(found, rejected([(rejected_line, "DUP", RowRejection::DuplicateInFile)]));
        assert_eq!(position_of(&world, "DUP").await, i32::try_from(line).unwrap());
    }
}
