use cuponera_core::cache::Cache;
use cuponera_core::id::BusinessId;
use cuponera_core::store::{LockOwner, Unlock};
use cuponera_testkit::{World, eventually};
use futures::FutureExt;
use uuid::Uuid;

use super::*;

fn claimant(business: BusinessId) -> Claimant {
    Claimant::Known { caller: Uuid::now_v7(), business, address: None }
}

/// A caller has one place of the 4,096 here, and a business two.
fn narrow() -> Settings {
    let [one, two] = ["1/4096", "2/4096"].map(|share| share.parse().unwrap());
    Settings { share_caller: one, share_business: two, ..Settings::default() }
}

#[tokio::test]
async fn a_caller_and_a_business_have_a_share_of_the_places_in_a_lane_and_no_more() {
    let (world, tasks) = (World::new().await, TaskTracker::new());
    let code = world.plant_codes(1).await.remove(0);
    let notes = LockNotes::start(Cache::none(), CancellationToken::new(), &tasks);
    let lanes = Arc::new(Lanes::<Unlock>::start("unlock", world.store(), 1, &narrow(), &notes, &tasks));
    // The lane runs no batch until this is dropped: before its task first runs, all places for batches are taken.
    let running =
        Arc::clone(&lanes.all[0].running).try_acquire_many_owned(u32::try_from(MAX_RUNNING).unwrap());
    let running = running.expect("a batch runs already");
    let ask = || world.call(Unlock { code: code.clone(), owner: LockOwner::Anyone, lock: None });
    let (ann, bob, eve) = (claimant(world.business), claimant(world.business), claimant(world.business));
    let wait = |who: Claimant, call| {
        let lanes = lanes.clone();
        tokio::spawn(async move { lanes.settle("row", &who, call).await })
    };
    let refuse = |who: Claimant, call| {
        let answer = lanes.settle("row", &who, call).now_or_never().expect("the call got a place");
        assert!(answer.is_err_and(|error| matches!(error, Error::Unavailable(_))));
    };
    let waiting = async |calls: usize| {
        eventually("the calls to wait", async || (lanes.places_in_use() == calls).then_some(())).await;
    };
    let first = wait(ann, ask());
    waiting(1).await;
    refuse(ann, ask());
    let second = wait(bob, ask());
    waiting(2).await;
    refuse(eve, ask());
    let others = wait(claimant(BusinessId(Uuid::now_v7())), ask());
    waiting(3).await;
    drop(running);
    for call in [first, second, others] {
        call.await.unwrap().expect("a call that waited was not answered");
    }
    assert_eq!(lanes.places_in_use(), 0);
}
