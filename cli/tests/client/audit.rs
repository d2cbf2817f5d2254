//! `cuponera audit status`.

use cuponera_testkit::eventually;

use super::World;

#[tokio::test]
async fn the_status_shows_the_number_of_seals_and_the_lag() {
    let world = World::new().await;
    eventually("an event to be sealed", async || {
        (world.json(&["audit", "status"])["seals"].as_i64() > Some(0)).then_some(())
    })
    .await;
    world.run(&["audit", "status"]).prints(&["Seals", "Sealed through", "Lag in seconds"]);
}
