//! Four seeds that must find no violation, and a bug that must be caught.

use cuponera_storm::{Plan, Size, bugs, storm};
use cuponera_testkit::programs_beside;

async fn assert_holds(seed: u64) {
    let report = storm(&Plan::of_seed(seed), programs_beside(env!("CARGO_BIN_EXE_cuponera-storm"))).await;
    let report = report.expect("the storm could not be run");
    println!("{report}");
    assert_eq!(report.caught_by(), None, "run it again with `make storm SEED={seed}`");
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_1_finds_nothing() {
    assert_holds(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_2_finds_nothing() {
    assert_holds(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_3_finds_nothing() {
    assert_holds(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn seed_4_finds_nothing() {
    assert_holds(4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_kept_is_noticed() {
    let bug = bugs::find("repeated_key");
    let plan = Plan { sizes: vec![Size::Fleet], bug, ..Plan::of_seed(1) };
    let report = storm(&plan, programs_beside(env!("CARGO_BIN_EXE_cuponera-storm"))).await;
    let report = report.expect("the storm could not be run");
    assert!(report.edited_statements() > 0, "no sent statement contains the guard");
    assert_eq!(report.caught_by(), Some("idempotency"), "{report}");
}
