//! Installations of earlier versions, each from a dump, after the current migrations and with the current programs: all rows
//! exist, and old passwords, keys, logins, locks and jobs work.

mod coupons;
mod event_log;
mod jobs;
mod large;
mod logins;
mod spelling;

use cuponera_testkit::{Dump, TestDatabase, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, query, query_as, query_scalar};

use crate::support::{Client, Limits, Reply, Server};

/// An installation of each earlier version, upgraded.
async fn installations(limits: Limits) -> Vec<(Server, Value)> {
    let mut installations = Vec::new();
    for name in Dump::names() {
        let dump = Dump::read(&name);
        let server = Server::upgraded(&dump, limits.clone()).await;
        installations.push((server, dump.facts));
    }
    assert!(!installations.is_empty(), "there are no dumps");
    installations
}

fn without_worker() -> Limits {
    Limits { worker: false, ..Limits::default() }
}

/// The value of a dump at a JSON pointer.
#[track_caller]
fn fact<'a>(facts: &'a Value, pointer: &str) -> &'a str {
    let found = facts.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("the dump has no {pointer}"))
}

async fn log_in(client: &Client, email: &str, password: &str) -> Reply {
    client.post("auth/login", json!({"email": email, "password": password})).await
}

/// An account of the dump, logged in.
async fn account(server: &Server, facts: &Value, name: &str) -> Client {
    let [email, password] =
        ["email", "password"].map(|field| fact(facts, &format!("/users/{name}/{field}")).to_owned());
    let session = log_in(&server.anonymous(), &email, &password).await.expect(200);
    server.anonymous().with_token(session["accessToken"].as_str().expect("a login has a token"))
}

/// All tables, each with its columns as a list for SQL. Partitions are read through their parent.
async fn tables(database: &TestDatabase) -> Vec<(String, String)> {
    query_as(
        "select c.table_name::text, string_agg(quote_ident(c.column_name), ', ' order by c.ordinal_position)
         from information_schema.columns c join pg_class r on r.oid = format('public.%I', c.table_name)::regclass
         where c.table_schema = 'public' and r.relkind in ('r', 'p') and not r.relispartition
           and c.table_name <> '_sqlx_migrations'
         group by c.table_name order by 1",
    )
    .fetch_all(database.pool())
    .await
    .expect("reading the catalog failed")
}

/// A hash of all rows of a table in these columns.
async fn digest(database: &TestDatabase, (table, columns): &(String, String)) -> Option<String> {
    let sql = format!(
        "select md5(string_agg(r::text, chr(10) order by r::text)) from (select {columns} from {table}) r"
    );
    query_scalar(AssertSqlSafe(sql)).fetch_one(database.pool()).await.expect("reading a table failed")
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_changes_no_stored_row_and_breaks_no_promise() {
    for name in Dump::names() {
        let database = TestDatabase::from_dump(&Dump::read(&name)).await;
        cuponera_testkit::assert_invariants(database.pool()).await;
        let tables = tables(&database).await;
        assert!(tables.len() > 15, "{tables:?}");
        let mut before = Vec::new();
        for table in &tables {
            before.push(digest(&database, table).await);
        }
        // Like the programs of a fleet during an upgrade.
        let another =
            database.another_store(cuponera_store::Pools { rest: 2, ..cuponera_store::Pools::MIN }).await;
        let (first, second) = tokio::join!(database.store().migrate(), another.migrate());
        first.and(second).expect("the migrations failed");
        for (table, before) in tables.iter().zip(before) {
            assert_eq!(digest(&database, table).await, before, "{name}: {table:?}");
        }
        cuponera_testkit::assert_invariants(database.pool()).await;
    }
}

/// Like a fleet with a long chunk running.
/// Invariant I-13.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_waits_for_a_long_transaction_makes_no_assignment_wait() {
    let database = TestDatabase::from_dump(&Dump::read("v0.1.0-0007")).await;
    let write = "update user_quota set held = held where user_id = 'ana'";
    let mut long = database.pool().begin().await.expect("beginning failed");
    query(write).execute(&mut *long).await.expect("writing a quota failed");
    let beside = async {
        let is = async |what: &'static str| {
            query_scalar::<_, bool>(what).fetch_one(database.pool()).await.expect("no answer")
        };
        let waits = "select exists (select from pg_stat_activity
                       where datname = current_database() and wait_event in ('relation', 'PgSleep'))";
        eventually("the migration to wait", async || is(waits).await.then_some(())).await;
        for user in ["eva", "ivo", "kai", "rex", "lia"].repeat(5) {
            let others = "update user_quota set held = held where user_id = $1";
            query(others).bind(user).execute(database.pool()).await.expect("a quota cannot be written");
        }
        assert!(is("select to_regclass('untrimmed_email') is null").await, "the migration did not wait");
        long.rollback().await.expect("rolling back failed");
    };
    let (migrated, ()) = tokio::join!(database.store().migrate(), beside);
    migrated.expect("the migrations failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_passwords_keys_and_logins_still_let_in_whom_they_let_in() {
    for (server, facts) in installations(without_worker()).await {
        let anonymous = server.anonymous();
        let me = account(&server, &facts, "ana").await.get("auth/me").await.expect(200);
        assert_eq!((&me["userId"], &me["role"]), (&json!("ana"), &json!("USER")));
        let other =
            ["email", "password"].map(|field| fact(&facts, &format!("/otherBusiness/{field}")).to_owned());
        log_in(&anonymous, &other[0], &other[1]).await.expect(200);
        let gone =
            ["email", "password"].map(|field| fact(&facts, &format!("/users/gone/{field}")).to_owned());
        assert_eq!(log_in(&anonymous, &gone[0], &gone[1]).await.rejected(401), "invalid_credentials");
        server.service().get("coupon-books").await.expect(200);
        let admin_key = anonymous.with_key(fact(&facts, "/keys/admin"));
        admin_key.get("coupon-books").await.expect(200);
        assert_eq!(admin_key.get("users").await.rejected(403), "forbidden", "an old key manages users");
        anonymous.with_key(fact(&facts, "/keys/revoked")).get("coupon-books").await.rejected(401);
        for (login, expected) in [("admin", 200), ("ana", 200), ("ended", 401)] {
            let refresh = json!({"refreshToken": fact(&facts, &format!("/logins/{login}"))});
            let reply = anonymous.post("auth/refresh", refresh.clone()).await;
            assert_eq!(reply.status, expected, "{login}: {}", reply.text);
            // Each could be used once.
            anonymous.post("auth/refresh", refresh).await.rejected(401);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_old_idempotency_keys_get_their_old_answers() {
    for (server, facts) in installations(without_worker()).await {
        for replay in facts["replays"].as_array().expect("a dump has replays") {
            let client =
                server.anonymous().with_key(fact(&facts, &format!("/keys/{}", fact(replay, "/key"))));
            let request = client
                .request(Method::POST, fact(replay, "/path"))
                .header("Content-Type", "application/json")
                .header("Idempotency-Key", fact(replay, "/idempotencyKey"))
                .body(fact(replay, "/body").to_owned());
            let reply = Reply::to(request).await;
            if fact(replay, "/path") == "users" {
                // In that version API keys could create accounts.
                assert_eq!(reply.rejected(403), "forbidden");
                continue;
            }
            assert_eq!(reply.status, replay["status"], "{replay}: {}", reply.text);
            assert_same_fields(&reply.json(), &replay["answer"]);
        }
        server.assert_invariants().await;
    }
}

/// Fails unless the answer has all fields of the old one with their values; it may have more. Ignores values that differ for
/// each request, and the texts of rejections.
#[track_caller]
fn assert_same_fields(answer: &Value, old: &Value) {
    for (name, value) in old.as_object().expect("an answer is an object") {
        if !["requestId", "instance", "detail", "title", "type"].contains(&name.as_str()) {
            assert_eq!(&answer[name], value, "{name} of {answer}");
        }
    }
}
