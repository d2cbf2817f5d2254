//! Starting and stopping: the banner, the processes and files left behind, and the errors of a failed start.

mod environment;
mod failures;
mod refusals;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use cuponera_testkit::{bound, eventually};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::{query, query_scalar};

use crate::support::{EMAIL, Installation, PASSWORD, Process, http};

#[tokio::test]
async fn the_first_start_tells_where_it_is_and_the_password_once_and_later_ones_keep_it_to_themselves() {
    let installation = Installation::new();
    let mut first = Process::spawn(&mut installation.command());
    first.serves().await;
    let (api, docs) =
        (first.banner("API").expect("an address"), first.banner("Documentation").expect("a page"));
    assert!(
        api.starts_with("http://127.0.0.1:") && !api.contains(":0/") && api.ends_with("/api/v1"),
        "{api}"
    );
    let page = http().get(docs).send().await.expect("the documentation does not answer");
    assert_eq!(page.status().as_u16(), 200);
    assert_eq!(first.banner("First admin").as_deref(), Some(EMAIL));
    let line = first.banner("Password").expect("a password");
    let password = line.split_whitespace().next().expect("a password").to_owned();
    assert!(line.contains("shown only once") && password.len() >= 12, "{line}");
    first.log_in(&password).await;
    assert!(!first.stderr().contains(&password), "the password is in the log");
    stop(first, Signal::TERM).await;
    let mut second = Process::spawn(&mut installation.command());
    second.serves().await;
    assert_eq!((second.banner("First admin"), second.banner("Password")), (None, None));
    assert!(!second.stdout().contains(&password));
    second.log_in(&password).await;
}

/// Sends a signal and waits for the process to end.
async fn stop(mut process: Process, signal: Signal) {
    process.signal(signal);
    let status = process.ended().await;
    assert!(status.success(), "{status}: {}", process.stderr());
}

#[tokio::test]
async fn a_password_from_the_settings_is_not_printed_and_the_data_folder_is_for_its_owner_alone() {
    let installation = Installation::new();
    let process = installation.up().await;
    assert!(!(process.stdout() + &process.stderr()).contains(PASSWORD));
    process.log_in(PASSWORD).await;
    let mode = |path: &str| {
        let path = installation.data_dir().join(path);
        std::fs::metadata(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .permissions()
            .mode()
    };
    assert_eq!(mode("") & 0o777, 0o700);
    for secret in ["jwt.secret", "postgres.password"] {
        assert_eq!(mode(secret) & 0o777, 0o600, "{secret}");
    }
}

#[tokio::test]
async fn sigterm_and_ctrl_c_end_everything_and_leave_no_postgres() {
    let installation = Installation::new();
    for signal in [Signal::TERM, Signal::INT] {
        let process = installation.up().await;
        let postmaster = installation.postmaster().expect("Postgres runs while `up` serves");
        stop(process, signal).await;
        assert!(installation.postmaster().is_none(), "a Postgres was left running");
        let gone = kill_process(postmaster, Signal::CONT).is_err();
        assert!(gone, "process {postmaster} still runs");
    }
}

/// A closed terminal sends SIGHUP to its processes; `nohup` makes them ignore it.
#[tokio::test]
async fn a_closed_terminal_ends_everything_unless_that_is_ignored() {
    let installation = Installation::new();
    let mut process = Process::spawn(&mut through(&["env", "--default-signal=HUP"], &installation.command()));
    process.serves().await;
    stop(process, Signal::HUP).await;
    assert!(installation.postmaster().is_none(), "a Postgres was left running");
    let mut process = Process::spawn(&mut through(&["env", "--ignore-signal=HUP"], &installation.command()));
    process.serves().await;
    // If SIGHUP were not ignored, SIGTERM would be the second signal, which ends the process with status 130.
    process.signal(Signal::HUP);
    stop(process, Signal::TERM).await;
}

#[tokio::test]
async fn a_start_whose_output_cannot_be_written_serves_all_the_same() {
    let installation = Installation::new();
    let full = ["sh", "-c", "exec \"$@\" > /dev/full", "sh"];
    let mut process = Process::spawn(&mut through(&full, &installation.command()));
    process.logged("the banner cannot be written").await;
    stop(process, Signal::TERM).await;
    assert!(installation.postmaster().is_none(), "a Postgres was left running");
}

/// A command that `runner` executes.
fn through(runner: &[&str], command: &Command) -> Command {
    let mut through = Command::new(runner[0]);
    through.args(&runner[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => through.env(name, value),
            None => through.env_remove(name),
        };
    }
    through.current_dir(command.get_current_dir().expect("an installation has a folder"));
    through
}

#[tokio::test]
async fn a_job_that_ran_at_sigterm_is_finished_by_the_next_start() {
    let installation = Installation::new();
    let process = installation.up().await;
    let admin = process.log_in(PASSWORD).await;
    let book = admin.post("coupon-books", &json!({"name": "A book"}), 201).await;
    let order = json!({"couponBookId": book["id"], "quantity": 300_000});
    let job = admin.post("coupon-codes/generate", &order, 202).await;
    let path = format!("jobs/{}", job["id"].as_str().expect("an id"));
    eventually("the job to run", async || (admin.get(&path).await["status"] == "RUNNING").then_some(()))
        .await;
    stop(process, Signal::TERM).await;
    let process = installation.up().await;
    let admin = process.log_in(PASSWORD).await;
    let job = eventually("the job to end", async || {
        let job = admin.get(&path).await;
        (job["status"] != "QUEUED" && job["status"] != "RUNNING").then_some(job)
    })
    .await;
    assert_eq!(
        (&job["status"], &job["result"]["generatedCount"]),
        (&json!("SUCCEEDED"), &json!(300_000)),
        "{job}"
    );
}

#[tokio::test]
async fn after_a_kill_the_postgres_that_still_runs_is_found_again_and_nothing_is_lost() {
    let installation = Installation::new();
    let process = installation.up().await;
    let admin = process.log_in(PASSWORD).await;
    let book = admin.post("coupon-books", &json!({"name": "It stays"}), 201).await;
    let before = installation.postmaster().expect("Postgres runs while `up` serves");
    process.kill();
    assert_eq!(installation.postmaster(), Some(before), "Postgres ended with its owner");
    let process = installation.up().await;
    assert_eq!(installation.postmaster(), Some(before), "another Postgres was started");
    let admin = process.log_in(PASSWORD).await;
    let found = admin.get(&format!("coupon-books/{}", book["id"].as_str().expect("an id"))).await;
    assert_eq!(found["name"], "It stays");
    stop(process, Signal::TERM).await;
    assert!(installation.postmaster().is_none(), "an adopted Postgres was not stopped");
}

#[tokio::test]
async fn a_start_waits_for_the_postgres_of_a_killed_process_that_recovers_from_a_crash() {
    let installation = Installation::new();
    let process = installation.up().await;
    let pool = installation.database().await;
    // Enough WAL for a recovery that can be observed.
    let filler =
        "create table filler as select n, repeat('x', 200) as text from generate_series(1, 100000) n";
    query(filler).execute(&pool).await.expect("filling a table failed");
    let backend: i32 =
        query_scalar("select pg_backend_pid()").fetch_one(&pool).await.expect("Postgres does not answer");
    let postmaster = installation.postmaster().expect("Postgres runs while `up` serves");
    process.kill();
    let backend = Pid::from_raw(backend).expect("a process has a number");
    kill_process(backend, Signal::KILL).expect("the backend is gone");
    let recovery = eventually("Postgres to recover", async || startup_of(postmaster)).await;
    kill_process(recovery, Signal::STOP).expect("the recovery is over already");
    let mut process = Process::spawn(&mut installation.command());
    process.logged("waiting for Postgres to recover").await;
    kill_process(recovery, Signal::CONT).expect("the recovery is gone");
    process.serves().await;
    assert_eq!(installation.postmaster(), Some(postmaster), "another Postgres was started");
    stop(process, Signal::TERM).await;
}

/// The startup process of a Postgres that recovers.
fn startup_of(postmaster: Pid) -> Option<Pid> {
    let children = format!("/proc/{0}/task/{0}/children", postmaster.as_raw_nonzero());
    let children = std::fs::read_to_string(children).ok()?;
    let is_startup = |child: &&str| {
        let title = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&title).contains(": startup")
    };
    let child = children.split_whitespace().find(is_startup)?;
    Pid::from_raw(child.parse().ok()?)
}

#[tokio::test]
async fn a_client_that_does_not_end_its_request_does_not_keep_the_process() {
    let installation = Installation::new();
    let mut process = installation.up().await;
    let admin = process.log_in(PASSWORD).await;
    let book = admin.post("coupon-books", &json!({"name": "A book"}), 201).await;
    let path = format!("coupon-codes/upload?couponBookId={}", book["id"].as_str().expect("an id"));
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<std::io::Result<&'static str>>();
    let body =
        futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let request = admin.request(Method::POST, &path).header("Content-Type", "text/csv");
    let upload = tokio::spawn(request.body(reqwest::Body::wrap_stream(body)).send());
    sender.send(Ok("code\nA-CODE\n")).expect("the upload has ended");
    admin.sees_a_request_run().await;
    let begun = Instant::now();
    process.signal(Signal::TERM);
    assert!(process.ended().await.success(), "{}", process.stderr());
    // The timeout of an upload's body is a minute; the shutdown must not wait for it.
    assert!(
        begun.elapsed() < bound(Duration::from_secs(15), Duration::from_secs(40)),
        "{:?}",
        begun.elapsed()
    );
    assert!(upload.await.expect("the client failed").is_err(), "the upload was cut off");
}
