//! Statistics over HTTP.

use cuponera_testkit::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, Server};

/// Each user has a code of the book; `ana` has redeemed hers.
async fn used_book(server: &Server) -> String {
    let book = server.book(json!({"maxCodesPerUser": 2})).await;
    server.plant(&book, &["A-1", "A-2", "A-3", "A-4"]).await;
    let service = server.service();
    for (code, user) in [("A-1", "ana"), ("A-2", "leo"), ("A-3", "ana")] {
        service.post(&format!("assignments/{code}"), json!({"userId": user})).await.expect(201);
    }
    service.post("coupons/A-1/lock", json!({"userId": "ana"})).await.expect(200);
    service.post("coupons/A-1/redeem", json!({"userId": "ana"})).await.expect(200);
    book
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_and_the_business_have_their_numbers_a_second_later_at_most() {
    let server = Server::start().await;
    let book = used_book(&server).await;
    for path in [format!("coupon-books/{book}/stats"), "stats".to_owned()] {
        let found = server.service().get(&path).await.expect(200);
        assert_eq!(found.get("couponBookId"), path.contains("books").then(|| json!(book)).as_ref());
        assert_eq!(
            found["totals"],
            json!({"assigned": 3, "locked": 1, "unlocked": 0, "lockExpired": 0, "redeemed": 1, "revoked": 0, "rolledBack": 0,
                   "voided": 0})
        );
        assert_eq!(found["funnel"], json!({"generated": 4, "assigned": 3, "locked": 1, "redeemed": 1}));
        assert_eq!(
            found["counts"],
            json!({"available": 1, "assigned": 2, "locked": 0, "redeemed": 1, "void": 0})
        );
        assert_eq!(
            found["rates"],
            json!({"assignedOfGenerated": 0.75, "redeemedOfAssigned": 0.3333, "lockToRedeem": 1.0})
        );
        assert_eq!(found["timeToRedeem"], json!({"medianSeconds": 1.0, "p90Seconds": 1.0}));
        let series = found["series"].as_array().expect("a series");
        assert_eq!(
            (series.len(), &found["interval"], &found["timeZone"]),
            (31, &json!("day"), &json!("UTC"))
        );
        assert_eq!(series[30]["assigned"], 3);
        assert!(series[..30].iter().all(|day| day["assigned"] == 0 && day["redeemed"] == 0), "{series:?}");
        let holders = eventually("the top holders to be listed", async || {
            let found = server.service().get(&path).await.expect(200);
            (found["topHoldersAsOf"].is_string()).then(|| found["topHolders"].clone())
        });
        assert_eq!(holders.await, json!([{"userId": "ana", "held": 2}, {"userId": "leo", "held": 1}]));
    }
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_widened_and_a_book_without_events_has_zeros_and_no_rates() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let path = format!(
        "coupon-books/{book}/stats?from=2027-03-27T23:30:00Z&to=2027-03-29T10:00:00Z&interval=day&timeZone=Europe/Madrid"
    );
    let found = server.service().get(&path).await.expect(200);
    let begins: Vec<&Value> =
        found["series"].as_array().expect("a series").iter().map(|day| &day["at"]).collect();
    assert_eq!(begins, ["2027-03-27T23:00:00Z", "2027-03-28T22:00:00Z"], "the first day has 23 hours");
    assert_eq!(
        (&found["from"], &found["to"]),
        (&json!("2027-03-27T23:00:00Z"), &json!("2027-03-29T22:00:00Z"))
    );
    assert_eq!(
        found["rates"],
        json!({"assignedOfGenerated": null, "redeemedOfAssigned": null, "lockToRedeem": null})
    );
    assert_eq!(found["timeToRedeem"], json!({"medianSeconds": null, "p90Seconds": null}));
    assert_eq!(found["topHolders"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_window_is_422_and_names_its_parameter() {
    let server = Server::start().await;
    let cases = [
        ("from=2027-01-02T00:00:00Z&to=2027-01-01T00:00:00Z", "from"),
        ("from=2027-01-01T00:00:00Z&to=2027-03-01T00:00:00Z&interval=hour", "from"),
        ("from=0001-01-01T00:00:00Z&to=9999-01-01T00:00:00Z&interval=month", "from"),
        ("to=%2B10000-01-01T00:00:00Z", "to"),
        ("interval=year", "interval"),
        ("timeZone=Mars/Olympus", "timeZone"),
        ("timeZone=UTC%00", "timeZone"),
        ("timeZone=UTC%2B2", "timeZone"),
        ("timeZone=ABC-0:10&interval=hour", "timeZone"),
        ("zone=UTC", "zone"),
    ];
    for (query, field) in cases {
        let problem = server.service().get(&format!("stats?{query}")).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], field, "{query}: {problem}");
    }
    let nowhere = "coupon-books/01939f2a-0000-7000-8000-000000000004/stats";
    assert_eq!(server.service().get(nowhere).await.expect(404)["code"], "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_one_book_sees_the_statistics_of_that_book_alone() {
    let server = Server::start().await;
    let (book, other) = (server.book(json!({})).await, server.book(json!({})).await);
    let wanted = json!({"name": "till", "role": "SERVICE", "couponBookIds": [book], "permissions": ["statistics:read"]});
    let made = server.admin().post("api-keys", wanted).await.expect(201);
    let client = server.anonymous().with_key(made["key"].as_str().expect("a key"));
    client.get(&format!("coupon-books/{book}/stats")).await.expect(200);
    for path in [format!("coupon-books/{other}/stats"), "stats".to_owned()] {
        let reply = Reply::to(client.request(Method::GET, &path)).await;
        assert_eq!(reply.expect(403)["code"], "forbidden");
    }
}
