//! `cuponera webhooks` and `cuponera listen`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use cuponera_testkit::{Receiver, eventually};
use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn webhooks_are_created_shown_changed_tested_and_deleted() {
    let world = World::new().await;
    let url = format!("https://receiver-{:x}.invalid/hooks", rand::random::<u64>());
    world
        .run(&["webhooks", "create", &url, "--event", "coupon.redeemed", "--description", "points"])
        .prints(&[&url, "coupon.redeemed", "points", "whsec_", "not shown again"]);
    let shown = world.json(&["webhooks", "show", &url]);
    let id = shown["id"].as_str().expect("an id").to_owned();
    assert_eq!((&shown["eventTypes"], shown.get("secret")), (&json!(["coupon.redeemed"]), None));
    world.run(&["webhooks", "list", "--limit", "500"]).prints(&[&id, &url, "true"]);
    let changed =
        world.json(&["webhooks", "update", &id, "--event", "*", "--description", "", "--per-code", "true"]);
    assert_eq!(
        (&changed["eventTypes"], changed.get("description"), &changed["perCode"]),
        (&json!(["*"]), None, &json!(true))
    );
    world.run(&["webhooks", "rotate-secret", &url]).prints(&["whsec_"]);
    // The name does not exist.
    world.run(&["webhooks", "test", &url]).fails(5, &["not delivered"]);
    world.run(&["webhooks", "deliveries", &url]).prints(&["webhook.test", "FAILED"]);
    world.run(&["webhooks", "replay", &url, "--since", "2026-01-01T00:00:00Z"]).prints(&["0 deliveries"]);
    let deliveries = world.json(&["webhooks", "deliveries", &url]);
    let delivery = deliveries["data"][0]["id"].as_str().expect("an id");
    world.run(&["webhooks", "replay", &url, "--delivery", delivery]).prints(&["is attempted again"]);
    world.run(&["webhooks", "replay", &url]).fails(2, &["--since"]);
    world.run(&["webhooks", "update", &url, "--enabled", "false"]).prints(&["false"]);
    world.run(&["webhooks", "test", &url]).fails(3, &["disabled"]);
    world.run(&["webhooks", "create", "https://127.0.0.1/"]).fails(3, &["url", "private"]);
    world
        .run(&["webhooks", "create", "https://shop.example/", "--event", "book.opened"])
        .fails(3, &["coupon.voided"]);
    world.run(&["webhooks", "delete", &url]).prints(&["deleted"]);
    world.run(&["webhooks", "show", &url]).fails(3, &["no webhook"]);
}

#[tokio::test]
async fn listen_prints_events_and_sends_them_with_a_signature_of_the_printed_secret() {
    let world = World::new().await;
    let receiver = Receiver::healthy().await;
    let (name, _) = world.book(&["--max-redeems-per-user", "1000"]);
    let code = world.codes(&name, 1).remove(0);
    world.run(&["assign", &code, "--user", "ana"]).prints(&[&code]);
    let mut command = world.command(&["listen", "--forward-to", &receiver.url(), "--json"]);
    let mut listening =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command does not start");
    let mut notes = BufReader::new(listening.stderr.take().expect("a pipe")).lines();
    let first = notes.next().expect("a line").expect("text");
    let secret =
        first.split(' ').find(|word| word.starts_with("whsec_")).expect("the secret is printed").to_owned();
    let lines = BufReader::new(listening.stdout.take().expect("a pipe")).lines();
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line).ok()));
    // The stream may begin after the first redemptions.
    let request = eventually("an event to be sent", async || {
        world.json(&["redeem", &code, "--user", "ana"]);
        let requests = receiver.received();
        requests.into_iter().find(|request| request.json()["type"] == "coupon.redeemed")
    })
    .await;
    let printed = eventually("the event to be printed", async || {
        let line = events.try_recv().ok()?;
        let body: Value = serde_json::from_str(&line).expect("one JSON object in a line");
        (body["id"] == request.json()["id"]).then_some(body)
    })
    .await;
    assert_eq!(printed, request.json());
    let library = standardwebhooks::Webhook::new(&secret).expect("a valid secret");
    library.verify(request.body.as_bytes(), &request.headers).expect("a valid signature");
    let redemption = printed["data"]["redemptionId"].as_str().expect("the redemption").to_owned();
    world.run(&["redemptions", &redemption]).prints(&[&code]);
    listening.kill().expect("the command has ended");
    listening.wait().expect("the command cannot be waited for");
    world.run(&["listen", "--forward-to", "shop.example"]).fails(2, &["--forward-to"]);
}
