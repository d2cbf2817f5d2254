//! Logins: stored privately, refreshed before they expire, and ended.

use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};

use super::world::{mode, run_reading};
use super::{Ran, World, finish, run};
use crate::support::{EMAIL, PASSWORD};

fn log_in(world: &World, password: &str) -> Ran {
    let mut command = world.stranger(&["login", "--email", EMAIL, "--password-stdin"]);
    run_reading(&mut command, format!("{password}\n").as_bytes())
}

fn whoami(world: &World) -> Ran {
    run(&mut world.stranger(&["whoami"]))
}

/// Changes the stored data of the only login.
fn meddle(world: &World, change: impl FnOnce(&mut Value)) -> Value {
    let path = world.path("config/cuponera/login.json");
    let mut kept: Value =
        serde_json::from_slice(&std::fs::read(&path).expect("no login is stored")).expect("no JSON");
    let login = kept.as_object_mut().and_then(|logins| logins.values_mut().next()).expect("a login");
    change(login);
    let login = login.clone();
    std::fs::write(path, kept.to_string()).expect("writing failed");
    login
}

/// The access token has expired.
fn make_stale(world: &World) {
    meddle(world, |login| login["renewAt"] = "2020-01-01T00:00:00Z".into());
}

#[tokio::test]
async fn a_login_is_kept_for_its_owner_alone_until_it_is_ended_here_and_on_the_server() {
    let world = World::new().await;
    whoami(&world).fails(1, &["not logged in", "cuponera login"]);
    log_in(&world, "a wrong password").fails(3, &["invalid_credentials"]);
    whoami(&world).fails(1, &["not logged in"]);
    let ran = log_in(&world, PASSWORD);
    ran.prints(&["Logged in", EMAIL, "ADMIN"]);
    assert!(!(ran.stdout + &ran.stderr).contains(PASSWORD));
    assert_eq!(
        (mode(&world.path("config/cuponera/login.json")), mode(&world.path("config/cuponera"))),
        (0o600, 0o700)
    );
    whoami(&world).prints(&[EMAIL]);
    let kept = meddle(&world, |_| ());
    run(&mut world.stranger(&["logout"])).prints(&["Logged out"]);
    whoami(&world).fails(1, &["not logged in"]);
    let admin = world.admin().await;
    let refresh = json!({"refreshToken": kept["refreshToken"]});
    admin.json(admin.request(Method::POST, "auth/refresh").json(&refresh), 401).await;
}

/// Invariant I-45.
#[tokio::test]
async fn commands_at_once_use_a_refresh_token_once_and_the_login_lives_on() {
    let world = World::new().await;
    log_in(&world, PASSWORD).prints(&["Logged in"]);
    for _ in 0..3 {
        make_stale(&world);
        let start = |_| {
            let mut command = world.stranger(&["whoami"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("cuponera cannot be run")
        };
        let commands: Vec<_> = (0..6).map(start).collect();
        for command in commands {
            finish(command).prints(&[EMAIL]);
        }
    }
    make_stale(&world);
    whoami(&world).prints(&[EMAIL]);
}

#[tokio::test]
async fn a_token_that_the_server_does_not_take_any_more_is_renewed() {
    let world = World::new().await;
    log_in(&world, PASSWORD).prints(&["Logged in"]);
    let before = meddle(&world, |login| login["accessToken"] = "of-another-secret".into());
    whoami(&world).prints(&[EMAIL]);
    let after = meddle(&world, |_| ());
    assert_ne!(before["refreshToken"], after["refreshToken"], "the tokens were not refreshed");
}

#[tokio::test]
async fn a_login_that_has_ended_says_so() {
    let world = World::new().await;
    log_in(&world, PASSWORD).prints(&["Logged in"]);
    make_stale(&world);
    meddle(&world, |login| login["refreshToken"] = "no such token".into());
    whoami(&world).fails(3, &["invalid_refresh_token", "log in again"]);
    std::fs::write(world.path("config/cuponera/login.json"), "{").expect("writing failed");
    whoami(&world).fails(1, &["login.json", "delete it"]);
}

#[tokio::test]
async fn a_login_is_for_one_server_and_an_api_key_goes_before_it() {
    let world = World::new().await;
    log_in(&world, PASSWORD).prints(&["Logged in"]);
    run(world.stranger(&["whoami"]).env("CUPONERA_URL", "http://127.0.0.1:1")).fails(1, &["not logged in"]);
    run(world.stranger(&["whoami"]).env("CUPONERA_URL", world.url() + "/api/v1/")).prints(&[EMAIL]);
    world.run(&["whoami"]).prints(&["API key"]);
    world.run(&["whoami", "--api-key", "no-such-key"]).fails(3, &["unauthorized", "CUPONERA_API_KEY"]);
}
