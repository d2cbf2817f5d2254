//! `cuponera doctor`: its findings and fixes, and that it changes nothing.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use cuponera_testkit::{Dump, Emulator, Redis, TestDatabase, free_address};
use rustix::process::Signal;
use serde_json::Value;

use crate::client::{Ran, World, run};
use crate::support::{Installation, PASSWORD};

/// The worst status of each check.
fn findings(command: &mut Command) -> (Ran, BTreeMap<String, String>) {
    let ran = run(command.arg("--json"));
    let report = ran.json();
    assert_eq!(report["ok"], ran.code == 0, "{ran:?}");
    let mut worst = BTreeMap::new();
    for finding in report["findings"].as_array().expect("no findings") {
        let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(
            text("fix").is_empty(),
            text("status") == "ok",
            "a finding has a fix unless it is ok: {finding}"
        );
        let known = worst.entry(text("check")).or_insert_with(|| text("status"));
        if text("status") == "fault" {
            *known = text("status");
        }
    }
    (ran, worst)
}

#[track_caller]
fn assert_faults(worst: &BTreeMap<String, String>, checks: &[&str]) {
    let faults: Vec<_> =
        worst.iter().filter(|(_, status)| *status == "fault").map(|(check, _)| check.as_str()).collect();
    assert_eq!(faults, checks, "{worst:?}");
}

/// The names in a folder.
fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn doctor(installation: &Installation) -> Command {
    let mut command = installation.verb(&["doctor"]);
    command.env("CUPONERA_HTTP_ADDR", "127.0.0.1:0");
    command
}

#[tokio::test]
async fn before_the_first_start_all_is_well_and_nothing_is_made() {
    let installation = Installation::new();
    let (ran, worst) = findings(&mut doctor(&installation));
    assert_faults(&worst, &[]);
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.contains("any free port") && ran.stdout.contains("`up` creates it"), "{ran:?}");
    assert!(!installation.data_dir().exists(), "doctor created the data folder");
    run(&mut doctor(&installation)).prints(&["✓ settings", "✓ data folder", "✓ postgres", "✓ open files"]);
}

#[tokio::test]
async fn a_running_installation_is_found_in_health_and_left_alone() {
    let world = World::new().await;
    let before = listing(&world.data_dir());
    let mut command = world.command(&["doctor"]);
    let address = world.url().replace("http://", "");
    command.env("CUPONERA_DATA_DIR", world.data_dir()).env("CUPONERA_HTTP_ADDR", address);
    let (ran, worst) = findings(&mut command);
    assert_faults(&worst, &[]);
    for check in ["database", "durability", "connections", "clock", "rights", "schema", "files folder"] {
        assert_eq!(worst.get(check).map(String::as_str), Some("ok"), "{check}: {ran:?}");
    }
    assert!(ran.stdout.contains("a Cuponera") && ran.stdout.contains("a cuponera uses it"), "{ran:?}");
    let password = std::fs::read_to_string(world.data_dir().join("postgres.password")).expect("no password");
    assert!(!ran.stdout.contains(password.trim()), "a secret is shown");
    assert_eq!(listing(&world.data_dir()), before);
    world.run(&["whoami"]).prints(&["ADMIN"]);
}

#[tokio::test]
async fn a_cluster_at_rest_is_left_at_rest_and_open_secrets_are_told() {
    let installation = Installation::new();
    let mut process = installation.up().await;
    process.signal(Signal::TERM);
    process.ended().await;
    let before = listing(&installation.data_dir());
    let (ran, worst) = findings(&mut doctor(&installation));
    assert_faults(&worst, &[]);
    assert!(ran.stdout.contains("does not run"), "{ran:?}");
    assert!(installation.postmaster().is_none(), "doctor started Postgres");
    assert_eq!(listing(&installation.data_dir()), before);
    let secret = installation.data_dir().join("jwt.secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("chmod failed");
    std::fs::remove_file(installation.data_dir().join("postgres.password")).expect("removing failed");
    let (ran, worst) = findings(&mut doctor(&installation));
    assert_faults(&worst, &["cluster", "secrets"]);
    assert!(ran.stdout.contains("chmod 600"), "{ran:?}");
}

#[tokio::test]
async fn all_faults_are_told_at_once_and_no_secret_with_them() {
    let installation = Installation::new();
    let file = installation.data_dir();
    std::fs::write(&file, "a file").expect("writing failed");
    let taken = TcpListener::bind("127.0.0.1:0").expect("binding to loopback failed");
    let mut command = doctor(&installation);
    command.env("CUPONERA_HTTP_ADDR", taken.local_addr().expect("an address").to_string());
    command.env("CUPONERA_JWT_SECRET", "hunter2").env("CUPONERA_ADMIN_EMAIL", "nobody");
    command.env("CUPONERA_DATA_DIR", file.join("below")).env("PG_BIN", "/nonexistent");
    let (ran, worst) = findings(&mut command);
    assert_faults(&worst, &["address", "data folder", "files folder", "postgres", "settings"]);
    for word in
        ["CUPONERA_JWT_SECRET", "CUPONERA_ADMIN_EMAIL", "CUPONERA_HTTP_ADDR", "CUPONERA_DATA_DIR", "PG_BIN"]
    {
        assert!(ran.stdout.contains(word), "{word}: {ran:?}");
    }
    assert!(!ran.stdout.contains("hunter2") && !ran.stdout.contains(PASSWORD), "{ran:?}");
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_told_with_its_reason_and_without_its_password() {
    let installation = Installation::new();
    let url = format!("postgres://someone:hunter2@{}/shop", free_address());
    let (ran, worst) = findings(doctor(&installation).env("CUPONERA_DATABASE_URL", url));
    assert_faults(&worst, &["database"]);
    assert!(ran.stdout.contains("refused") && !ran.stdout.contains("hunter2"), "{ran:?}");
}

#[tokio::test]
async fn a_named_database_is_measured_against_what_is_needed() {
    let (installation, database) = (Installation::new(), TestDatabase::create().await);
    let pool = database.pool();
    sqlx::query("insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (9999, 'x', false, '', 0)")
        .execute(pool)
        .await
        .expect("the schema has no steps");
    let mut command = doctor(&installation);
    let command = command.env("CUPONERA_DATABASE_URL", database.url()).env("CUPONERA_DATABASE_POOL", "1000");
    let (ran, worst) = findings(command);
    for check in ["connections", "schema"] {
        assert_eq!(worst.get(check).map(String::as_str), Some("fault"), "{check}: {ran:?}");
    }
    assert!(ran.stdout.contains("step 9999") && ran.stdout.contains("max_connections"), "{ran:?}");
    // The Postgres of the tests may run without fsync; doctor must then report it.
    let fsync: String =
        sqlx::query_scalar("select current_setting('fsync')").fetch_one(pool).await.expect("no answer");
    assert_eq!(worst["durability"] == "ok", fsync == "on");
}

#[tokio::test]
async fn ids_and_emails_stored_untrimmed_are_counted_and_those_that_no_call_finds_as_well() {
    let installation = Installation::new();
    let look = |database: &TestDatabase| {
        findings(doctor(&installation).env("CUPONERA_DATABASE_URL", database.url()))
    };
    let (_, worst) = look(&TestDatabase::create().await);
    assert_eq!(worst.get("identifiers").map(String::as_str), Some("ok"));
    let database = TestDatabase::from_dump(&Dump::read("v0.1.0-0007")).await;
    let (ran, worst) = look(&database);
    assert_eq!((worst.get("identifiers"), worst["schema"].as_str()), (None, "ok"), "{ran:?}");
    database.store().migrate().await.expect("the migrations failed");
    let (ran, worst) = look(&database);
    assert_eq!(worst["identifiers"], "warning", "{ran:?}");
    for count in
        ["8, of which 3 have an account and 6 hold codes; emails: 1.", "except 4 user ids and 0 emails"]
    {
        assert!(ran.stdout.contains(count), "{count}: {ran:?}");
    }
}

#[tokio::test]
async fn a_user_without_rights_is_told_which_are_missing() {
    let (installation, database) = (Installation::new(), TestDatabase::create().await);
    let role = format!("doctor_{:x}", rand::random::<u64>());
    let make =
        format!("create role {role} login password 'hunter2'; revoke create on schema public from public");
    sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(database.pool()).await.expect("creating a role failed");
    let address = database.url().split_once('@').expect("a URL with a user").1;
    let url = format!("postgres://{role}:hunter2@{address}");
    let (ran, worst) = findings(doctor(&installation).env("CUPONERA_DATABASE_URL", url));
    let drop = format!("drop role {role}");
    sqlx::query(sqlx::AssertSqlSafe(drop)).execute(database.pool()).await.expect("dropping the role failed");
    for check in ["rights", "schema"] {
        assert_eq!(worst.get(check).map(String::as_str), Some("fault"), "{check}: {ran:?}");
    }
    assert!(!ran.stdout.contains("hunter2"), "{ran:?}");
}

#[tokio::test]
async fn a_setting_that_cannot_be_read_is_a_usage_fault() {
    let installation = Installation::new();
    run(doctor(&installation).env("CUPONERA_HTTP_ADDR", "somewhere")).fails(2, &["--http-addr"]);
    let report: Value = run(doctor(&installation).arg("--json")).json();
    assert_eq!(report["ok"], true);
}

/// Configures the services of a fleet, on the AWS emulator.
fn beside(command: &mut Command, aws: &str, queue: &str, bucket: &str, redis: &str) {
    command.env("CUPONERA_QUEUE_URL", queue).env("CUPONERA_FILES_URL", format!("s3://{bucket}/shop"));
    command.env("CUPONERA_REDIS_URL", redis).env("AWS_ENDPOINT_URL", aws).env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "hunter2");
}

#[tokio::test]
async fn the_queue_the_bucket_and_redis_of_a_fleet_are_looked_at() {
    let installation = Installation::new();
    let (emulator, redis) = (Emulator::get().await, Redis::start().await);
    let (queue, bucket) = (emulator.queue().await, emulator.bucket().await);
    let look = |queue: &str, bucket: &str, redis: &str| {
        let mut command = doctor(&installation);
        beside(&mut command, emulator.url(), queue, bucket, redis);
        findings(&mut command)
    };
    let of_fleet = |worst: &BTreeMap<String, String>| {
        ["queue", "bucket", "redis"].map(|check| worst.get(check).cloned().unwrap_or_default())
    };
    let (_, worst) = look(queue.name(), bucket.name(), &redis.url());
    assert_eq!(of_fleet(&worst), ["ok", "ok", "ok"]);

    queue.put_dead("hello").await;
    let away = format!("redis://shop:hunter2@{}", free_address());
    let (ran, worst) = look(queue.name(), "no-such-bucket", &away);
    assert_eq!(of_fleet(&worst), ["warning", "fault", "warning"]);
    assert!(ran.stdout.contains("dead letters: 1") && ran.stdout.contains("cuponera redrive"), "{ran:?}");
    assert!(ran.stdout.contains("there is no bucket no-such-bucket"), "{ran:?}");
    assert!(!ran.stdout.contains("hunter2"), "{ran:?}");

    let (ran, worst) = look("nowhere", bucket.name(), &redis.url());
    assert_eq!(of_fleet(&worst), ["fault", "ok", "ok"]);
    assert!(ran.stdout.contains("there is no queue nowhere"), "{ran:?}");

    // A service that does not answer prevents no start.
    let mut command = doctor(&installation);
    beside(&mut command, &format!("http://{}", free_address()), queue.name(), bucket.name(), &redis.url());
    let (ran, worst) = findings(&mut command);
    assert_eq!((of_fleet(&worst), ran.code), (["warning", "warning", "ok"].map(str::to_owned), 0), "{ran:?}");
}
