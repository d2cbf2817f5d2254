//! `GET /events`: the list, and the stream of new events.

mod admin;
mod follow;

use serde_json::{Value, json};

use crate::support::{Client, Server};

/// A book with these codes, which `ann` holds.
async fn held(server: &Server, codes: &[&str]) -> String {
    let book = server.book(json!({})).await;
    server.plant(&book, codes).await;
    for code in codes {
        server.give(code, "ann").await;
    }
    book
}

/// A client with an API key that is limited to a book.
async fn key_of(server: &Server, book: &str) -> Client {
    let key = json!({"name": "A limited key", "couponBookIds": [book]});
    let made = server.admin().post("api-keys", key).await.expect(201);
    server.anonymous().with_key(made["key"].as_str().expect("a key"))
}

/// The values of a field of all items of a page.
fn all<'a>(page: &'a Value, field: &str) -> Vec<&'a str> {
    let items = page["data"].as_array().expect("a page").iter();
    items.map(|item| item[field].as_str().unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_newest_first_by_each_filter_and_page_by_page() {
    let server = Server::start().await;
    let book = held(&server, &["ONE-1", "TWO-2"]).await;
    let other = held(&server, &["THREE-3"]).await;
    let service = server.service();
    service.post("coupons/ONE-1/lock", json!({"userId": "ann"})).await.expect(200);
    service.post("coupons/ONE-1/redeem", json!({"userId": "ann"})).await.expect(200);
    let page = service.get("events").await.expect(200);
    assert_eq!(all(&page, "action"), ["REDEEM", "LOCK", "ASSIGN", "ASSIGN", "ASSIGN"]);
    assert_eq!(all(&page, "code"), ["ONE-1", "ONE-1", "THREE-3", "TWO-2", "ONE-1"]);
    assert_eq!(page["nextCursor"], Value::Null);
    let actor = page["data"][0]["actor"].as_str().expect("an actor").to_owned();
    let at = page["data"][1]["at"].as_str().expect("a time").to_owned();
    for (query, count) in [
        (format!("couponBookId={book}"), 4),
        (format!("couponBookId={other}"), 1),
        ("userId=ann".to_owned(), 5),
        ("userId=bob".to_owned(), 0),
        ("action=ASSIGN".to_owned(), 3),
        (format!("actor={actor}"), 2),
        (format!("from={at}"), 2),
        (format!("to={at}"), 3),
        (format!("from={at}&to={at}"), 0),
        (format!("couponBookId={book}&action=LOCK&userId=ann&actor={actor}&from={at}&follow=false"), 1),
    ] {
        let page = service.get(&format!("events?{query}")).await.expect(200);
        assert_eq!(page["data"].as_array().map(Vec::len), Some(count), "{query}");
    }
    let (mut actions, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = service.get(&format!("events?limit=2{cursor}")).await.expect(200);
        actions.extend(all(&page, "id").into_iter().map(str::to_owned));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(actions, all(&page, "id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_filters_of_events_are_rejected_with_the_field() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let service = server.service();
    let id = uuid::Uuid::now_v7();
    for (query, field) in [
        ("action=STEAL", "action"),
        ("action=assign", "action"),
        ("from=2027-01-02T00:00:00Z&to=2027-01-01T00:00:00Z", "to"),
        ("cursor=odd", "cursor"),
        ("cursor=1.2", "cursor"),
        ("limit=0", "limit"),
        ("userId=%20", "userId"),
        ("actor=%00", "actor"),
        ("follow=true&limit=5", "limit"),
        ("follow=true&from=2027-01-02T00:00:00Z", "from"),
        ("follow=true&to=2027-01-02T00:00:00Z", "to"),
        (&format!("follow=true&cursor=1.5.{id}"), "cursor"),
    ] {
        let reply = service.get(&format!("events?{query}")).await;
        assert_eq!(reply.json()["errors"][0]["field"], field, "{query} {}", reply.text);
        assert_eq!(reply.rejected(422), "invalid", "{query}");
    }
    let unknown = format!("events?couponBookId={id}");
    assert_eq!(service.get(&unknown).await.rejected(404), "not_found");
    let foreign = server.another_admin().await.get(&format!("events?couponBookId={book}")).await;
    assert_eq!(foreign.rejected(404), "not_found");
    for query in ["", "?follow=true"] {
        assert_eq!(server.user("ann").get(&format!("events{query}")).await.rejected(403), "forbidden");
        assert_eq!(server.anonymous().get(&format!("events{query}")).await.rejected(401), "unauthorized");
    }
    assert!(!server.app.is_following_events(), "a rejected stream is polled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_book_and_another_business_see_only_their_events_and_codes() {
    let server = Server::start().await;
    let book = held(&server, &["AB-1", "AB-2"]).await;
    let other = held(&server, &["AB-3"]).await;
    let limited = key_of(&server, &book).await;
    assert_eq!(all(&limited.get("events").await.expect(200), "code"), ["AB-2", "AB-1"]);
    assert_eq!(limited.get(&format!("events?couponBookId={other}")).await.rejected(403), "forbidden");
    assert_eq!(
        limited.get(&format!("events?follow=true&couponBookId={other}")).await.rejected(403),
        "forbidden"
    );
    assert_eq!(all(&limited.get("coupons?q=ab").await.expect(200), "code"), ["AB-1", "AB-2"]);
    assert_eq!(
        all(&server.service().get("coupons?q=%20ab-").await.expect(200), "code"),
        ["AB-1", "AB-2", "AB-3"]
    );
    let another = server.another_admin().await;
    assert_eq!(another.get("events").await.expect(200)["data"], json!([]));
    assert_eq!(another.get("coupons?q=AB").await.expect(200)["data"], json!([]));
    assert_eq!(server.user("ann").get("coupons?q=AB").await.rejected(403), "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_are_found_page_by_page_and_listed_by_each_filter() {
    let server = Server::start().await;
    let book = server.book(json!({"maxRedeemsPerUser": 2})).await;
    server.plant(&book, &["AB-1", "AB-2", "AB-3", "C-4"]).await;
    for (code, user) in [("AB-1", "ann"), ("AB-3", "bob"), ("C-4", "ann")] {
        server.give(code, user).await;
    }
    let service = server.service();
    service.post("coupons/AB-3/redeem", json!({"userId": "bob"})).await.expect(200);
    let first = service.get("coupons?q=ab&limit=2").await.expect(200);
    assert_eq!(all(&first, "code"), ["AB-1", "AB-2"]);
    let next = first["nextCursor"].as_str().expect("a cursor");
    assert_eq!(all(&service.get(&format!("coupons?q=ab&cursor={next}")).await.expect(200), "code"), ["AB-3"]);
    for (query, field) in
        [("", "q"), ("?q=", "q"), ("?q=%20", "q"), ("?q=%00", "q"), ("?q=a&cursor=!", "cursor")]
    {
        let reply = service.get(&format!("coupons{query}")).await;
        assert_eq!(reply.json()["errors"][0]["field"], field, "{query} {}", reply.text);
        assert_eq!(reply.rejected(422), "invalid", "{query}");
    }
    let path = format!("coupon-codes/book/{book}");
    let job = service.get("jobs?kind=IMPORT_CODES").await.expect(200)["data"][0]["id"].clone();
    let job = job.as_str().expect("an id");
    let assigned = service.get("coupons/AB-3").await.expect(200)["assignedAt"].clone();
    let assigned = assigned.as_str().expect("a time");
    for (query, codes) in [
        ("userId=ann".to_owned(), vec!["AB-1", "C-4"]),
        ("userId=ann&prefix=C".to_owned(), vec!["C-4"]),
        ("userId=ann&status=REDEEMED".to_owned(), vec![]),
        (format!("jobId={job}"), vec!["AB-1", "AB-2", "AB-3", "C-4"]),
        (format!("jobId={job}&status=AVAILABLE"), vec!["AB-2"]),
        (format!("assignedFrom={assigned}"), vec!["AB-3", "C-4"]),
        (format!("assignedTo={assigned}"), vec!["AB-1"]),
        (format!("userId=ann&assignedFrom={assigned}"), vec!["C-4"]),
        ("redeemedFrom=2020-01-01T00:00:00Z".to_owned(), vec!["AB-3"]),
        ("redeemedTo=2020-01-01T00:00:00Z".to_owned(), vec![]),
    ] {
        let page = service.get(&format!("{path}?{query}")).await.expect(200);
        assert_eq!(all(&page, "code"), codes, "{query}");
        assert_eq!(page["total"], Value::Null, "{query}");
    }
    let first = service.get(&format!("{path}?userId=ann&limit=1")).await.expect(200);
    let next = first["nextCursor"].as_str().expect("a cursor");
    let rest = service.get(&format!("{path}?userId=ann&cursor={next}")).await.expect(200);
    assert_eq!((all(&first, "code"), all(&rest, "code")), (vec!["AB-1"], vec!["C-4"]));
    for (query, field) in [
        ("assignedFrom=2027-01-02T00:00:00Z&assignedTo=2027-01-01T00:00:00Z", "assignedTo"),
        ("redeemedFrom=2027-01-02T00:00:00Z&redeemedTo=2027-01-01T00:00:00Z", "redeemedTo"),
        ("userId=ann&cursor=AB-1", "cursor"),
        (&format!("cursor={next}"), "cursor"),
    ] {
        let reply = service.get(&format!("{path}?{query}")).await;
        assert_eq!(reply.json()["errors"][0]["field"], field, "{query} {}", reply.text);
        assert_eq!(reply.rejected(422), "invalid", "{query}");
    }
    let unknown = service.get(&format!("{path}?jobId={}", uuid::Uuid::now_v7())).await;
    assert_eq!(unknown.rejected(404), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn books_of_another_business_are_forbidden_and_of_the_own_one_are_all() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let own = server.admin().get(&format!("coupon-books?businessId={}", server.business)).await.expect(200);
    assert_eq!(all(&own, "id"), [book]);
    let other = format!("coupon-books?businessId={}", uuid::Uuid::now_v7());
    assert_eq!(server.admin().get(&other).await.rejected(403), "forbidden");
}
