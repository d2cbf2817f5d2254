//! `cuponera admin`, with and without a running installation.

use std::fs::File;
use std::process::Command;

use cuponera_testkit::TestDatabase;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{EMAIL, Installation, PASSWORD, Process, http};

const NEW_PASSWORD: &str = "another password";

/// Runs a command that must succeed. Returns its standard output.
async fn run(command: &mut Command) -> String {
    let mut process = Process::spawn(command);
    let status = process.ended().await;
    assert!(status.success(), "{status}: {}", process.stderr());
    process.stdout()
}

/// Runs a command that must fail without standard output. Returns its standard error.
async fn complaint(command: &mut Command) -> String {
    let mut process = Process::spawn(command);
    assert!(!process.ended().await.success(), "it succeeded: {}", process.stdout());
    assert_eq!(process.stdout(), "");
    process.stderr()
}

/// `cuponera admin` with these arguments.
fn admin(installation: &Installation, arguments: &[&str]) -> Command {
    installation.verb(&[&["admin"], arguments].concat())
}

/// The same with a password on its standard input.
fn with_password(installation: &Installation, arguments: &[&str], password: &str) -> Command {
    let file = installation.data_dir().with_extension("password");
    std::fs::write(&file, format!("{password}\n")).expect("writing failed");
    let mut command = admin(installation, &[arguments, &["--password-stdin"]].concat());
    command.stdin(File::open(file).expect("reading failed"));
    command
}

/// The generated password that a command printed.
fn made_up(printed: &str) -> String {
    let line = printed.lines().find_map(|line| line.trim().strip_prefix("Password")).expect("no password");
    assert!(line.contains("shown only once"), "{printed}");
    line.split_whitespace().next().expect("no password").to_owned()
}

/// Logs in over the API. Returns the status and the body.
async fn log_in(process: &Process, email: &str, password: &str) -> (u16, Value) {
    let base = process.banner("API").expect("an address");
    let body = json!({"email": email, "password": password});
    let answer = http().post(format!("{base}/auth/login")).json(&body).send().await.expect("no answer");
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn refresh(process: &Process, session: &Value) -> u16 {
    let base = process.banner("API").expect("an address");
    let body = json!({"refreshToken": session["refreshToken"]});
    let answer = http().post(format!("{base}/auth/refresh")).json(&body).send().await.expect("no answer");
    answer.status().as_u16()
}

#[tokio::test]
async fn beside_a_running_installation_businesses_and_admins_are_made_and_it_runs_on() {
    let installation = Installation::new();
    let up = installation.up().await;
    let postmaster = installation.postmaster().expect("Postgres runs while `up` serves");
    let made =
        run(&mut admin(&installation, &["create-business", "Second shop", "--admin-email", "B@shop.test"]))
            .await;
    assert_eq!(log_in(&up, "b@shop.test", &made_up(&made)).await.0, 200, "{made}");
    let id = made.split_whitespace().nth(1).expect("an id");
    for (business, email) in [("second SHOP", "c@shop.test"), (id, "d@shop.test")] {
        let arguments = ["create-admin", "--business", business, "--email", email];
        let printed = run(&mut with_password(&installation, &arguments, NEW_PASSWORD)).await;
        assert!(printed.contains(id) && !printed.contains(NEW_PASSWORD), "{printed}");
        assert_eq!(log_in(&up, email, NEW_PASSWORD).await.0, 200);
    }
    let list = run(&mut admin(&installation, &["list-businesses"])).await;
    let [_, first, second] = list.lines().collect::<Vec<_>>()[..] else {
        panic!("not two businesses: {list}")
    };
    assert!(first.ends_with(&format!("My business, {EMAIL}")), "{list}");
    assert!(
        second.starts_with(id) && second.ends_with("Second shop, b@shop.test c@shop.test d@shop.test"),
        "{list}"
    );
    assert_eq!(installation.postmaster(), Some(postmaster), "its Postgres was stopped");
    up.log_in(PASSWORD).await;
}

#[tokio::test]
async fn an_account_that_is_made_admin_of_another_business_keeps_its_password() {
    let installation = Installation::new();
    let up = installation.up().await;
    for arguments in [
        &["create-business", "Second shop", "--admin-email", EMAIL][..],
        &["create-business", "Third shop", "--admin-email", "third@shop.test"],
        &["create-admin", "--business", "Third shop", "--email", EMAIL],
    ] {
        let printed = run(&mut admin(&installation, arguments)).await;
        assert_eq!(printed.contains("unchanged"), printed.contains(EMAIL), "{printed}");
    }
    let (status, problem) = log_in(&up, EMAIL, PASSWORD).await;
    assert_eq!((status, &problem["code"]), (409, &json!("choose_business")), "{problem}");
    assert_eq!(problem["businesses"].as_array().map(Vec::len), Some(3));
    let config = installation.data_dir().with_extension("config");
    let password = installation.data_dir().with_extension("password");
    std::fs::write(&password, PASSWORD).expect("writing failed");
    let by_command = async |business: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cuponera"));
        command.env("CUPONERA_URL", up.banner("API").expect("an address")).env("XDG_CONFIG_HOME", &config);
        command.env_remove("CUPONERA_API_KEY").args(["login", "--email", EMAIL, "--password-stdin"]);
        command.args(business.map(|id| ["--business", id]).into_iter().flatten());
        command.stdin(File::open(&password).expect("reading failed"));
        let mut process = Process::spawn(&mut command);
        (process.ended().await.code(), process.stdout(), process.stderr())
    };
    let (code, _, prints) = by_command(None).await;
    assert_eq!(code, Some(3), "{prints}");
    let second = problem["businesses"][1]["id"].as_str().expect("an id");
    for word in ["--business", "Second shop", second] {
        assert!(prints.contains(word), "{prints}");
    }
    let (code, prints, complaint) = by_command(Some(second)).await;
    assert!(code == Some(0) && prints.contains(second), "{prints}{complaint}");
}

#[tokio::test]
async fn a_reset_password_ends_all_logins_and_the_log_has_neither_emails_nor_passwords() {
    let installation = Installation::new();
    let up = installation.up().await;
    let (_, session) = log_in(&up, EMAIL, PASSWORD).await;
    let printed = run(&mut admin(&installation, &["reset-password", "Admin@Example.com"])).await;
    let password = made_up(&printed);
    assert_eq!(refresh(&up, &session).await, 401);
    assert_eq!(log_in(&up, EMAIL, PASSWORD).await.0, 401);
    assert_eq!(log_in(&up, EMAIL, &password).await.0, 200);
    assert_eq!(log_in(&up, "nobody@example.com", &password).await.0, 401);
    let events = up.log_in(&password).await.get("events?kind=ADMIN&actor=cli").await;
    let actions: Vec<&Value> =
        events["data"].as_array().expect("a page").iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["END", "CHANGE_PASSWORD"]);
    up.signal(Signal::TERM);
    let mut up = up;
    assert!(up.ended().await.success());
    let log = up.stderr();
    for word in ["logged in", "a login failed", "\"account\""] {
        assert!(log.contains(word), "{word} is not in the log: {log}");
    }
    for secret in [EMAIL, "nobody@example.com", PASSWORD, &password] {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
}

#[tokio::test]
async fn without_a_running_installation_its_postgres_is_started_and_stopped() {
    let installation = Installation::new();
    let arguments = ["create-business", "A shop", "--admin-email", EMAIL];
    run(&mut with_password(&installation, &arguments, NEW_PASSWORD)).await;
    assert!(installation.postmaster().is_none(), "a Postgres was left running");
    let up = installation.up().await;
    assert_eq!(up.banner("First admin"), None, "another first admin was created");
    up.log_in(NEW_PASSWORD).await;
}

#[tokio::test]
async fn a_postgres_that_a_killed_process_left_is_used_and_left() {
    let installation = Installation::new();
    let up = installation.up().await;
    let postmaster = installation.postmaster().expect("Postgres runs while `up` serves");
    up.kill();
    let list = run(&mut admin(&installation, &["list-businesses"])).await;
    assert!(list.contains(EMAIL), "{list}");
    assert_eq!(installation.postmaster(), Some(postmaster));
}

#[tokio::test]
async fn a_database_that_is_named_is_used_without_a_data_folder() {
    let (installation, database) = (Installation::new(), TestDatabase::create().await);
    let mut command = admin(&installation, &["create-business", "A shop", "--admin-email", EMAIL]);
    made_up(&run(command.env("CUPONERA_DATABASE_URL", database.url())).await);
    let businesses = database.store().list_businesses(Some("a shop")).await.expect("asking failed");
    assert_eq!(businesses[0].admins, [EMAIL]);
    assert!(!installation.data_dir().exists(), "a data folder was created");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_and_nothing_is_changed() {
    let (installation, database) = (Installation::new(), TestDatabase::create().await);
    let named = |mut command: Command| {
        command.env("CUPONERA_DATABASE_URL", database.url());
        command
    };
    let create = ["create-business", "A shop", "--admin-email", EMAIL];
    run(&mut named(admin(&installation, &create))).await;
    let cases: [(&[&str], &str); 7] = [
        (&["create-business", "a SHOP", "--admin-email", "b@shop.test"], "another name"),
        (&["create-business", "B shop"], "--admin-email"),
        (&["create-business", " ", "--admin-email", "b@shop.test"], "NAME"),
        (&["create-admin", "--business", "C shop", "--email", "b@shop.test"], "list-businesses"),
        (&["create-admin", "--business", "A shop", "--email", EMAIL], "already in use"),
        (&["create-admin", "--business", "A shop", "--email", "nobody"], "--email"),
        (&["reset-password", "nobody@shop.test"], "nobody@shop.test"),
    ];
    for (arguments, word) in cases {
        let mut command = named(admin(&installation, arguments));
        let complaint = complaint(command.env("CUPONERA_ADMIN_EMAIL", "x@shop.test")).await;
        assert!(complaint.contains(word), "{arguments:?}: {complaint}");
    }
    for password in ["short", "admin@example.com", "qwertyuiop", ""] {
        let arguments = ["reset-password", EMAIL];
        let complaint = complaint(&mut named(with_password(&installation, &arguments, password))).await;
        assert!(complaint.contains("the password"), "{complaint}");
    }
    let businesses = database.store().list_businesses(None).await.expect("asking failed");
    assert_eq!(businesses.len(), 1);
    assert_eq!(businesses[0].admins, [EMAIL]);
}

#[tokio::test]
async fn a_database_without_a_schema_is_told_the_way_out() {
    let installation = Installation::new();
    let database = TestDatabase::create().await;
    sqlx::query("drop table _sqlx_migrations")
        .execute(database.pool())
        .await
        .expect("breaking the schema failed");
    let mut command = admin(&installation, &["list-businesses"]);
    let complaint = complaint(command.env("CUPONERA_DATABASE_URL", database.url())).await;
    assert!(complaint.contains("cuponera migrate"), "{complaint}");
}
