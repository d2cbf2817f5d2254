//! How the processes of a fleet end on SIGTERM: in time, with running work finished or released.

use std::time::{Duration, Instant};

use cuponera_testkit::{bound, eventually};
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;

use super::{book, generate, upload};
use crate::support::fleet::Fleet;

#[tokio::test]
async fn an_api_that_is_told_to_end_takes_no_connection_and_finishes_what_runs() {
    let mut fleet = Fleet::on_aws(0).await;
    let admin = fleet.admin().await;
    let book = book(&admin).await;
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<std::io::Result<&'static str>>();
    let body =
        futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let request = upload(&admin, &book).body(reqwest::Body::wrap_stream(body));
    let running = tokio::spawn(request.send());
    sender.send(Ok("code\nFIRST\n")).expect("the upload has ended");
    admin.sees_a_request_run().await;

    let told = Instant::now();
    fleet.api.signal(Signal::TERM);
    eventually("connections to be refused", async || {
        TcpStream::connect(fleet.address()).await.is_err().then_some(())
    })
    .await;
    let within = bound(Duration::from_secs(1), Duration::from_secs(5));
    assert!(told.elapsed() < within, "{:?}", told.elapsed());
    sender.send(Ok("LAST\n")).expect("the upload was cut off");
    drop(sender);
    let answer = running.await.expect("the client failed").expect("the upload was cut off");
    assert_eq!(answer.status().as_u16(), 202);
    assert!(fleet.api.ended().await.success(), "{}", fleet.api.stderr());
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());

    // The address is free again.
    fleet.restart_api().await;
    fleet.add_worker().await;
    let job: serde_json::Value = answer.json().await.expect("a job");
    let job = admin.over(&job).await;
    assert_eq!((&job["status"], &job["progress"]["succeeded"]), (&json!("SUCCEEDED"), &json!(2)), "{job}");
    fleet.assert_well().await;
}

#[tokio::test]
async fn a_worker_that_is_told_to_end_in_the_middle_of_a_job_leaves_it_to_the_others() {
    let mut fleet = Fleet::on_aws(1).await;
    let admin = fleet.admin().await;
    let job = generate(&admin, &book(&admin).await, 600_000).await;
    let path = format!("jobs/{}", job["id"].as_str().expect("an id"));
    eventually("the job to run", async || (admin.get(&path).await["status"] == "RUNNING").then_some(()))
        .await;
    let took = fleet.workers[0].stop().await;
    assert!(took < Duration::from_secs(15), "{took:?}");
    let left: i64 = sqlx::query_scalar("select count(*) from job_chunk where status = 'RUNNING'")
        .fetch_one(fleet.database().pool())
        .await
        .expect("counting failed");
    assert_eq!(left, 0, "a chunk was not released");
    let before = admin.get(&path).await;
    assert_ne!(before["status"], "SUCCEEDED", "the job ended before the worker did");
    fleet.add_worker().await;
    let job = admin.over(&job).await;
    assert_eq!(
        (&job["status"], &job["progress"]["succeeded"]),
        (&json!("SUCCEEDED"), &json!(600_000)),
        "{job}"
    );
    fleet.assert_well().await;
}

#[tokio::test]
async fn a_worker_that_hangs_in_its_transaction_is_stood_in_for_and_does_no_harm_when_it_comes_back() {
    let mut fleet = Fleet::on_aws_to_freeze(1).await;
    let admin = fleet.admin().await;
    let job = generate(&admin, &book(&admin).await, 600_000).await;
    let pool = fleet.database().pool().clone();
    let writes = async || {
        let writes = "select exists (select from pg_stat_activity where datname = current_database()
                                     and state = 'active' and query ilike 'copy coupon%')";
        sqlx::query_scalar::<_, bool>(writes).fetch_one(&pool).await.expect("the query failed")
    };
    // At the worst moment: while it writes rows that the worker which takes over must also write.
    loop {
        eventually("rows to be written", async || writes().await.then_some(())).await;
        fleet.workers[0].freeze();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if writes().await {
            break;
        }
        fleet.workers[0].thaw();
    }
    fleet.add_worker().await;
    let job = admin.over(&job).await;
    assert_eq!(
        (&job["status"], &job["progress"]["succeeded"]),
        (&json!("SUCCEEDED"), &json!(600_000)),
        "{job}"
    );
    fleet.workers[0].thaw();
    eventually("the worker to notice", async || fleet.workers[0].stderr().contains("fenced").then_some(()))
        .await;
    let took = fleet.workers[0].stop().await;
    assert!(took < Duration::from_secs(15), "{took:?}");
    fleet.assert_well().await;
}
