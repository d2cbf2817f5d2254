//! `cuponera reconcile`, beside a running installation.

use cuponera_testkit::TestDatabase;
use sqlx::query;

use crate::support::{Installation, Process};

#[tokio::test]
async fn no_number_differs_until_a_row_is_changed_by_hand() {
    let (installation, database) = (Installation::new(), TestDatabase::create().await);
    let reconcile = async |arguments: &[&str]| {
        let mut command = installation.verb(&[&["reconcile"], arguments].concat());
        let mut process = Process::spawn(command.env("CUPONERA_DATABASE_URL", database.url()));
        let status = process.ended().await;
        (status.code(), process.stdout(), process.stderr())
    };
    let (code, printed, _) = reconcile(&[]).await;
    assert_eq!((code, printed.as_str()), (Some(0), "numbers that differ: 0\n"));
    let business = database.store().create_business("A business").await.expect("creating a business failed");
    let sql = "insert into stat_bucket values ($1, '2027-01-01', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)";
    query(sql).bind(business.0).execute(database.pool()).await.expect("changing a row failed");
    let (code, printed, _) = reconcile(&[]).await;
    let expected = format!(
        "{business}: assigned at 2027-01-01T00:00:00+00:00: stored 1, recounted 0\nnumbers that differ: 1\n"
    );
    assert_eq!((code, printed.as_str()), (Some(5), expected.as_str()));
    let (code, printed, _) = reconcile(&["--book", "01939f2a-0000-7000-8000-000000000004"]).await;
    assert_eq!((code, printed.as_str()), (Some(0), "numbers that differ: 0\n"));
    let (code, _, complaint) = reconcile(&["--book", "Summer"]).await;
    assert!(code == Some(2) && complaint.contains("--book"), "{complaint}");
}
