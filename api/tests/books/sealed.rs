//! Lists by prefix and by user for API keys that are limited to books, and their search for codes: the pages examine the codes of all
//! books, and the cursors show none of the other books.

use cuponera_store::{MAX_NEIGHBORS_EXAMINED, MAX_SCATTERED_EXAMINED};
use serde_json::json;
use sqlx::query;

use crate::support::{Client, Limits, Server};

/// Codes of the other book, all held by `ann`. The first page ends among them.
const THEIRS: i64 = MAX_SCATTERED_EXAMINED + 500;

/// An API whose first book has one code that `ann` holds, behind all codes of the second book. Returns the first book.
async fn server_with_two_books() -> (Server, String) {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let (ours, theirs) = (server.book(json!({})).await, server.book(json!({})).await);
    // A smaller book is read as a whole.
    let codes: Vec<_> = (0..=MAX_NEIGHBORS_EXAMINED).map(|number| format!("P-Z{number:06}")).collect();
    server.plant(&ours, &codes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let codes: Vec<_> = (0..THEIRS).map(|number| format!("P-HIDDEN-{number:06}")).collect();
    server.plant(&theirs, &codes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    query(
        "update coupon set status = 'ASSIGNED', holder = 'ann', assignment_id = gen_random_uuid(), assigned_at = now()
         where code like 'P-HIDDEN-%'",
    )
    .execute(server.database.pool())
    .await
    .expect("assigning the codes failed");
    server.give("P-Z000007", "ann").await;
    (server, ours)
}

async fn limited_to(server: &Server, book: &str) -> Client {
    let key = json!({"name": "A limited key", "couponBookIds": [book]});
    let made = server.admin().post("api-keys", key).await.expect(201);
    server.anonymous().with_key(made["key"].as_str().expect("a key"))
}

/// The lists that may end at a code of another book.
fn lists(book: &str) -> [String; 3] {
    [
        format!("coupon-codes/book/{book}?prefix=p-&status=ASSIGNED"),
        format!("coupon-codes/book/{book}?userId=ann"),
        format!("assignments/user/ann?couponBookId={book}"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_limited_to_a_book_gets_no_code_of_another_book_from_a_cursor() {
    let (server, book) = server_with_two_books().await;
    let limited = limited_to(&server, &book).await;
    let search = "coupons?q=p-&limit=500".to_owned();
    for list in lists(&book).into_iter().chain([search]) {
        let is_search = list.starts_with("coupons?");
        let (mut codes, mut cursors, mut query) = (Vec::new(), Vec::new(), String::new());
        loop {
            let page = limited.get(&format!("{list}{query}")).await.expect(200);
            let items = page["data"].as_array().expect("items").iter();
            codes.extend(items.map(|item| item["code"].as_str().expect("a code").to_owned()));
            let Some(cursor) = page["nextCursor"].as_str() else { break };
            query = format!("&cursor={cursor}");
            cursors.push(cursor.to_owned());
        }
        if is_search {
            let all = (0..=MAX_NEIGHBORS_EXAMINED).map(|number| format!("P-Z{number:06}"));
            assert!(codes.into_iter().eq(all), "the search has each code of the book once, in order");
        } else {
            assert_eq!(codes, ["P-Z000007"], "{list}");
        }
        assert!(!cursors.is_empty(), "{list} has one page");
        // Neither the text nor its bytes.
        let is_seen = |cursor: &String| cursor.contains("HIDDEN") || cursor.contains("48494444454e");
        assert!(!cursors.iter().any(is_seen), "{list}: {cursors:?}");
        let changed = cursors[0].replace(|char: char| char.is_ascii_digit(), "0");
        let reply = limited.get(&format!("{list}&cursor={changed}")).await;
        assert_eq!(reply.json()["errors"][0]["field"], "cursor", "{list}: {}", reply.text);
        assert_eq!(reply.rejected(422), "invalid");
        // The cursor of another business.
        let other = server.another_admin().await;
        let reply = other.get(&format!("assignments/user/ann?cursor={}", cursors[0])).await;
        assert_eq!(reply.rejected(422), "invalid");
    }
}

/// Those that earlier versions gave to keys limited to books are such.
#[tokio::test(flavor = "multi_thread")]
async fn cursors_that_are_not_sealed_are_still_valid() {
    let (server, book) = server_with_two_books().await;
    let (limited, admin) = (limited_to(&server, &book).await, server.admin());
    for list in lists(&book) {
        let first = admin.get(&list).await.expect(200);
        let cursor = first["nextCursor"].as_str().expect("the list has another page");
        assert!(cursor.contains("HIDDEN"), "{cursor}");
        for client in [&admin, &limited] {
            let mut page = client.get(&format!("{list}&cursor={cursor}")).await.expect(200);
            while page["data"].as_array().is_some_and(Vec::is_empty) {
                let cursor = page["nextCursor"].as_str().expect("the list has another page");
                page = client.get(&format!("{list}&cursor={cursor}")).await.expect(200);
            }
            assert_eq!(page["data"][0]["code"], "P-Z000007", "{list}");
        }
    }
}
