//! Lists of books and codes: filters, pages, totals, and the fields that a USER sees.

use cuponera_store::MAX_NEIGHBORS_EXAMINED;
use serde_json::{Value, json};

use crate::support::{Client, Limits, Server};

/// One field of all items, read page by page, and the last total that a page had.
async fn pages(client: &Client, path: &str, limit: usize, field: &str) -> (Vec<String>, Option<u64>) {
    let (mut items, mut cursor, mut total) = (Vec::new(), String::new(), None);
    loop {
        let separator = if path.contains('?') { '&' } else { '?' };
        let page = client.get(&format!("{path}{separator}limit={limit}{cursor}")).await.expect(200);
        let data = page["data"].as_array().expect("items");
        assert!(data.len() <= limit);
        items.extend(data.iter().map(|item| item[field].as_str().expect("text").to_owned()));
        total = page["total"].as_u64().or(total);
        match &page["nextCursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => return (items, total),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn books_are_listed_newest_first_by_status_and_name_page_by_page_with_their_total() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    for number in 0..7 {
        let fields =
            json!({"name": format!("{} {number}", if number % 2 == 0 { "Summer 100%" } else { "Winter" })});
        if number < 3 {
            server.book(fields).await
        } else {
            server.draft(fields).await
        };
    }
    server.another_admin().await.post("coupon-books", json!({"name": "Theirs"})).await.expect(201);
    let admin = server.admin();
    let names = |numbers: &[u8]| -> Vec<String> {
        numbers.iter().map(|n| format!("{} {n}", if n % 2 == 0 { "Summer 100%" } else { "Winter" })).collect()
    };
    assert_eq!(pages(&admin, "coupon-books", 3, "name").await, (names(&[6, 5, 4, 3, 2, 1, 0]), Some(7)));
    assert_eq!(pages(&admin, "coupon-books?status=ACTIVE", 2, "name").await, (names(&[2, 1, 0]), Some(3)));
    assert_eq!(pages(&admin, "coupon-books?q=winter", 500, "name").await, (names(&[5, 3, 1]), Some(3)));
    assert_eq!(
        pages(&admin, "coupon-books?q=100%25&status=DRAFT", 1, "name").await,
        (names(&[6, 4]), Some(2))
    );
    assert_eq!(pages(&admin, "coupon-books?q=%25%25", 1, "name").await, (Vec::new(), Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_active_books_only() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let (active, draft) = (server.book(json!({})).await, server.draft(json!({})).await);
    let ann = server.user("ann");
    assert_eq!(pages(&ann, "coupon-books", 50, "id").await, (vec![active.clone()], Some(1)));
    ann.get(&format!("coupon-books/{active}")).await.expect(200);
    let hidden = ann.get(&format!("coupon-books/{draft}")).await;
    let unknown = ann.get(&format!("coupon-books/{}", uuid::Uuid::now_v7())).await;
    assert_eq!(
        (hidden.status, &hidden.text),
        (404, &unknown.text),
        "the answers for a draft and for an unknown book differ"
    );
    assert_eq!(ann.get("coupon-books?status=DRAFT").await.rejected(403), "forbidden");
}

/// The fields of a book that a USER gets. A new field is not among them until it is added here.
const FOR_USERS: [&str; 18] = [
    "businessId",
    "codeKind",
    "codeValidDays",
    "createdAt",
    "description",
    "discount",
    "expiresAt",
    "id",
    "isActive",
    "isExpired",
    "lockTtlSeconds",
    "maxCodesPerUser",
    "maxRedeemsPerUser",
    "name",
    "requireLock",
    "startsAt",
    "status",
    "updatedAt",
];
/// The additional fields for the other roles.
const FOR_OWNERS: [&str; 4] = ["counts", "generatedCount", "metadata", "totalCodesExpected"];

#[tokio::test(flavor = "multi_thread")]
async fn a_user_gets_what_a_holder_needs_of_a_book_and_its_owner_gets_all() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let plan = json!({"totalCodesExpected": 5, "metadata": {"budget": 100}});
    let planned = server.book(plan).await;
    for book in [planned, server.book(json!({})).await] {
        let all = [&FOR_USERS[..], &FOR_OWNERS[..]].concat();
        let callers = [
            (server.admin(), all.clone()),
            (server.service(), all),
            (server.user("ann"), FOR_USERS.to_vec()),
        ];
        for (client, mut expected) in callers {
            expected.sort_unstable();
            let one = client.get(&format!("coupon-books/{book}")).await.expect(200);
            let list = client.get("coupon-books").await.expect(200);
            let listed = list["data"].as_array().expect("items").iter().find(|item| item["id"] == one["id"]);
            assert_eq!(listed, Some(&one), "the list and the single book differ");
            let mut fields: Vec<_> = one.as_object().expect("an object").keys().collect();
            fields.sort_unstable();
            assert_eq!(fields, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_are_listed_by_status_and_prefix_page_by_page() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["AA-1", "AA-2", "AA_3", "BB-1", "BB-2"]).await;
    server.give("BB-1", "ann").await;
    let (admin, path) = (server.admin(), format!("coupon-codes/book/{book}"));
    let (mut all, total) = pages(&admin, &path, 2, "code").await;
    all.sort();
    assert_eq!((all.join(" ").as_str(), total), ("AA-1 AA-2 AA_3 BB-1 BB-2", Some(5)));
    let (mut dashes, _) = pages(&admin, &format!("{path}?prefix=aa-"), 1, "code").await;
    dashes.sort();
    assert_eq!(dashes, ["AA-1", "AA-2"]);
    assert_eq!(pages(&admin, &format!("{path}?prefix=aa_"), 1, "code").await.0, ["AA_3"]);
    assert_eq!(pages(&admin, &format!("{path}?status=ASSIGNED"), 1, "code").await.0, ["BB-1"]);
    assert_eq!(pages(&admin, &format!("{path}?prefix=BB&status=AVAILABLE"), 1, "code").await.0, ["BB-2"]);
    let given = admin.get(&format!("{path}?status=ASSIGNED")).await.expect(200);
    assert_eq!(given["data"][0]["userId"], "ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_may_be_empty_before_the_end_and_the_cursor_alone_says_whether_there_is_more() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    let codes: Vec<_> = (0..MAX_NEIGHBORS_EXAMINED + 5).map(|number| format!("M{number:06}")).collect();
    server.plant(&book, &codes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    sqlx::query(
        "with voided as (update coupon set status = 'VOID' where code = $1 returning book_id)
         insert into book_delta (book_id, available, void) select book_id, -1, 1 from voided",
    )
    .bind(codes.last())
    .execute(server.database.pool())
    .await
    .expect("changing the last code failed");
    let (admin, path) = (server.admin(), format!("coupon-codes/book/{book}"));
    let first = admin.get(&format!("{path}?status=VOID")).await.expect(200);
    assert_eq!(first["data"], json!([]));
    let cursor = first["nextCursor"].as_str().expect("the list has another page");
    let second = admin.get(&format!("{path}?status=VOID&cursor={cursor}")).await.expect(200);
    assert_eq!(second["data"].as_array().expect("items").len(), 1);
    assert_eq!((&second["data"][0]["status"], &second["nextCursor"]), (&json!("VOID"), &Value::Null));
    for absent in ["status=REDEEMED", "status=LOCKED&prefix=M", "status=ASSIGNED"] {
        let page = admin.get(&format!("{path}?{absent}")).await.expect(200);
        assert_eq!((&page["data"], &page["nextCursor"]), (&json!([]), &Value::Null), "{absent}");
    }
    assert_eq!(pages(&admin, &format!("{path}?status=VOID"), 1, "status").await.0, ["VOID"]);
}
