//! All transitions of one SHARED code race with each other: locks, renewals, redemptions, unlocks, rollbacks, expiries, changes of the
//! limits, suspension and void.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cuponera_domain::book::Change;
use cuponera_domain::coupon::limits::CodePatch;
use cuponera_testkit::race;
use sqlx::query;

use super::settings::{change, total};
use super::*;

/// A kind of transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lock,
    Redeem,
    Unlock,
    RollBack,
    Expire,
    Change,
    Suspend,
    Void,
}

const ALL: [Kind; 8] = [
    Kind::Lock,
    Kind::Redeem,
    Kind::Unlock,
    Kind::RollBack,
    Kind::Expire,
    Kind::Change,
    Kind::Suspend,
    Kind::Void,
];

/// A code with locks and redemptions, and the redemptions to roll back.
struct Scene {
    world: World,
    redemptions: Mutex<Vec<RedemptionId>>,
    next: AtomicUsize,
}

impl Scene {
    async fn new() -> Self {
        let world = World::with(BookRules { max_codes_per_user: Some(3), ..shared() }).await;
        world.shared("HOT", limits(12, 2)).await;
        let mut redemptions = Vec::new();
        for user in ["ana", "eva", "leo"] {
            redemptions.push(world.run_batch(world.redeem("HOT", user)).await.outcome.unwrap().redemption);
            world.locked("HOT", user).await;
        }
        Self { world, redemptions: Mutex::new(redemptions), next: AtomicUsize::new(0) }
    }

    /// Moves the end of a user's lock to now, under the lock of the code's row.
    async fn expire(&self, user: &str) -> sqlx::Result<()> {
        let mut transaction = self.world.pool().begin().await?;
        query("select from coupon where code = 'HOT' for update").execute(&mut *transaction).await?;
        query("update shared_use set locked_until = now() where lock_id is not null and locked_until > now() and user_id = $1")
            .bind(user)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    }

    /// Makes one transition of a kind. Rejections are expected.
    async fn act(&self, kind: Kind) {
        let world = &self.world;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let user = ["ana", "eva", "leo", "max", "kim"][number % 5];
        match kind {
            Kind::Lock => {
                let mut lock = world.lock("HOT", user);
                lock.ask.ttl_seconds = Some(1);
                drop(world.run_batch(lock).await);
            }
            Kind::Redeem => {
                if let Ok(done) = world.run_batch(world.redeem("HOT", user)).await.outcome {
                    self.redemptions.lock().unwrap().push(done.redemption);
                }
            }
            Kind::Unlock => drop(world.run_batch(world.unlock("HOT", user)).await),
            Kind::RollBack => {
                let redemption = self.redemptions.lock().unwrap().pop();
                if let Some(redemption) = redemption {
                    drop(world.run_batch(roll_back(world, "HOT", redemption)).await);
                }
            }
            Kind::Expire => {
                self.expire(user).await.unwrap();
                world.store().expire_shared_locks(10).await.unwrap();
            }
            Kind::Change => {
                let most = i32::try_from(8 + number % 6).unwrap();
                let _ = change(world, "HOT", total(most)).await;
            }
            Kind::Suspend => {
                let patch = CodePatch { suspended: Change::Set(number.is_multiple_of(2)), ..CodePatch::default() };
                let _ = change(world, "HOT", patch).await;
            }
            Kind::Void if number > 20 => drop(world.run_batch(void(world, "HOT")).await),
            Kind::Void => {}
        }
    }
}

/// Invariant I-87.
#[tokio::test]
async fn each_pair_of_transitions_keeps_the_limits_the_counters_and_the_events() {
    for (number, first) in ALL.into_iter().enumerate() {
        let scene = Scene::new().await;
        for second in ALL.into_iter().skip(number) {
            race(8, 0..16, async |turn: usize| scene.act(if turn.is_multiple_of(2) { first } else { second }).await).await;
            scene.world.assert_invariants().await;
        }
    }
}

/// Invariant I-87.
#[tokio::test]
async fn all_transitions_at_once_keep_the_limits_the_counters_and_the_events() {
    let scene = Scene::new().await;
    let kinds = [Kind::Lock, Kind::Redeem, Kind::Redeem, Kind::Unlock, Kind::RollBack, Kind::Expire, Kind::Change];
    for _ in 0..3 {
        race(16, 0..150, async |turn: usize| scene.act(kinds[turn % kinds.len()]).await).await;
        scene.world.assert_invariants().await;
    }
    assert_eq!(scene.world.database.close_and_count_deadlocks().await, 0);
}
