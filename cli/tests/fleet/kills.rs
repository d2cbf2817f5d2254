//! Workers killed with SIGKILL during a job: other workers take over, nothing is lost and nothing is done twice.

use std::time::{Duration, Instant};

use cuponera_testkit::{bound, eventually, is_soak};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sqlx::query_scalar;

use super::{book, generate};
use crate::support::Admin;
use crate::support::fleet::Fleet;

const QUANTITY: u64 = 500_000;
/// The longest pause between two kills; shorter if the job would end before.
const MAX_PAUSE: Duration = Duration::from_millis(2_500);
/// The promised time until the chunk of a dead worker is taken over.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(20);
/// Without the rescue of chunks, a take-over waits until the message was hidden twice, for 34 s.
const FOUND_BY_CHANCE: Duration = Duration::from_secs(30);

/// Maximum number of kills. Each costs the work of the running chunks and the rest of their leases.
fn max_kills() -> u32 {
    if is_soak() { 8 } else { 4 }
}

async fn status(admin: &Admin, job: &Value) -> Value {
    admin.get(&format!("jobs/{}", job["id"].as_str().expect("an id"))).await["status"].clone()
}

async fn assert_made(fleet: &Fleet, job: &Value) {
    assert_eq!(
        (&job["status"], &job["progress"]["succeeded"], &job["progress"]["failed"]),
        (&json!("SUCCEEDED"), &json!(QUANTITY), &json!(0)),
        "{job}"
    );
    let made: i64 = query_scalar("select count(*) from coupon where job_id = $1::uuid")
        .bind(job["id"].as_str())
        .fetch_one(fleet.database().pool())
        .await
        .expect("counting failed");
    assert_eq!(made.unsigned_abs(), QUANTITY);
}

#[tokio::test]
async fn workers_killed_every_few_seconds_make_exactly_the_codes_asked_for() {
    let seed = rand::random();
    let mut random = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::on_aws(2).await;
    let admin = fleet.admin().await;
    let book = book(&admin).await;
    let begun = Instant::now();
    let job = generate(&admin, &book, QUANTITY).await;
    assert_made(&fleet, &admin.over(&job).await).await;
    let undisturbed = begun.elapsed();

    let longest_pause = MAX_PAUSE.min(undisturbed / max_kills());
    let begun = Instant::now();
    let job = generate(&admin, &book, QUANTITY).await;
    let mut kills = 0;
    while kills < max_kills() {
        eventually("the job to run", async || (status(&admin, &job).await != "QUEUED").then_some(())).await;
        tokio::time::sleep(longest_pause.mul_f64(random.random_range(0.0..1.0))).await;
        if status(&admin, &job).await != "RUNNING" {
            break;
        }
        let victim = random.random_range(0..fleet.workers.len());
        fleet.workers.remove(victim).kill();
        kills += 1;
        fleet.add_worker().await;
    }
    let done = admin.over(&job).await;
    let slower = begun.elapsed().as_secs_f64() / undisturbed.as_secs_f64();
    println!("seed {seed}: {kills} kills made the job {slower:.1} times as long as {undisturbed:?}");
    assert!(kills > 1, "the job was over too soon for more than {kills} kills");
    assert_made(&fleet, &done).await;
    fleet.assert_well().await;
}

#[tokio::test]
async fn the_last_chunk_of_a_killed_worker_is_taken_over_in_time() {
    let mut fleet = Fleet::on_aws_to_freeze(1).await;
    let admin = fleet.admin().await;
    let book = book(&admin).await;
    let pool = fleet.database().pool().clone();
    let chunk = async |job: &Value| -> (String, Option<String>) {
        sqlx::query_as("select status, worker from job_chunk where job_id = $1::uuid")
            .bind(job["id"].as_str())
            .fetch_one(&pool)
            .await
            .expect("the query failed")
    };
    // Freeze the worker while it works on a job of one chunk.
    let (job, worker) = loop {
        let job = generate(&admin, &book, 50_000).await;
        let (caught, worker) = eventually("the chunk to run", async || {
            let (status, worker) = chunk(&job).await;
            (status != "READY").then_some((status == "RUNNING", worker))
        })
        .await;
        fleet.workers[0].freeze();
        if caught && chunk(&job).await.0 == "RUNNING" {
            break (job, worker);
        }
        fleet.workers[0].thaw();
    };
    let other = fleet.installation().start_worker().await;
    let dead = fleet.workers.remove(0);
    let killed = Instant::now();
    dead.kill();
    fleet.workers.push(other);
    eventually("another worker to take over", async || (chunk(&job).await.1 != worker).then_some(())).await;
    let waited = killed.elapsed();
    println!("the chunk waited {waited:?}");
    assert!(waited < bound(TAKEN_OVER_WITHIN, FOUND_BY_CHANCE), "{waited:?}");
    assert_eq!(admin.over(&job).await["progress"]["succeeded"], 50_000);
    fleet.assert_well().await;
}
