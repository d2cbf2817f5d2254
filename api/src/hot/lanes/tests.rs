use cuponera_domain::id::BusinessId;
use cuponera_platform::cache::Cache;
use cuponera_store::{LockOwner, Unlock};
use cuponera_testkit::{World, eventually};
use futures::FutureExt;
use uuid::Uuid;

use super::*;

fn claimant(business: BusinessId) -> Claimant {
    Claimant::Known { caller: Uuid::now_v7(), business, address: None }
}

/// Settings in which a caller has one of the 4,096 slots, and a business two.
fn narrow() -> Settings {
    let [one, two] = ["1/4096", "2/4096"].map(|share| share.parse().unwrap());
    Settings { share_caller: one, share_business: two, ..Settings::default() }
}

#[tokio::test]
async fn a_caller_and_a_business_can_use_only_their_share_of_a_lane() {
    let (world, tasks) = (World::new().await, TaskTracker::new());
    let code = world.insert_codes(1).await.remove(0);
    let notes = LockNotes::start(Cache::none(), CancellationToken::new(), &tasks);
    let lanes = Arc::new(Lanes::<Unlock>::start("unlock", world.store(), 1, &narrow(), &notes, &tasks));
    // The lane runs no batch until this is dropped: before its task first runs, all slots for batches are taken.
    let running =
        Arc::clone(&lanes.all[0].running).try_acquire_many_owned(u32::try_from(MAX_RUNNING).unwrap());
    let running = running.expect("a batch runs already");
    let ask = || world.call(Unlock { code: code.clone(), owner: LockOwner::Anyone, lock: None });
    let (ann, bob, eve) = (claimant(world.business), claimant(world.business), claimant(world.business));
    let wait = |who: Claimant, call| {
        let lanes = lanes.clone();
        tokio::spawn(async move { lanes.execute("row", &who, call).await })
    };
    let reject = |who: Claimant, call| {
        let answer = lanes.execute("row", &who, call).now_or_never().expect("the call was not rejected");
        assert!(answer.is_err_and(|error| matches!(error, Error::Unavailable(_))));
    };
    let waiting = async |calls: usize| {
        eventually("the calls to wait", async || (lanes.open_calls() == calls).then_some(())).await;
    };
    let first = wait(ann, ask());
    waiting(1).await;
    reject(ann, ask());
    let second = wait(bob, ask());
    waiting(2).await;
    reject(eve, ask());
    let others = wait(claimant(BusinessId(Uuid::now_v7())), ask());
    waiting(3).await;
    drop(running);
    for call in [first, second, others] {
        call.await.unwrap().expect("a waiting call failed");
    }
    assert_eq!(lanes.open_calls(), 0);
}
