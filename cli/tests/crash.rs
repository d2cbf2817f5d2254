//! `cuponera up` is killed with SIGKILL and restarted repeatedly during a job: nothing is lost and nothing is done
//! twice.

use std::collections::HashSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use cuponera_testkit::{assert_invariants, eventually, is_soak};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{PgPool, query_scalar};

use crate::support::{Admin, Installation, PASSWORD, Process};

/// Number of kills during running jobs, in a soak and in other runs.
const KILLS: (u32, u32) = (10, 5);
/// The same for deletions, which take less than a second.
const KILLS_OF_DELETIONS: (u32, u32) = (4, 2);
/// Maximum number of kills for each tenth of a job. The kills are spread over its rows, because a chunk that was
/// running at too many kills is set aside.
const MAX_KILLS_A_TENTH: u32 = 2;
/// The longest pause before a kill, after the job is seen running.
const MAX_PAUSE_MS: u64 = 250;
/// The private Postgres is killed at every n-th kill.
const POSTGRES_TOO: u32 = 2;

fn wanted((soak, other): (u32, u32)) -> u32 {
    if is_soak() { soak } else { other }
}

/// An installation that is killed repeatedly.
struct Victim {
    installation: Installation,
    process: Option<Process>,
    admin: Admin,
    random: StdRng,
    seed: u64,
    kills: u32,
    longest_restart: Duration,
}

impl Victim {
    async fn new() -> Self {
        let seed = rand::random();
        // The harness shows this only if the test fails.
        println!("seed {seed}");
        let installation = Installation::new();
        let process = installation.up().await;
        let admin = process.log_in(PASSWORD).await;
        Self {
            installation,
            process: Some(process),
            admin,
            random: StdRng::seed_from_u64(seed),
            seed,
            kills: 0,
            longest_restart: Duration::ZERO,
        }
    }

    /// Kills the installation at random points while the job runs. Returns the job after its end.
    async fn torment(&mut self, job: &str) -> Value {
        let mut kills_in_tenth = [0; 11];
        loop {
            let (tenth, status) = self.wait_until_at_work(job, &kills_in_tenth).await;
            if status != "RUNNING" {
                return self.admin.get(&format!("jobs/{job}")).await;
            }
            let pause = self.random.random_range(0..=MAX_PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if self.admin.get(&format!("jobs/{job}")).await["status"] == "RUNNING" {
                kills_in_tenth[tenth] += 1;
                self.kill_and_restart().await;
            }
        }
    }

    /// Waits until the job has ended, or runs in a tenth of its rows with fewer than [`MAX_KILLS_A_TENTH`] kills.
    async fn wait_until_at_work(&self, job: &str, kills: &[u32; 11]) -> (usize, String) {
        eventually("the job to move on", async || {
            let job = self.admin.get(&format!("jobs/{job}")).await;
            let status = job["status"].as_str().expect("a status").to_owned();
            let percent = job["progress"]["percent"].as_f64().expect("a share");
            let tenth = (1..=10).rfind(|tenth| percent >= f64::from(*tenth) * 10.0).unwrap_or(0);
            let tenth = usize::try_from(tenth).expect("at most ten");
            let is_over = !["QUEUED", "RUNNING"].contains(&status.as_str());
            (is_over || status == "RUNNING" && kills[tenth] < MAX_KILLS_A_TENTH).then_some((tenth, status))
        })
        .await
    }

    async fn kill_and_restart(&mut self) {
        self.kills += 1;
        self.process.take().expect("it runs").kill();
        if self.kills.is_multiple_of(POSTGRES_TOO) {
            let postmaster = self.installation.postmaster().expect("a killed process leaves its Postgres");
            kill_process(postmaster, Signal::KILL).expect("Postgres is gone");
            // Until the signal takes effect, the next start could adopt this Postgres.
            eventually("Postgres to die", async || self.installation.postmaster().is_none().then_some(()))
                .await;
        }
        let begun = Instant::now();
        let process = self.installation.up().await;
        self.longest_restart = self.longest_restart.max(begun.elapsed());
        self.admin = process.log_in(PASSWORD).await;
        self.process = Some(process);
    }

    /// A new active book.
    async fn book(&self) -> String {
        let book = self.admin.post("coupon-books", &json!({"name": "A book"}), 201).await;
        let id = book["id"].as_str().expect("an id").to_owned();
        let change = self.admin.request(Method::PATCH, &format!("coupon-books/{id}"));
        self.admin.json(change.json(&json!({"status": "ACTIVE"})), 200).await;
        id
    }

    async fn end(self) {
        let pool = self.installation.database().await;
        assert_invariants(&pool).await;
        pool.close().await;
        let Self { kills, seed, longest_restart, .. } = &self;
        println!("seed {seed}: {kills} kills, the longest restart took {longest_restart:?}");
    }
}

/// The codes that a job created, sorted.
async fn codes_of(pool: &PgPool, job: &str) -> Vec<String> {
    let codes = "select code from coupon where job_id = $1::uuid order by code";
    query_scalar(codes).bind(job).fetch_all(pool).await.expect("reading the codes failed")
}

#[track_caller]
fn assert_progress(job: &Value, succeeded: usize, failed: usize) {
    assert_eq!(job["status"], "SUCCEEDED", "{job}");
    let progress = &job["progress"];
    let counts =
        ["total", "processed", "succeeded", "failed"].map(|name| progress[name].as_u64().expect("a count"));
    let expected = [succeeded + failed, succeeded + failed, succeeded, failed].map(|count| count as u64);
    assert_eq!(counts, expected, "{job}");
}

#[tokio::test]
async fn a_generation_killed_over_and_over_makes_exactly_the_codes_asked_for() {
    const QUANTITY: usize = 200_000;
    let mut victim = Victim::new().await;
    while victim.kills < wanted(KILLS) {
        let book = victim.book().await;
        let order = json!({"couponBookId": book, "quantity": QUANTITY});
        let job = victim.admin.post("coupon-codes/generate", &order, 202).await;
        let job = victim.torment(job["id"].as_str().expect("an id")).await;
        assert_progress(&job, QUANTITY, 0);
        assert_eq!(job["result"]["generatedCount"], QUANTITY, "{job}");
        let pool = victim.installation.database().await;
        let codes: HashSet<String> =
            codes_of(&pool, job["id"].as_str().expect("an id")).await.into_iter().collect();
        pool.close().await;
        assert_eq!(codes.len(), QUANTITY, "codes are duplicated or missing");
        let book = victim.admin.get(&format!("coupon-books/{book}")).await;
        assert_eq!(book["generatedCount"], QUANTITY, "{book}");
    }
    victim.end().await;
}

#[tokio::test]
async fn a_deletion_killed_over_and_over_deletes_each_code_once_and_then_the_book() {
    const QUANTITY: usize = 400_000;
    let mut victim = Victim::new().await;
    while victim.kills < wanted(KILLS_OF_DELETIONS) {
        let book = victim.book().await;
        let order = json!({"couponBookId": book, "quantity": QUANTITY});
        let made = victim.admin.post("coupon-codes/generate", &order, 202).await;
        let made = made["id"].as_str().expect("an id");
        eventually("the codes to be made", async || {
            (victim.admin.get(&format!("jobs/{made}")).await["status"] == "SUCCEEDED").then_some(())
        })
        .await;
        let delete = victim.admin.request(Method::DELETE, &format!("coupon-books/{book}"));
        let job = victim.admin.json(delete, 202).await;
        let job = victim.torment(job["id"].as_str().expect("an id")).await;
        assert_progress(&job, QUANTITY, 0);
        let pool = victim.installation.database().await;
        let left = "select (select count(*) from coupon) + (select count(*) from coupon_book)";
        let left: i64 = query_scalar(left).fetch_one(&pool).await.expect("counting failed");
        pool.close().await;
        assert_eq!(left, 0, "{job}");
    }
    victim.end().await;
}

/// A file of `rows` rows, every hundredth with the code of the row 50 before it, and its distinct codes, sorted.
fn file(prefix: &str, rows: usize) -> (String, Vec<String>) {
    let (mut file, mut codes) = ("code,row\n".to_owned(), Vec::new());
    for row in 0..rows {
        let code = |row| format!("{prefix}-{row:06}");
        if row % 100 == 99 {
            writeln!(file, "{},{row}", code(row - 50)).expect("writing to a string cannot fail");
        } else {
            writeln!(file, "{},{row}", code(row)).expect("writing to a string cannot fail");
            codes.push(code(row));
        }
    }
    (file, codes)
}

#[tokio::test]
async fn an_import_killed_over_and_over_takes_each_row_exactly_once() {
    const ROWS: usize = 100_000;
    const REPEATED: usize = ROWS / 100;
    let mut victim = Victim::new().await;
    let mut files = 0;
    while victim.kills < wanted(KILLS) {
        files += 1;
        let (file, expected) = file(&format!("FILE{files}"), ROWS);
        let book = victim.book().await;
        let upload = victim.admin.request(Method::POST, &format!("coupon-codes/upload?couponBookId={book}"));
        let job = victim.admin.json(upload.header("Content-Type", "text/csv").body(file), 202).await;
        let job = victim.torment(job["id"].as_str().expect("an id")).await;
        let id = job["id"].as_str().expect("an id");
        assert_progress(&job, ROWS - REPEATED, REPEATED);
        let pool = victim.installation.database().await;
        let codes = codes_of(&pool, id).await;
        pool.close().await;
        assert!(codes == expected, "the codes are not those of the file");
        assert_errors(&victim.admin, id, ROWS).await;
    }
    victim.end().await;
}

/// Checks that the errors file has each repeated row once, with its line.
async fn assert_errors(admin: &Admin, job: &str, rows: usize) {
    let errors = admin.text(admin.request(Method::GET, &format!("jobs/{job}/errors")), 200).await;
    let lines = errors.lines().skip(1).map(|line| line.split(',').next().and_then(|line| line.parse().ok()));
    let mut lines: Vec<usize> = lines.map(|line| line.expect("a line")).collect();
    lines.sort_unstable();
    // The header is line 1.
    let expected: Vec<usize> = (99..rows).step_by(100).map(|row| row + 2).collect();
    assert_eq!(lines, expected);
}
