//! The state of the audit chain.

use cuponera_store::VerifyOptions;
use cuponera_testkit::eventually;
use serde_json::{Value, json};

use crate::support::Server;

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_sees_that_a_worker_seals_the_events_and_whether_they_were_verified() {
    let server = Server::start().await;
    server.book(json!({})).await;
    let state = async || server.admin().get("audit").await.expect(200);
    let sealed: Value = eventually("the events to be sealed", async || {
        let state = state().await;
        (state["seals"].as_i64() > Some(0) && state["lagSeconds"] == 0.0).then_some(state)
    })
    .await;
    assert!(sealed["sealedThrough"].is_string(), "{sealed}");
    assert_eq!(sealed.get("verifiedAt"), None, "{sealed}");
    let store = server.database.store();
    let verification = store.verify_audit(VerifyOptions::default()).await.expect("the verification failed");
    assert_eq!(verification.findings, []);
    store.record_verification(&verification).await.expect("recording failed");
    let state = state().await;
    assert_eq!(state["verified"], true, "{state}");
    assert!(state["verifiedAt"].is_string(), "{state}");
    server.service().get("audit").await.expect(403);
}
