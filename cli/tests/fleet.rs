//! A fleet as operators run it: an API and workers as separate processes on one database. A typical workload runs on it
//! as it does on `cuponera up`.

mod ends;
mod kills;
mod memory;
mod refusals;
mod restarts;
mod rotation;

use std::time::Duration;

use cuponera_testkit::{assert_invariants, eventually};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::fleet::{AWS_SECRET, Fleet, SECRET};
use crate::support::{Admin, Installation, PASSWORD, Process, cuponera};

/// Three rows, one of them a duplicate.
const FILE: &str = "code,userId\nVIP-1,\nVIP-2,ana\nVIP-1,\n";

/// Creates an active book.
async fn book(admin: &Admin) -> Value {
    let id = admin.post("coupon-books", &json!({"name": "Summer"}), 201).await["id"].clone();
    let path = format!("coupon-books/{}", id.as_str().expect("an id"));
    admin.json(admin.request(Method::PATCH, &path).json(&json!({"status": "ACTIVE"})), 200).await;
    id
}

async fn generate(admin: &Admin, book: &Value, quantity: u64) -> Value {
    admin.post("coupon-codes/generate", &json!({"couponBookId": book, "quantity": quantity}), 202).await
}

fn upload(admin: &Admin, book: &Value) -> reqwest::RequestBuilder {
    let path = format!("coupon-codes/upload?couponBookId={}", book.as_str().expect("an id"));
    admin.request(Method::POST, &path).header("Content-Type", "text/csv")
}

/// A typical workload: generates, imports, assigns, locks and redeems. Returns the id of the import.
async fn live_a_day(admin: &Admin) -> Value {
    let book = book(admin).await;
    let jobs =
        [generate(admin, &book, 120_000).await, admin.json(upload(admin, &book).body(FILE), 202).await];
    let generated = admin.over(&jobs[0]).await;
    assert_eq!(
        (&generated["status"], &generated["progress"]["succeeded"]),
        (&json!("SUCCEEDED"), &json!(120_000))
    );
    let imported = admin.over(&jobs[1]).await;
    assert_eq!((&imported["progress"]["succeeded"], &imported["progress"]["failed"]), (&json!(2), &json!(1)));
    let path = format!("jobs/{}/errors", imported["id"].as_str().expect("an id"));
    let errors = admin.text(admin.request(Method::GET, &path), 200).await;
    assert!(errors.contains("VIP-1") && errors.lines().count() == 2, "{errors}");

    let given = admin.post("assignments/random", &json!({"couponBookId": book, "userId": "bob"}), 201).await;
    let code = given["code"].as_str().expect("a code").to_owned();
    for (code, user) in [("VIP-2", "ana"), (&code, "bob")] {
        let lock = admin.post(&format!("coupons/{code}/lock"), &json!({"userId": user}), 200).await;
        let redeem = json!({"userId": user, "lockId": lock["lockId"]});
        let redeemed = admin.post(&format!("coupons/{code}/redeem"), &redeem, 200).await;
        assert_eq!(redeemed["status"], "REDEEMED");
        admin.post(&format!("coupons/{code}/redeem"), &json!({"userId": user}), 409).await;
    }
    imported["id"].clone()
}

#[tokio::test]
async fn codes_are_made_uploaded_locked_and_redeemed_through_a_queue_and_a_bucket() {
    let mut fleet = Fleet::on_aws(2).await;
    let admin = fleet.admin().await;
    let import = live_a_day(&admin).await;
    let import = import.as_str().expect("an id");
    let names = fleet.bucket().names().await;
    let of_import = |folder: &str| {
        names.iter().filter(|name| name.starts_with(&format!("shop/{folder}/{import}/"))).count()
    };
    // Rejected rows are in the database, not in the bucket.
    assert_eq!((of_import("uploads"), of_import("errors")), (1, 0), "{names:?}");
    fleet.assert_well().await;
    assert!(fleet.queue().dead_letters().await.is_empty());
    eventually("queue and Redis to be well", async || {
        let health = admin.get("../../health").await;
        (health["queue"] == "connected" && health["redis"] == "connected").then_some(())
    })
    .await;

    let Fleet { api, workers, .. } = &mut fleet;
    for process in std::iter::once(api).chain(workers) {
        let took = process.stop().await;
        assert!(took < Duration::from_secs(10), "{took:?}");
        let log = process.stderr();
        assert!(
            ![PASSWORD, SECRET, AWS_SECRET].iter().any(|secret| log.contains(secret)),
            "a secret is in the log"
        );
        assert_eq!(process.complaints(), [""; 0]);
    }
}

#[tokio::test]
async fn the_same_goes_with_nothing_but_a_database_and_a_folder() {
    let fleet = Fleet::on_postgres(2).await;
    let admin = fleet.admin().await;
    live_a_day(&admin).await;
    fleet.assert_well().await;
}

#[tokio::test]
async fn the_same_goes_with_one_process_that_is_all_of_it() {
    let installation = Installation::new();
    let process = installation.up().await;
    let admin = process.log_in(PASSWORD).await;
    live_a_day(&admin).await;
    let pool = installation.database().await;
    assert_invariants(&pool).await;
    pool.close().await;
}

#[tokio::test]
async fn what_a_killed_worker_had_another_does_and_an_api_that_comes_back_knows_its_admins() {
    let mut fleet = Fleet::on_aws(1).await;
    let admin = fleet.admin().await;
    let job = generate(&admin, &book(&admin).await, 400_000).await;
    eventually("a chunk to run", async || {
        let at_work = "select count(*) from job_chunk where status = 'RUNNING'";
        let at_work: i64 =
            sqlx::query_scalar(at_work).fetch_one(fleet.database().pool()).await.expect("counting failed");
        (at_work > 0).then_some(())
    })
    .await;
    fleet.workers.remove(0).kill();
    fleet.api.signal(Signal::KILL);
    fleet.api.ended().await;
    fleet.restart_api().await;
    fleet.add_worker().await;
    let job = admin.over(&job).await;
    assert_eq!(
        (&job["status"], &job["progress"]["succeeded"]),
        (&json!("SUCCEEDED"), &json!(400_000)),
        "{job}"
    );
    fleet.assert_well().await;
}

#[tokio::test]
async fn a_set_up_that_runs_again_makes_no_second_business() {
    let fleet = Fleet::on_postgres(0).await;
    fleet.installation().set_up().await;
    let businesses: i64 = sqlx::query_scalar("select count(*) from business")
        .fetch_one(fleet.database().pool())
        .await
        .expect("counting failed");
    assert_eq!(businesses, 1);
    fleet.admin().await;
}

#[tokio::test]
async fn a_health_check_needs_no_other_program() {
    let mut fleet = Fleet::on_postgres(0).await;
    let url = format!("http://{}/health/live", fleet.address());
    let check = async |url: &str| {
        let mut check = Process::spawn(cuponera().args(["health", url]));
        (check.ended().await.success(), check.stderr())
    };
    assert_eq!(check(&url).await, (true, String::new()));
    let (is_well, prints) = check(&format!("http://{}/nothing", fleet.address())).await;
    assert!(!is_well && prints.contains("404"), "{prints}");
    let (is_well, prints) = check("nonsense").await;
    assert!(!is_well && prints.contains("must be a URL such as http://"), "{prints}");
    fleet.api.stop().await;
    let (is_well, prints) = check(&url).await;
    assert!(!is_well && prints.starts_with(&format!("cuponera: {url}: ")), "{prints}");
}
