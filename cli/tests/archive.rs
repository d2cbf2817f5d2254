//! `cuponera archive`, beside a running installation.

use std::fs;

use cuponera_testkit::eventually;
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

/// Inserts five events of the third month before this one, and waits until they are sealed.
async fn insert_old_events(database: &PgPool) {
    for sql in [
        "select coupon_event_make_month(now() - interval '3 months')",
        "insert into coupon_event (id, at, business_id, book_id, position, version, from_status, to_status, action, actor, user_id)
         select gen_random_uuid(), (date_trunc('month', now() at time zone 'UTC') - interval '3 months' + interval '10 days') at time zone 'UTC',
                (select id from business limit 1), gen_random_uuid(), n, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'test', 'ana-needle'
         from generate_series(1, 5) n",
    ] {
        query(sql).execute(database).await.expect("inserting failed");
    }
    eventually("the events to be sealed", async || {
        let sealed = "select exists (select from audit_seal where log = 'COUPON')";
        query_scalar::<_, bool>(sealed).fetch_one(database).await.expect("reading failed").then_some(())
    })
    .await;
}

#[tokio::test]
async fn beside_a_running_installation_an_old_month_is_moved_to_a_file_that_a_verification_reads() {
    let installation = Installation::new();
    let mut up = installation.up().await;
    let database = installation.database().await;
    insert_old_events(&database).await;
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
    assert_eq!(preview, json!({"months": [{"month": old, "events": 5, "obstacle": null}]}));

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
    assert_eq!(
        (code, &result["archived"], &result["absentFiles"]),
        (Some(0), &json!(5), &json!([name])),
        "{result}"
    );
    assert!(complaint.contains("is not in the file store"), "{complaint}");
    let (code, printed, complaint) = run(&installation, &["archive", "--before", &previous, "--yes"]).await;
    assert_eq!((code, printed.as_str()), (Some(0), "there was no month to archive\n"), "{complaint}");
    up.stop().await;
}
