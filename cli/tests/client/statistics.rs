//! `cuponera stats` and `cuponera reconcile`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

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

#[tokio::test]
async fn watched_statistics_are_printed_again_when_they_change() {
    let world = World::new().await;
    let (name, _) = world.book(&[]);
    world.codes(&name, 2);
    let mut command = world.command(&["stats", "--watch", "--book", &name, "--json"]);
    let mut watching = command.stdout(Stdio::piped()).spawn().expect("the command does not start");
    let mut lines = BufReader::new(watching.stdout.take().expect("a pipe")).lines();
    let mut until = |pointer: &str, expected: u64| {
        loop {
            let line = lines.next().expect("the command has ended").expect("the output cannot be read");
            let shown: Value = serde_json::from_str(&line).expect("one JSON object in a line");
            if shown.pointer(pointer) == Some(&expected.into()) {
                break;
            }
        }
    };
    until("/counts/available", 2);
    world.json(&["assign", "--book", &name, "--user", "ana"]);
    until("/totals/assigned", 1);
    watching.kill().expect("the command has ended");
    watching.wait().expect("the command cannot be waited for");
}
