//! The causes of a failed start of a fleet's program are reported in one line each, and nothing is changed.

use std::net::TcpListener;
use std::process::Command;

use cuponera_testkit::TestDatabase;
use serde_json::json;
use sqlx::query_scalar;

use crate::support::fleet::{FleetInstallation, SECRET};
use crate::support::{Admin, PASSWORD, Process};

const PROGRAMS: [&str; 2] = ["cuponera-api", "cuponera-worker"];

/// Runs a program with changed settings (an empty value removes the setting), checks that it fails with status 1, and
/// returns its error lines.
async fn complaints(
    installation: &FleetInstallation,
    program: &str,
    changes: &[(&str, &str)],
) -> Vec<String> {
    let mut command = installation.command(program);
    for (name, value) in changes {
        if value.is_empty() {
            command.env_remove(name)
        } else {
            command.env(name, value)
        };
    }
    let mut process = Process::spawn(&mut command);
    let status = process.ended().await;
    assert_eq!(status.code(), Some(1), "{}", process.stderr());
    assert_eq!(process.stdout(), "", "it printed more than its errors");
    let before = format!("{program}: ");
    let prints = process.stderr();
    let prints = prints.lines().filter(|line| !line.starts_with('{'));
    prints
        .map(|line| {
            line.strip_prefix(&before)
                .unwrap_or_else(|| panic!("not an error line of the program: {line}"))
                .to_owned()
        })
        .collect()
}

#[track_caller]
fn assert_one(complaints: &[String], words: &[&str]) {
    let [line] = complaints else { panic!("not one line: {complaints:?}") };
    assert!(words.iter().all(|word| line.contains(word)), "{words:?} are not all in {line:?}");
}

/// Invariant I-42.
#[tokio::test]
async fn without_a_database_or_a_good_secret_nothing_starts() {
    let installation = FleetInstallation::on_postgres(TestDatabase::create().await);
    for program in PROGRAMS {
        let prints = complaints(&installation, program, &[("CUPONERA_DATABASE_URL", "")]).await;
        assert_one(&prints, &["CUPONERA_DATABASE_URL", "is required"]);
    }
    let prints = complaints(&installation, "cuponera-api", &[("CUPONERA_JWT_SECRET", "")]).await;
    assert_one(&prints, &["CUPONERA_JWT_SECRET", "32"]);
    let short = &SECRET[..31];
    let prints = complaints(&installation, "cuponera-api", &[("CUPONERA_JWT_SECRET", short)]).await;
    assert_one(&prints, &["CUPONERA_JWT_SECRET", "32"]);
    assert!(!prints[0].contains(short), "the secret is printed");
    let prints = complaints(&installation, "cuponera-api", &[("CUPONERA_JWT_SECRET_PREVIOUS", short)]).await;
    assert_one(&prints, &["CUPONERA_JWT_SECRET_PREVIOUS", "32"]);
    let both = [("CUPONERA_JWT_SECRET", ""), ("CUPONERA_DATABASE_URL", "")];
    assert_eq!(complaints(&installation, "cuponera-api", &both).await.len(), 2);
}

#[tokio::test]
async fn each_setting_that_is_wrong_is_one_line() {
    let installation = FleetInstallation::on_aws(TestDatabase::create().await).await;
    let taken = TcpListener::bind("127.0.0.1:0").expect("binding to loopback failed");
    let taken = taken.local_addr().expect("an address").to_string();
    let of_both: &[(&str, &str, &str)] = &[
        ("CUPONERA_DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing", "database"),
        ("CUPONERA_DATABASE_URL", "mysql://somewhere", "CUPONERA_DATABASE_URL"),
        ("CUPONERA_FILES_URL", "s3://Files", "CUPONERA_FILES_URL"),
        ("CUPONERA_FILES_URL", "s3://there-is-no-such-bucket", "there is no bucket there-is-no-such-bucket"),
        ("CUPONERA_QUEUE_URL", "jobs.fifo", "CUPONERA_QUEUE_URL"),
        ("CUPONERA_QUEUE_URL", "nowhere", "there is no queue nowhere"),
        ("CUPONERA_LOG", "cuponera=loud", "CUPONERA_LOG"),
    ];
    for (name, value, word) in of_both {
        for program in PROGRAMS {
            assert_one(&complaints(&installation, program, &[(name, value)]).await, &[word]);
        }
    }
    let for_api = [("CUPONERA_HTTP_ADDR", taken.as_str()), ("CUPONERA_UPLOAD_LIMIT", "0")];
    for (name, value) in for_api {
        assert_one(&complaints(&installation, "cuponera-api", &[(name, value)]).await, &[name]);
    }
}

#[tokio::test]
async fn a_setting_of_another_program_keeps_none_from_starting() {
    let installation = FleetInstallation::on_postgres(TestDatabase::create().await)
        .tell("CUPONERA_ADMIN_PASSWORD", "short")
        .tell("CUPONERA_ADMIN_EMAIL", "nobody");
    let mut api = installation.command("cuponera-api");
    let mut worker = installation.command("cuponera-worker");
    worker.env("CUPONERA_JWT_SECRET", "short").env("CUPONERA_HTTP_ADDR", "nowhere");
    starts(api.env("CUPONERA_WORKER_CONCURRENCY", "none"), "serving").await;
    starts(&mut worker, "working").await;
}

/// Runs a program until it logs this message, and ends it.
async fn starts(command: &mut Command, says: &str) {
    let mut process = Process::spawn(command);
    process.logged(says).await;
    process.stop().await;
}

/// Invariant I-12.
#[tokio::test]
async fn a_schema_that_is_missing_older_broken_or_of_another_line_is_refused() {
    let installation = FleetInstallation::on_postgres(TestDatabase::create_empty().await);
    let pool = installation.database.pool().clone();
    for program in PROGRAMS {
        assert_one(&complaints(&installation, program, &[]).await, &["run `cuponera migrate`"]);
    }
    let tables = "select count(*) from pg_class where relnamespace = 'public'::regnamespace";
    let tables: i64 = query_scalar(tables).fetch_one(&pool).await.expect("counting failed");
    assert_eq!(tables, 0, "a program that refuses has changed the schema");

    installation.set_up().await;
    let set = async |change: &'static str| {
        sqlx::raw_sql(change).execute(&pool).await.expect("changing the steps failed");
    };
    // Any step, not only the newest: a skipped number may be used later.
    for step in ["max(version)", "min(version)"] {
        let sql = format!(
            "create table taken as select * from _sqlx_migrations where version = (select {step} from _sqlx_migrations);
             delete from _sqlx_migrations where version in (select version from taken)"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.expect("taking a step back failed");
        for program in PROGRAMS {
            assert_one(&complaints(&installation, program, &[]).await, &["older", "run `cuponera migrate`"]);
        }
        set("insert into _sqlx_migrations select * from taken; drop table taken").await;
    }
    set("update _sqlx_migrations set checksum = checksum || '\\x00' where version = 2").await;
    for program in PROGRAMS {
        assert_one(&complaints(&installation, program, &[]).await, &["another line of versions", "step 2"]);
    }
    set("update _sqlx_migrations set checksum = substr(checksum, 1, length(checksum) - 1) where version = 2")
        .await;
    set("update _sqlx_migrations set success = false where version = 2").await;
    for program in PROGRAMS {
        assert_one(&complaints(&installation, program, &[]).await, &["step 2", "not finished"]);
    }
}

/// The schema after a rollback over two versions.
const TWO_STEPS_AHEAD: &str = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
    values (99990101000000, 'of a newer program', true, '', 0), (99990202000000, 'of a newer one', true, '', 0)";
const NEWER: &str = "the schema is newer than this program; it runs on it";

/// Invariant I-12.
#[tokio::test]
async fn every_program_runs_on_a_newer_schema_and_says_so() {
    let installation = FleetInstallation::on_postgres(TestDatabase::create().await);
    installation.set_up().await;
    let done = sqlx::query(TWO_STEPS_AHEAD).execute(installation.database.pool()).await;
    done.expect("taking the schema ahead failed");
    // An operator runs `migrate` before the rolled back version, as before any version.
    let mut migrate = Process::spawn(installation.command("cuponera").arg("migrate"));
    assert!(migrate.ended().await.success(), "{}", migrate.stderr());
    assert!(migrate.stderr().contains(NEWER), "{}", migrate.stderr());
    for (program, says) in [("cuponera-api", "serving"), ("cuponera-worker", "working")] {
        let mut process = Process::spawn(&mut installation.command(program));
        let warning = process.logged(NEWER).await;
        assert_eq!((&warning["level"], &warning["found"]), (&json!("WARN"), &json!(99_990_202_000_000_i64)));
        process.logged(says).await;
        assert_eq!(process.stderr().matches(NEWER).count(), 1, "the warning is logged more than once");
        process.stop().await;
    }
    let mut up = Process::spawn(installation.command("cuponera").arg("up"));
    up.serves().await;
    up.logged(NEWER).await;
    Admin::log_in(up.banner("API").expect("an address"), PASSWORD).await;
}
