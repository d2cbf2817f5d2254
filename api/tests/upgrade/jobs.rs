//! Jobs of an earlier version, ended and open.

use serde_json::json;

use super::{fact, installations};
use crate::support::{Limits, wait_for_job};

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_had_ended_are_as_they_were_and_the_others_are_worked_to_their_end() {
    for (server, facts) in installations(Limits::default()).await {
        let admin = server.admin();
        let job = |name: &str| format!("jobs/{}", fact(&facts, &format!("/jobs/{name}")));
        for (name, status, succeeded) in [
            ("generated summer", "SUCCEEDED", 6000),
            ("imported", "SUCCEEDED", 526),
            ("failed", "FAILED", 0),
            ("cancelled", "CANCELLED", 0),
            ("cancelled early", "CANCELLED", 0),
        ] {
            let job = admin.get(&job(name)).await.expect(200);
            assert_eq!(
                (&job["status"], &job["progress"]["succeeded"]),
                (&json!(status), &json!(succeeded)),
                "{name}: {job}"
            );
        }
        let errors = admin.get(&format!("{}/errors", job("imported"))).await;
        for reason in ["duplicate_in_file", "too_short", "bad_character", "bad_user_id", "user_limit_reached"]
        {
            assert!(errors.text.contains(reason), "{reason} in {}", errors.text);
        }
        for (name, succeeded, failed) in [
            ("running", 30, 0),
            ("queued", 30, 0),
            ("half done", 120, 0),
            ("queued import", 2, 1),
            ("queued import with holders", 2, 0),
        ] {
            let ended = wait_for_job(&admin, fact(&facts, &format!("/jobs/{name}"))).await;
            let progress = &ended["progress"];
            assert_eq!(ended["status"], "SUCCEEDED", "{name}: {ended}");
            assert_eq!(
                (&progress["succeeded"], &progress["failed"]),
                (&json!(succeeded), &json!(failed)),
                "{name}"
            );
        }
        assert_eq!(admin.get("coupons/LATE-003").await.expect(200)["userId"], "eva");
        let retry = admin.post(&format!("{}/retry", job("failed")), json!({})).await;
        assert_eq!(retry.status, 202, "{}", retry.text);
        server.assert_invariants().await;
    }
}
