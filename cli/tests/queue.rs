//! `cuponera up` with an SQS queue: errors of its configuration are reported at the start, and jobs use the queue.

use std::process::Command;
use std::time::{Duration, Instant};

use cuponera_testkit::{Emulator, TestQueue, bound, eventually};
use rustix::process::Signal;
use serde_json::json;

use crate::support::{Installation, PASSWORD, Process};

/// Configures a queue of this name, on the AWS emulator only.
fn beside<'a>(command: &'a mut Command, queue: &TestQueue, name: &str) -> &'a mut Command {
    command
        .env("CUPONERA_QUEUE_URL", name)
        .env("AWS_ENDPOINT_URL", queue.endpoint())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "a-secret-of-aws")
        .env("CUPONERA_ADMIN_PASSWORD", PASSWORD)
}

#[tokio::test]
async fn jobs_go_through_the_queue_and_the_command_stops_in_time() {
    let queue = Emulator::get().await.queue().await;
    let installation = Installation::new();
    let mut process = Process::spawn(beside(&mut installation.command(), &queue, queue.name()));
    process.serves().await;
    let admin = process.log_in(PASSWORD).await;
    let book = admin.post("coupon-books", &json!({"name": "A book"}), 201).await["id"].clone();
    let order = json!({"couponBookId": book, "quantity": 60_000});
    let job = admin.post("coupon-codes/generate", &order, 202).await;
    let path = format!("jobs/{}", job["id"].as_str().expect("an id"));
    eventually("the job to end", async || (admin.get(&path).await["status"] == "SUCCEEDED").then_some(()))
        .await;
    eventually("the messages to be deleted", async || queue.messages().await.is_empty().then_some(())).await;

    let told = Instant::now();
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    assert!(told.elapsed() < bound(Duration::from_secs(15), Duration::from_secs(40)));
    let log = process.stderr();
    assert!(!log.contains("a-secret-of-aws"));
    assert_eq!(process.complaints(), [""; 0]);

    let mut redrive = Process::spawn(beside(&mut installation.verb(&["redrive"]), &queue, queue.name()));
    assert!(redrive.ended().await.success(), "{}", redrive.stderr());
    assert!(redrive.stdout().starts_with("jobs retried: 0;"), "{}", redrive.stdout());
}

#[tokio::test]
async fn a_queue_that_cannot_be_had_is_said_in_one_line() {
    let queue = Emulator::get().await.queue().await;
    let installation = Installation::new();
    for (name, region, hint) in
        [("nowhere", "us-east-1", "there is no queue nowhere"), (queue.name(), "", "AWS_REGION")]
    {
        let mut command = installation.command();
        beside(&mut command, &queue, name).env_remove("AWS_DEFAULT_REGION").env("AWS_REGION", region);
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_CONFIG_FILE", "/dev/null");
        let mut process = Process::spawn(&mut command);
        assert!(!process.ended().await.success());
        let stderr = process.stderr();
        let prints: Vec<&str> = stderr.lines().filter(|line| line.starts_with("cuponera: ")).collect();
        let [line] = prints[..] else { panic!("not one line: {stderr}") };
        assert!(line.starts_with("cuponera: CUPONERA_QUEUE_URL: ") && line.contains(hint), "{stderr}");
    }
    assert!(installation.postmaster().is_none(), "nothing was started");
}

#[tokio::test]
async fn without_a_queue_there_is_nothing_to_redrive() {
    let installation = Installation::new();
    let mut process = Process::spawn(&mut installation.verb(&["redrive"]));
    assert!(!process.ended().await.success());
    assert!(process.stderr().contains("CUPONERA_QUEUE_URL is not set"), "{}", process.stderr());
}
