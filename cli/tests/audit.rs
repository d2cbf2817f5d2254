//! `cuponera audit`, beside a running installation.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use cuponera_domain::audit::{AuditKey, Log};
use cuponera_store::SealRound;
use cuponera_testkit::{TestDatabase, eventually, rules};
use serde_json::Value;
use sqlx::{query, query_scalar};

use crate::support::fleet::FleetInstallation;
use crate::support::{Installation, PASSWORD, Process};

/// Runs a subcommand of `audit`; returns the exit status, standard output and standard error.
async fn audit(installation: &Installation, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut process = Process::spawn(&mut installation.verb(&[&["audit"], arguments].concat()));
    let status = process.ended().await;
    (status.code(), process.stdout(), process.stderr())
}

async fn verified(installation: &Installation, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, printed, complaint) = audit(installation, &[&["verify", "--json"], arguments].concat()).await;
    let result = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {complaint}"));
    (code, result)
}

#[tokio::test]
async fn up_seals_with_a_key_of_its_own_and_a_verification_names_what_was_changed() {
    let installation = Installation::new();
    let mut up = installation.up().await;
    let database = installation.database().await;
    let key = installation.data_dir().join("audit.key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    // The events of the first admin. Until the index of the event log is built, nothing is sealed or verified.
    eventually("the events to be sealed", async || {
        let (code, printed, complaint) = audit(&installation, &["verify", "--json"]).await;
        assert!(code == Some(0) || complaint.contains("is being built"), "{printed}{complaint}");
        let result: Value = serde_json::from_str(&printed).unwrap_or_default();
        (result["unsealed"] == 0 && result["seals"].as_i64() > Some(0)).then_some(())
    })
    .await;
    let anchor = installation.data_dir().join("seals.jsonl");
    let anchor = anchor.to_str().unwrap();
    let (code, printed, complaint) = audit(&installation, &["export", "--out", anchor]).await;
    assert_eq!((code, printed.as_str()), (Some(0), ""), "{complaint}");
    let (code, printed, _) = audit(&installation, &["export"]).await;
    assert_eq!((code, printed), (Some(0), fs::read_to_string(anchor).unwrap()));
    let (code, printed, _) = audit(&installation, &["verify", "--anchor", anchor]).await;
    assert_eq!(code, Some(0));
    assert!(printed.starts_with("seals: ") && printed.ends_with("findings: 0\n"), "{printed}");

    let id: uuid::Uuid = query_scalar("update admin_event set actor = 'x' where (epoch, tx, id) = (
                                         select epoch, tx, id from admin_event order by epoch, tx, id limit 1) returning id")
        .fetch_one(&database)
        .await
        .unwrap();
    let (code, result) = verified(&installation, &[]).await;
    assert_eq!(code, Some(5), "{result}");
    assert_eq!(result["findings"][0]["finding"], "EVENT_CHANGED", "{result}");
    assert_eq!(result["findings"][0]["event"]["id"], id.to_string(), "{result}");
    let is_verified: bool =
        query_scalar("select findings = 0 from audit_verification").fetch_one(&database).await.unwrap();
    assert!(!is_verified);
    query("delete from audit_seal where number = (select max(number) from audit_seal)")
        .execute(&database)
        .await
        .unwrap();
    let (code, printed, _) = audit(&installation, &["verify", "--anchor", anchor]).await;
    assert_eq!(code, Some(5));
    assert!(printed.contains("is in the anchor and not in the database"), "{printed}");
    up.stop().await;

    let (code, _, complaint) = audit(&installation, &["verify", "--anchor", "absent"]).await;
    assert!(code == Some(1) && complaint.contains("absent cannot be read"), "{complaint}");
    let mut wrong = installation.verb(&["audit", "verify"]);
    let mut wrong = Process::spawn(wrong.env("CUPONERA_AUDIT_KEY", PASSWORD));
    assert_eq!(wrong.ended().await.code(), Some(1));
    assert!(
        wrong.stderr().contains("CUPONERA_AUDIT_KEY: must be 64 hexadecimal digits"),
        "{}",
        wrong.stderr()
    );
}

/// Invariant I-70.
#[tokio::test]
async fn a_worker_without_the_key_of_the_chain_seals_nothing_and_reports_it() {
    let installation = FleetInstallation::on_postgres(TestDatabase::create().await);
    let mut command = installation.command("cuponera-worker");
    let mut without_key = Process::spawn(command.env_remove("CUPONERA_AUDIT_KEY"));
    without_key.logged("this worker has no audit key: it seals no events").await;
    without_key.stop().await;
    let store = installation.database.store();
    let business = store.create_business("A business").await.unwrap();
    store.create_book(None, business, &rules()).await.unwrap();
    let key: AuditKey = "07".repeat(32).parse().unwrap();
    eventually("a chain to begin with another key", async || {
        let round = store.seal_events(&key, Log::Admin, 1).await.unwrap();
        matches!(round, SealRound::Sealed(1)).then_some(())
    })
    .await;
    store.create_book(None, business, &rules()).await.unwrap();
    let mut other = Process::spawn(&mut installation.command("cuponera-worker"));
    other
        .logged("the seals of this database were made with another audit key: this worker seals no events")
        .await;
    other.stop().await;
    let seals: i64 = query_scalar("select count(*) from audit_seal")
        .fetch_one(installation.database.pool())
        .await
        .unwrap();
    assert_eq!(seals, 1);
}
