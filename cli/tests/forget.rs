//! `cuponera forget`, beside a running installation.

use std::fs;
use std::path::Path;

use cuponera_testkit::eventually;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, PgTransaction, query, query_scalar};

use crate::support::{Admin, Installation, PASSWORD, Process, http};

const USER: &str = "ana-needle";
const USER_EMAIL: &str = "ana-needle@shop.test";
const USER_PASSWORD: &str = "a password of the user";

/// Runs the command; returns the exit status, standard output and standard error.
async fn forget(installation: &Installation, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut process = Process::spawn(&mut installation.verb(&[&["forget"], arguments].concat()));
    let status = process.ended().await;
    (status.code(), process.stdout(), process.stderr())
}

/// A book with codes; of an import the user holds one, and another row is rejected. Then an export, whose job is returned.
async fn work(admin: &Admin) -> Value {
    let book = admin.post("coupon-books", &json!({"name": "Summer"}), 201).await["id"].clone();
    let book = book.as_str().expect("an id");
    let request = admin.request(Method::PATCH, &format!("coupon-books/{book}"));
    admin.json(request.json(&json!({"status": "ACTIVE"})), 200).await;
    let user = json!({"email": USER_EMAIL, "password": USER_PASSWORD, "role": "USER", "userId": USER});
    admin.post("users", &user, 201).await;
    let file = format!("code,userId\r\nSUMMER1,{USER}\r\nSUMMER2,\r\nSUMMER1,{USER}\r\n");
    let upload = admin.request(Method::POST, &format!("coupon-codes/upload?couponBookId={book}"));
    let import = admin.json(upload.header("Content-Type", "text/csv").body(file), 202).await;
    let import = admin.over(&import).await;
    assert_eq!(import["progress"]["failed"], 1, "{import}");
    admin.post("coupons/SUMMER1/redeem", &json!({"userId": USER}), 200).await;
    let export = admin.post("exports", &json!({"kind": "CODES", "couponBookId": book}), 202).await;
    let export = admin.over(&export).await;
    assert_eq!(export["status"], "SUCCEEDED", "{export}");
    export
}

async fn tables_with(database: &PgPool, text: &str) -> Vec<String> {
    let tables = "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                  where n.nspname = 'public' and c.relkind in ('r', 'p') and not c.relispartition order by 1";
    let tables: Vec<String> = query_scalar(tables).fetch_all(database).await.expect("reading failed");
    let mut found = Vec::new();
    for table in tables {
        let sql = format!("select exists (select from {table} t where position($1 in t::text) > 0)");
        let has: bool =
            query_scalar(AssertSqlSafe(sql)).bind(text).fetch_one(database).await.expect("reading failed");
        if has {
            found.push(table);
        }
    }
    found
}

/// The files below a folder that contain the text.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("reading failed").path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if String::from_utf8_lossy(&fs::read(&path).expect("reading failed")).contains(text) {
            found.push(path.display().to_string());
        }
    }
    found
}

async fn log_in(up: &Process) -> u16 {
    let base = up.banner("API").expect("an address");
    let body = json!({"email": USER_EMAIL, "password": USER_PASSWORD});
    http().post(format!("{base}/auth/login")).json(&body).send().await.expect("no answer").status().as_u16()
}

#[tokio::test]
async fn beside_a_running_installation_a_user_is_erased_and_the_chain_remains_valid() {
    let installation = Installation::new();
    let mut up = installation.up().await;
    let admin = up.log_in(PASSWORD).await;
    let export = work(&admin).await;
    assert_eq!(log_in(&up).await, 200);
    let database = installation.database().await;
    let files = installation.data_dir().join("files");
    assert!(!files_with(&files, USER).is_empty());
    eventually("events to be sealed", async || {
        let sealed = "select exists (select from audit_seal where log = 'COUPON')";
        query_scalar::<_, bool>(sealed).fetch_one(&database).await.expect("reading failed").then_some(())
    })
    .await;

    let (code, _, complaint) = forget(&installation, &["--user", USER]).await;
    assert!(code == Some(2) && complaint.contains("--yes"), "{complaint}");
    let (code, _, complaint) = forget(&installation, &["--user", "bob", "--yes"]).await;
    assert!(code == Some(1) && complaint.contains("has no user \"bob\""), "{complaint}");
    let (code, printed, complaint) = forget(&installation, &["--user", USER, "--dry-run", "--json"]).await;
    assert_eq!(code, Some(0), "{complaint}");
    let preview: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((&preview["coupons"], &preview["hasAccount"]), (&json!(1), &json!(true)), "{preview}");
    assert_eq!(log_in(&up).await, 200);

    let (code, printed, complaint) =
        forget(&installation, &["--business", "My business", "--user", USER, "--yes", "--json"]).await;
    assert_eq!(code, Some(0), "{complaint}");
    let erased: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!((&erased["coupons"], &erased["hadAccount"]), (&json!(1), &json!(true)), "{erased}");
    assert_eq!(erased["deletedExports"], json!([export["id"]]), "{erased}");
    assert_eq!(tables_with(&database, USER).await, Vec::<String>::new());
    assert_eq!(files_with(&files, USER), Vec::<String>::new());
    assert_eq!(log_in(&up).await, 401);
    let path = format!("jobs/{}/file", export["id"].as_str().expect("an id"));
    let gone = admin.json(admin.request(Method::GET, &path), 410).await;
    assert_eq!(gone["code"], "export_expired", "{gone}");
    let coupon = admin.get("coupons/SUMMER1").await;
    assert_eq!(coupon["userId"], erased["pseudonym"], "{coupon}");

    let mut verify = Process::spawn(&mut installation.verb(&["audit", "verify"]));
    assert_eq!(verify.ended().await.code(), Some(0), "{}{}", verify.stdout(), verify.stderr());
    up.stop().await;
    let (code, _, complaint) = forget(&installation, &["--user", USER, "--yes"]).await;
    assert!(code == Some(1) && complaint.contains("has no user"), "{complaint}");
}

/// The command waits for a coupon that a transaction holds when the signal comes.
#[tokio::test]
async fn an_erasure_that_a_signal_ends_is_continued_with_the_same_pseudonym() {
    let installation = Installation::new();
    let mut up = installation.up().await;
    let admin = up.log_in(PASSWORD).await;
    work(&admin).await;
    let database = installation.database().await;
    let mut holding = database.begin().await.expect("beginning failed");
    let hold = "select from coupon where code = 'SUMMER1' for update";
    query(hold).execute(&mut *holding).await.expect("the coupon does not exist");
    let mut process = Process::spawn(&mut installation.verb(&["forget", "--user", USER, "--yes"]));
    eventually("the command to wait", async || {
        let waits = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
        query_scalar::<_, bool>(waits).fetch_one(&database).await.expect("reading failed").then_some(())
    })
    .await;
    process.signal(Signal::TERM);
    let status = process.ended().await;
    assert!(
        status.code() == Some(1) && process.stderr().contains("a signal stopped"),
        "{}",
        process.stderr()
    );
    holding.rollback().await.expect("rolling back failed");
    let pseudonym: String = query_scalar("select pseudonym from erasure")
        .fetch_one(&database)
        .await
        .expect("the erasure is not stored");
    let (code, printed, complaint) = forget(&installation, &["--user", USER, "--yes", "--json"]).await;
    assert!(code == Some(0) && complaint.contains("continuing an erasure"), "{complaint}");
    let erased: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(erased["pseudonym"], pseudonym, "{erased}");
    assert_eq!(tables_with(&database, USER).await, Vec::<String>::new());
    up.stop().await;
}

/// Waits until the command waits for a lock of this table.
async fn wait_for_lock_of_recipient_keys(database: &PgPool) {
    eventually("the command to wait for the table", async || {
        let waits = "select exists (select from pg_locks where relation = 'recipient_key'::regclass and not granted
                                      and database = (select oid from pg_database where datname = current_database()))";
        query_scalar::<_, bool>(waits).fetch_one(database).await.expect("reading failed").then_some(())
    })
    .await;
}

/// The job may have read the id before the last pass, and may write it into its file.
#[tokio::test]
async fn an_erasure_deletes_no_files_if_a_job_was_submitted_during_its_last_pass() {
    let installation = Installation::new();
    let mut up = installation.up().await;
    let admin = up.log_in(PASSWORD).await;
    let export = work(&admin).await;
    let database = installation.database().await;
    let files = installation.data_dir().join("files");
    let begin = async || database.begin().await.expect("beginning failed");
    let run = async |transaction: &mut PgTransaction<'static>, sql: &'static str| {
        query(sql).execute(&mut **transaction).await.expect("the statement failed");
    };
    let lock = "lock table recipient_key in access exclusive mode";
    // The first pass waits for the table, and after it the command waits for a transaction that began meanwhile.
    let (mut first, mut earlier) = (begin().await, begin().await);
    run(&mut first, lock).await;
    let mut process = Process::spawn(&mut installation.verb(&["forget", "--user", USER, "--yes"]));
    wait_for_lock_of_recipient_keys(&database).await;
    run(&mut earlier, "select pg_current_xact_id()").await;
    first.rollback().await.expect("rolling back failed");
    eventually("the command to wait for the transaction", async || {
        let waits = "select exists (select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                                      and query like 'select pg_snapshot_xmin(pg_current_snapshot()) >= $1%')";
        query_scalar::<_, bool>(waits).fetch_one(&database).await.expect("reading failed").then_some(())
    })
    .await;
    // The second pass is the last one. When it waits for the table, it has looked for open jobs.
    let mut second = begin().await;
    run(&mut second, lock).await;
    earlier.rollback().await.expect("rolling back failed");
    wait_for_lock_of_recipient_keys(&database).await;
    let submit = "insert into job (id, business_id, kind, created_by, work, chunks_total)
                  select gen_random_uuid(), id, 'IMPORT_CODES', 'service:test', '{}', 1 from business returning id::text";
    let job: String = query_scalar(submit).fetch_one(&database).await.expect("the job was not inserted");
    second.rollback().await.expect("rolling back failed");

    let status = process.ended().await;
    let complaint = process.stderr();
    assert!(
        status.code() == Some(1)
            && complaint.contains("these jobs may write the id")
            && complaint.contains(&job),
        "{status} {complaint}"
    );
    assert_ne!(files_with(&files, USER), Vec::<String>::new(), "files were deleted");
    let cancel = "update job set status = 'CANCELLED', finished_at = now() where id::text = $1";
    query(cancel).bind(&job).execute(&database).await.expect("cancelling failed");
    let (code, printed, complaint) = forget(&installation, &["--user", USER, "--yes", "--json"]).await;
    assert!(code == Some(0) && complaint.contains("continuing an erasure"), "{complaint}");
    let erased: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(erased["deletedExports"], json!([export["id"]]), "{erased}");
    assert_eq!(files_with(&files, USER), Vec::<String>::new());
    up.stop().await;
}
