//! `cuponera stats` and `cuponera reconcile`.

use super::World;

#[tokio::test]
async fn statistics_are_shown_with_a_chart() {
    let world = World::new().await;
    let (name, id) = world.book(&[]);
    world.codes(&name, 4);
    let given = world.json(&["assign", "--book", &name, "--user", "ana"]);
    let code = given["code"].as_str().expect("a code");
    world.run(&["redeem", code, "--user", "ana"]).prints(&[code]);
    let shown = world.run(&["stats", "--book", &name, "--interval", "hour", "--time-zone", "Asia/Kolkata"]);
    shown.prints(&["ever assigned", "25.0 %", "100.0 %", "1 s", "Redemptions", "██████████ 1"]);
    let found = world.json(&["stats", "--book", &id, "--interval", "week"]);
    assert_eq!((&found["interval"], &found["totals"]["redeemed"]), (&"week".into(), &1.into()));
    world.run(&["stats", "--chart", "assigned"]).prints(&["Codes assigned"]);
    world.run(&["stats", "--time-zone", "Nowhere"]).fails(3, &["timeZone"]);
    world.run(&["stats", "--interval", "year"]).fails(2, &["hour"]);
}
