//! `cuponera codes list` with filters, `codes find` and `events`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};

use super::{World, run};

#[tokio::test]
async fn codes_are_listed_by_each_filter_and_found_in_all_books() {
    let world = World::new().await;
    let (name, id) = world.book(&[]);
    let job = world.json(&["generate", "--book", &name, "--quantity", "3"]);
    let job = job["id"].as_str().expect("a job").to_owned();
    let listed = world.json(&["codes", "list", "--book", &name]);
    let codes: Vec<String> =
        (0..3).map(|n| listed["data"][n]["code"].as_str().expect("a code").to_owned()).collect();
    world.run(&["assign", &codes[0], "--user", "ana"]).prints(&[&codes[0]]);
    world.run(&["redeem", &codes[0], "--user", "ana"]).prints(&[&codes[0]]);
    let (past, future) = ("2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
    let count = |options: &[&str]| {
        let page = world.json(&[&["codes", "list", "--book", &name], options].concat());
        page["data"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(
        count(&["--user", "ana", "--status", "redeemed", "--assigned-from", past, "--assigned-to", future]),
        1
    );
    assert_eq!(count(&["--redeemed-from", past, "--redeemed-to", future]), 1);
    assert_eq!(count(&["--redeemed-from", future]), 0);
    assert_eq!(count(&["--job", &job]), 3);
    world.run(&["codes", "list", "--book", &name, "--assigned-from", "soon"]).fails(3, &["assignedFrom"]);
    world.run(&["codes", "find", &codes[0].to_lowercase()]).prints(&[&codes[0], "REDEEMED", &id, "ana"]);
    world.run(&["codes", "find", " "]).fails(3, &["q"]);
}

#[tokio::test]
async fn admin_events_are_listed_for_an_admin() {
    let world = World::new().await;
    let (_, id) = world.book(&[]);
    let list = ["events", "--kind", "admin", "--limit", "500"];
    let admin = world.admin().await;
    let made = admin.json(admin.request(Method::POST, "api-keys").json(&json!({"name": "Shop"})), 201).await;
    let key = made["key"].as_str().expect("a key");
    run(world.stranger(&list).env("CUPONERA_API_KEY", key)).fails(3, &["ADMIN"]);
    world.run(&list).prints(&["BOOK", "CREATE", &id, "API_KEY", "admin:"]);
    world.run(&[&list[..], &["--user", "ana"]].concat()).fails(3, &["userId"]);
}

#[tokio::test]
async fn events_are_listed_and_followed() {
    let world = World::new().await;
    let (name, _) = world.book(&[]);
    let codes = world.codes(&name, 2);
    world.run(&["assign", &codes[0], "--user", "ana"]).prints(&[&codes[0]]);
    world
        .run(&["events", "--book", &name, "--user", "ana", "--action", "assign"])
        .prints(&["ASSIGN", &codes[0], "ana"]);
    world.run(&["events", "--follow", "--limit", "3"]).fails(2, &["--limit"]);
    let mut command = world.command(&["events", "--follow", "--book", &name, "--json"]);
    let mut following = command.stdout(Stdio::piped()).spawn().expect("the command does not start");
    let lines = BufReader::new(following.stdout.take().expect("a pipe")).lines();
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line).ok()));
    // The stream may begin after the first locks.
    let event = loop {
        world.json(&["lock", &codes[0], "--user", "ana"]);
        world.json(&["unlock", &codes[0], "--user", "ana"]);
        if let Ok(line) = events.try_recv() {
            break serde_json::from_str::<Value>(&line).expect("one JSON object in a line");
        }
    };
    assert_eq!(event["code"], *codes[0]);
    following.kill().expect("the command has ended");
    following.wait().expect("the command cannot be waited for");
}
