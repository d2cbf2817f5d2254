//! Random concurrent calls on a few coupons: events, counts and limits agree with the table.

use cuponera_domain::book::{BookRules, CodeKind};
use cuponera_store::{Call, Transition};
use cuponera_testkit::{CallExt, World, race, rules};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const COUPONS: usize = 60;
const BATCHES: u64 = 150;

/// Runs a batch of one of three kinds of call, of 1, 8 or 32 coupons with repetitions. Some calls share keys.
async fn settle_some(world: &World, codes: &[String], seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let size = [1, 8, 32][rng.random_range(0..3)];
    let picks: Vec<(&str, Option<String>)> = (0..size)
        .map(|_| {
            let code = codes[rng.random_range(0..codes.len())].as_str();
            (code, rng.random_bool(0.3).then(|| format!("{code} {}", rng.random_range(0..4))))
        })
        .collect();
    match seed % 4 {
        0 => run_batch(world, &picks, "unlock", |code| world.unlock(code, "ana")).await,
        1 | 2 => run_batch(world, &picks, "redeem", |code| world.redeem(code, "ana")).await,
        _ => run_batch(world, &picks, "lock", |code| world.lock(code, "ana")).await,
    }
}

async fn run_batch<T: Transition>(
    world: &World,
    picks: &[(&str, Option<String>)],
    kind: &str,
    make: impl Fn(&str) -> Call<T>,
) {
    let call = |(code, key): &(&str, Option<String>)| match key {
        Some(key) => make(code).with_key(&format!("{kind} {key}")),
        None => make(code),
    };
    let calls: Vec<_> = picks.iter().map(call).collect();
    world.store().run_batch(&calls).await.expect("a batch failed");
}

#[tokio::test]
async fn locks_releases_redemptions_and_sweeps_at_once_leave_a_whole_trail() {
    for kind in [CodeKind::Unique, CodeKind::Bearer] {
        use_all_at_once(kind).await;
    }
}

/// Codes of a BEARER book are assigned by the calls.
async fn use_all_at_once(code_kind: CodeKind) {
    let world = World::with(BookRules { code_kind, max_redeems_per_user: 40, ..rules() }).await;
    let codes = world.insert_codes(i32::try_from(COUPONS).unwrap()).await;
    if code_kind == CodeKind::Unique {
        for code in &codes {
            world.give(code, "ana").await;
        }
    }
    let calls = race(20, 0..BATCHES, async |seed| settle_some(&world, &codes, seed).await);
    let sweeps = race(1, 0..40, async |_| {
        world.expire_all_locks().await;
        world.store().expire_locks(20).await.unwrap();
        world.store().roll_up_counts().await.unwrap();
    });
    futures::join!(calls, sweeps);
    world.assert_invariants().await;
    assert!(world.actions(&codes[0]).await.len() > 5, "the calls had too few effects");
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}
