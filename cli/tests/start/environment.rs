//! Environment variables that must have no effect: those of libpq, an invalid locale and time zone, and empty settings.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use cuponera_testkit::TestDatabase;

use crate::support::fleet::{FleetInstallation, SECRET};
use crate::support::{Admin, EMAIL, Installation, PASSWORD, Process, cuponera};

/// Each of these would break a connection or a server if it had an effect.
const GARBAGE: [(&str, &str); 22] = [
    ("PGHOST", "/nowhere"),
    ("PGHOSTADDR", "192.0.2.1"),
    ("PGPORT", "1"),
    ("PGUSER", "nobody"),
    ("PGPASSWORD", "wrong"),
    ("PGPASSFILE", "/nowhere/pgpass"),
    ("PGDATABASE", "nothing"),
    ("PGSERVICE", "none"),
    ("PGSERVICEFILE", "/nowhere/service"),
    ("PGOPTIONS", "--no_such_option=1 -c statement_timeout=1"),
    ("PGAPPNAME", "somebody else"),
    ("PGSSLMODE", "verify-full"),
    ("PGSSLROOTCERT", "/nowhere/root.pem"),
    ("PGSSLCERT", "/nowhere/client.pem"),
    ("PGSSLKEY", "/nowhere/client.key"),
    ("PGDATA", "/nowhere/data"),
    ("PGTZ", "Nowhere/Land"),
    ("PGCLIENTENCODING", "LATIN1"),
    ("LC_ALL", "xx_XX.nothing"),
    ("LANG", "xx_XX.nothing"),
    ("LANGUAGE", "xx"),
    ("TZ", "Nowhere/Land"),
];

#[tokio::test]
async fn variables_of_libpq_change_nothing_of_the_private_postgres() {
    let installation = Installation::new();
    let mut command = installation.command();
    let mut process = Process::spawn(command.envs(GARBAGE).env("CUPONERA_ADMIN_PASSWORD", PASSWORD));
    process.serves().await;
    process.log_in(PASSWORD).await;
    let mut listed = Process::spawn(installation.verb(&["admin", "list-businesses"]).envs(GARBAGE));
    assert!(listed.ended().await.success(), "{}", listed.stderr());
    assert!(listed.stdout().contains(EMAIL), "{}", listed.stdout());
    process.stop().await;
}

#[tokio::test]
async fn variables_of_libpq_and_pgpass_change_nothing_of_a_database_that_is_named() {
    let installation = FleetInstallation::on_postgres(TestDatabase::create_empty().await);
    let home = tempfile::tempdir().expect("creating a temporary folder failed");
    let file = home.path().join(".pgpass");
    fs::write(&file, "*:*:*:*:wrong\n").expect("writing failed");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod failed");
    let mut installation = installation.tell("HOME", &home.path().display().to_string());
    for (name, value) in GARBAGE {
        installation = installation.tell(name, value);
    }
    installation.set_up().await;
    for (program, says) in [("cuponera-api", "serving"), ("cuponera-worker", "listening for work")] {
        let mut command = installation.command(program);
        let mut process =
            Process::spawn(command.env("CUPONERA_LOG", "info,cuponera_platform=debug,cuponera_store=debug"));
        process.logged(says).await;
        process.stop().await;
    }
    let mut up = Process::spawn(installation.command("cuponera").arg("up"));
    up.serves().await;
    Admin::log_in(up.banner("API").expect("an address"), PASSWORD).await;
    up.stop().await;
}

/// The environment variables in the help page of a command.
fn variables_of(mut command: Command) -> BTreeSet<String> {
    let help = command.arg("--help").output().expect("starting the program failed").stdout;
    let help = String::from_utf8(help).expect("text");
    help.split("[env: ")
        .skip(1)
        .map(|rest| rest.split(['=', ']']).next().unwrap_or_default().to_owned())
        .collect()
}

/// Variables that libraries read.
const OF_LIBRARIES: [&str; 9] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "OTEL_TRACES_SAMPLER",
    "OTEL_BSP_SCHEDULE_DELAY",
];

fn with_empty_settings(command: &mut Command, names: &BTreeSet<String>) {
    assert!(names.len() > 2, "the help page names no variables: {names:?}");
    command.envs(names.iter().map(|name| (name.as_str(), "")));
    command.envs(OF_LIBRARIES.map(|name| (name, "")));
}

#[tokio::test]
async fn a_setting_that_is_empty_counts_as_unset() {
    let installation = Installation::new();
    let data_dir = installation.data_dir();
    let mut command = installation.verb(&["up", "--http-addr", "127.0.0.1:0", "--data-dir"]);
    with_empty_settings(command.arg(data_dir), &variables_of(installation.verb(&["up"])));
    let mut up = Process::spawn(&mut command);
    up.serves().await;
    assert_eq!(up.banner("First admin").as_deref(), Some(EMAIL));
    let url = up.banner("API").expect("an address").replace("/api/v1", "");
    let mut whoami = cuponera();
    with_empty_settings(
        whoami.args(["whoami", "--url", &url]),
        &variables_of(installation.verb(&["whoami"])),
    );
    let mut whoami = Process::spawn(whoami.env("HOME", installation.data_dir()));
    whoami.ended().await;
    assert!(whoami.stderr().contains("not logged in"), "an empty key counts as one: {}", whoami.stderr());
}

#[tokio::test]
async fn an_empty_setting_counts_as_unset_for_a_fleet() {
    let fleet = FleetInstallation::on_postgres(TestDatabase::create().await);
    let database = fleet.database.url().to_owned();
    let api = ["--http-addr", "127.0.0.1:0", "--database-url", &database, "--jwt-secret", SECRET];
    for (program, flags, says) in
        [("cuponera-api", &api[..], "serving"), ("cuponera-worker", &api[2..4], "working")]
    {
        let mut command = fleet.command(program);
        with_empty_settings(command.args(flags), &variables_of(fleet.command(program)));
        let mut process = Process::spawn(&mut command);
        process.logged(says).await;
        process.stop().await;
    }
}

#[tokio::test]
async fn a_line_of_dotenv_counts_where_the_variable_is_empty_and_an_empty_line_never() {
    let installation = Installation::new();
    let file = installation.data_dir().with_file_name(".env");
    fs::write(&file, "\u{feff}CUPONERA_REDIS_URL=\nCUPONERA_UPLOAD_LIMIT=0\nPGHOST=/nowhere\n")
        .expect("writing failed");
    let mut process = Process::spawn(installation.command().env("CUPONERA_UPLOAD_LIMIT", ""));
    assert!(!process.ended().await.success());
    assert_eq!(process.stderr(), "cuponera: CUPONERA_UPLOAD_LIMIT: must be more than 0\n");
    let mut process = Process::spawn(installation.command().env("CUPONERA_UPLOAD_LIMIT", "1MiB"));
    process.serves().await;
}
