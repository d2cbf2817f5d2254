//! One code in three parts of a file: whichever part ends first, and whoever looked before, the first line stands.

use cuponera_core::job::JobStatus;
use cuponera_core::store::{Claim, Imported, Rejected, TakenBy};
use cuponera_testkit::World;

use super::{Part, attempt, job, line_of, next, position_of, refused, rows, submit, work};

const PARTS: [Part<'static>; 3] = [&[("DUP", 5, None)], &[("DUP", 105, None)], &[("DUP", 205, None)]];

async fn claims(world: &World) -> [Claim; 3] {
    let claims = [next(world).await, next(world).await, next(world).await];
    assert!(claims.iter().zip(0..).all(|(claim, number)| claim.number == number));
    claims
}

async fn assert_the_first_line_stands(world: &World, told: &[TakenBy]) {
    assert_eq!((line_of(world, "DUP").await, position_of(world, "DUP").await), (5, 5));
    let all: TakenBy = told.iter().flatten().map(|(line, found)| (*line, found.clone())).collect();
    let duplicate = Rejected::DuplicateInFile;
    assert_eq!(all, refused([(105, "DUP", duplicate), (205, "DUP", duplicate)]));
    world.assert_invariants().await;
}

#[tokio::test]
async fn of_three_lines_in_three_parts_the_first_stands_in_whatever_order_the_parts_end() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let world = World::new().await;
        let submitted = submit(&world, 3).await;
        let claims = claims(&world).await;
        let mut told = Vec::new();
        for part in order {
            told.push(work(&world, &claims[part], PARTS[part]).await);
        }
        assert_the_first_line_stands(&world, &told).await;
        let done = job(&world, submitted.id).await;
        assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 1, 2), "{order:?}");
    }
}

/// The first part has seen line 205; by the time it would displace it, line 105 stands there.
#[tokio::test]
async fn a_part_that_looked_before_another_ended_looks_again() {
    let world = World::new().await;
    submit(&world, 3).await;
    let claims = claims(&world).await;
    let mut told = vec![work(&world, &claims[2], PARTS[2]).await];
    let seen = refused([(205, "DUP", Rejected::DuplicateInFile)]);
    let first = rows(PARTS[0]);
    assert_eq!(attempt(&world, &claims[0], &first, &TakenBy::new()).await, Imported::Differs(seen.clone()));
    told.push(work(&world, &claims[1], PARTS[1]).await);
    let anew = refused([(105, "DUP", Rejected::DuplicateInFile)]);
    assert_eq!(attempt(&world, &claims[0], &first, &seen).await, Imported::Differs(anew.clone()));
    assert_eq!(line_of(&world, "DUP").await, 105, "what was not settled was written");
    assert_eq!(attempt(&world, &claims[0], &first, &anew).await, Imported::Settled);
    told.push(anew);
    assert_the_first_line_stands(&world, &told).await;
}
