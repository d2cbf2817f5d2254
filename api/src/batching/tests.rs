use cuponera_core::cache::Cache;
use cuponera_core::id::BusinessId;
use cuponera_core::store::{LockOwner, Unlock};
use cuponera_testkit::{World, eventually};
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
    let ask = || world.call(Unlock { code: code.clone(), owner: LockOwner::Anyone, lock: None });
    let mut holder = world.pool().begin().await.unwrap();
    sqlx::query("select * from coupon for update").execute(&mut *holder).await.unwrap();
    let (ann, bob, eve) = (claimant(world.business), claimant(world.business), claimant(world.business));
    let wait = |who: Claimant, call| {
        let lanes = lanes.clone();
        tokio::spawn(async move { lanes.settle("row", &who, call).await })
    };
    let refuse = async |who: Claimant, call| {
        let refused = lanes.settle("row", &who, call).await;
        assert!(refused.is_err_and(|error| matches!(error, Error::Unavailable(_))));
    };
    let first = wait(ann, ask());
    eventually("a call to wait", async || (lanes.places_in_use() == 1).then_some(())).await;
    refuse(ann, ask()).await;
    let second = wait(bob, ask());
    eventually("two calls to wait", async || (lanes.places_in_use() == 2).then_some(())).await;
    refuse(eve, ask()).await;
    let others = claimant(BusinessId(Uuid::now_v7()));
    let theirs = world.call(Unlock { code: "UNKNOWN".to_owned(), owner: LockOwner::Anyone, lock: None });
    lanes.settle("another row", &others, theirs).await.expect("another business has no place");
    holder.rollback().await.unwrap();
    for call in [first, second] {
        call.await.unwrap().expect("a call that waited was not answered");
    }
    assert_eq!(lanes.places_in_use(), 0);
}
