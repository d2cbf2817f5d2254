//! `cuponera archive`, beside a running installation.

use std::fs;
use std::time::Duration;

use cuponera_testkit::eventually;
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{PgPool, query, query_scalar};

use crate::support::{Installation, Process};

/// Runs a subcommand; returns the exit status, standard output and standard error.
async fn run(installation: &Installation, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut process = Process::spawn(&mut installation.verb(arguments));
    let status = process.ended().await;
    (status.code(), process.stdout(), process.stderr())
}

async fn verified(installation: &Installation) -> (Option<i32>, Value, String) {
    let (code, printed, complaint) = run(installation, &["audit", "verify", "--json"]).await;
    let result = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {complaint}"));
    (code, result, complaint)
}

/// The month that began this many months before the current one.
async fn month(database: &PgPool, ago: i32) -> String {
    let sql = "select to_char(date_trunc('month', now() at time zone 'UTC') - make_interval(months => $1), 'YYYY-MM')";
    query_scalar(sql).bind(ago).fetch_one(database).await.expect("reading failed")
}

/// Inserts five events of the month that began this many months before the current one.
async fn insert_old_events(database: &PgPool, ago: i32) {
    for sql in [
        "select coupon_event_make_month(now() - make_interval(months => $1))",
        "insert into coupon_event (id, at, business_id, book_id, position, version, from_status, to_status, action, actor, user_id)
         select gen_random_uuid(), (date_trunc('month', now() at time zone 'UTC') - make_interval(months => $1) + interval '10 days') at time zone 'UTC',
                (select id from business limit 1), gen_random_uuid(), n, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'test', 'ana-needle'
         from generate_series(1, 5) n",
    ] {
        query(sql).bind(ago).execute(database).await.expect("inserting failed");
    }
}

async fn wait_until_sealed(database: &PgPool, events: i64) {
    eventually("the events to be sealed", async || {
        let sealed = "select coalesce(sum(count), 0)::bigint from audit_seal where log = 'COUPON'";
        let sealed: i64 = query_scalar(sealed).fetch_one(database).await.expect("reading failed");
        (sealed == events).then_some(())
    })
    .await;
}

#[tokio::test]
async fn beside_a_running_installation_an_old_month_is_moved_to_a_file_that_a_verification_reads() {
    let installation = Installation::new();
    let mut up = installation.up().await;
    let database = installation.database().await;
    insert_old_events(&database, 3).await;
    wait_until_sealed(&database, 5).await;
    let (old, previous, current) =
        (month(&database, 3).await, month(&database, 1).await, month(&database, 0).await);

    let (code, _, complaint) = run(&installation, &["archive", "--before", &previous]).await;
    assert!(code == Some(2) && complaint.contains("--yes"), "{complaint}");
    let (code, _, complaint) = run(&installation, &["archive", "--before", "2027-13", "--yes"]).await;
    assert!(code == Some(2) && complaint.contains("must be a month as in 2027-06"), "{complaint}");
    let (code, _, complaint) = run(&installation, &["archive", "--before", &current, "--yes"]).await;
    assert!(code == Some(1) && complaint.contains(&format!("{previous} is the latest")), "{complaint}");
    let (code, printed, complaint) =
        run(&installation, &["archive", "--before", &previous, "--dry-run", "--json"]).await;
    assert_eq!(code, Some(0), "{complaint}");
    let preview: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(
        preview,
        json!({"months": [{"month": old, "events": 5, "obstacle": null}], "interrupted": null})
    );
    let (code, printed, complaint) = run(&installation, &["archive", "--abandon"]).await;
    assert_eq!((code, printed.as_str()), (Some(0), "no archive was interrupted\n"), "{complaint}");

    let (code, printed, complaint) =
        run(&installation, &["archive", "--before", &previous, "--yes", "--json"]).await;
    assert_eq!(code, Some(0), "{complaint}");
    let result: Value = serde_json::from_str(&printed).expect("JSON");
    let archived = &result["archived"][0];
    assert_eq!((&archived["month"], &archived["events"]), (&json!(old), &json!(5)), "{result}");
    let name = archived["file"].as_str().expect("a name");
    let file = installation.data_dir().join("files").join(name);
    let content = fs::read_to_string(&file).expect("the file exists");
    assert_eq!((content.lines().count(), archived["bytes"].as_u64()), (5, Some(content.len() as u64)));
    assert!(!content.contains("ana-needle"));
    let (code, result, complaint) = verified(&installation).await;
    assert_eq!((code, &result["archived"], &result["found"]), (Some(0), &json!(5), &json!(0)), "{complaint}");

    fs::write(&file, content.replacen("AVAILABLE", "ASSIGNED", 1)).expect("writing failed");
    let (code, result, _) = verified(&installation).await;
    assert_eq!(
        (code, &result["findings"][0]["finding"]),
        (Some(5), &json!("ARCHIVED_EVENT_CHANGED")),
        "{result}"
    );
    fs::remove_file(&file).expect("removing failed");
    let (code, result, complaint) = verified(&installation).await;
    assert_eq!((code, &result["archived"]), (Some(5), &json!(5)), "{complaint}");
    assert_eq!(result["findings"], json!([{"finding": "ARCHIVE_FILE_ABSENT", "month": old, "file": name}]));
    let (code, printed, complaint) =
        run(&installation, &["audit", "verify", "--without-files", "--json"]).await;
    assert!(code == Some(0) && printed.contains("\"archived\":5"), "{printed} {complaint}");
    let (code, printed, complaint) = run(&installation, &["archive", "--before", &previous, "--yes"]).await;
    assert_eq!((code, printed.as_str()), (Some(0), "there was no month to archive\n"), "{complaint}");
    up.stop().await;
}

/// Its pseudonym is not in all events yet, and the file would have digests of the id.
#[tokio::test]
async fn no_month_is_archived_while_an_erasure_is_not_complete() {
    let installation = Installation::new();
    let mut up = installation.up().await;
    let database = installation.database().await;
    insert_old_events(&database, 3).await;
    wait_until_sealed(&database, 5).await;
    let begin = "insert into erasure (business_id, user_id, pseudonym, user_ids, emails)
                 select id, 'ana-needle', 'erased-1', '{ana-needle}', '{}' from business";
    query(begin).execute(&database).await.expect("inserting failed");
    let previous = month(&database, 1).await;
    let archive = ["archive", "--before", &previous, "--yes"];
    let (code, _, complaint) = run(&installation, &archive).await;
    assert!(code == Some(1) && complaint.contains("an erasure was interrupted"), "{complaint}");
    let left: i64 =
        query_scalar("select count(*) from coupon_event").fetch_one(&database).await.expect("reading failed");
    assert_eq!(left, 5);
    query("delete from erasure").execute(&database).await.expect("deleting failed");
    let (code, _, complaint) = run(&installation, &archive).await;
    assert_eq!(code, Some(0), "{complaint}");
    up.stop().await;
}

/// Months are archived one after the other, by commands that are killed at any moment.
#[tokio::test]
async fn a_command_that_is_killed_is_continued_and_no_event_is_lost() {
    let installation = Installation::new();
    let mut up = installation.up().await;
    let database = installation.database().await;
    let months = 3..=7;
    for ago in months.clone() {
        insert_old_events(&database, ago).await;
    }
    let events = 5 * i64::try_from(months.count()).expect("a few");
    wait_until_sealed(&database, events).await;
    let (oldest, previous) = (month(&database, 7).await, month(&database, 1).await);
    let archive = ["archive", "--before", &previous, "--yes"];

    // A reader of the log keeps the first month from being detached, so this command is killed after it has recorded the archive.
    let mut reader = database.begin().await.expect("a transaction");
    query("select from coupon_event limit 1").execute(&mut *reader).await.expect("reading failed");
    let mut command = Process::spawn(&mut installation.verb(&archive));
    eventually("the archive to be recorded", async || {
        let recorded = "select count(*) from audit_archive";
        let recorded: i64 = query_scalar(recorded).fetch_one(&database).await.expect("reading failed");
        (recorded > 0).then_some(())
    })
    .await;
    command.signal(Signal::KILL);
    assert!(!command.ended().await.success());
    reader.rollback().await.expect("no reader");
    let (_, preview, complaint) =
        run(&installation, &[&archive[..3], &["--dry-run", "--json"]].concat()).await;
    let preview: Value =
        serde_json::from_str(&preview).unwrap_or_else(|error| panic!("{error}: {complaint}"));
    assert_eq!(preview["interrupted"], json!(oldest), "{preview}");

    let mut delay = Duration::from_millis(40);
    for _ in 0..60 {
        let mut command = Process::spawn(&mut installation.verb(&archive));
        tokio::time::sleep(delay).await;
        command.signal(Signal::KILL);
        command.ended().await;
        let left: i64 =
            query_scalar("select count(*) from coupon_event").fetch_one(&database).await.expect("a count");
        if left == 0 {
            break;
        }
        delay = delay.mul_f64(1.06);
    }
    let (code, _, complaint) = run(&installation, &archive).await;
    assert_eq!(code, Some(0), "{complaint}");
    let (code, result, complaint) = verified(&installation).await;
    assert_eq!(
        (code, &result["archived"], &result["found"]),
        (Some(0), &json!(events), &json!(0)),
        "{result} {complaint}"
    );
    up.stop().await;
}
