//! API keys with limits: permissions, books, expiry.

use std::collections::BTreeMap;

use cuponera_platform::credential::secret_hash;
use cuponera_testkit::eventually;
use serde_json::{Value, json};
use sqlx::query;

use super::operations;
use super::table::TABLE;
use super::world::World;
use crate::support::{Client, Server, id_of};

/// The permission that each operation needs, according to the page of permissions.
fn needed() -> BTreeMap<String, String> {
    let page = cuponera_api::permission_page();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (permission, operations) = (cells[1].trim_matches('`').to_owned(), cells[6].to_owned());
        let named: Vec<String> =
            operations.split(' ').map(|word| word.trim_matches('`').to_owned()).collect();
        // "with" marks a permission that only some requests of an operation need.
        let is_whole = !operations.contains("with");
        named.into_iter().filter(move |_| is_whole).map(move |operation| (operation, permission.clone()))
    })
    .collect()
}

/// The operations that a key of any book may call. A search finds only codes of its books.
const ANY_BOOK: [&str; 2] = ["getMe", "findCoupons"];

/// A new key with these fields, and a client that uses it.
async fn key(server: &Server, fields: Value) -> (Client, Value) {
    let mut body = fields;
    body["name"] = json!("A limited key");
    let made = server.admin().post("api-keys", body).await.expect(201);
    (server.anonymous().with_key(made["key"].as_str().expect("a key")), made)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_one_permission_may_do_what_the_page_says_and_nothing_else() {
    let world = World::new().await;
    let (operations, needed) = (operations(), needed());
    let mut wrong = Vec::new();
    let mut permissions: Vec<&String> = needed.values().collect();
    permissions.dedup();
    permissions.sort();
    permissions.dedup();
    for permission in permissions {
        // A SERVICE has none of them.
        if ["users:manage", "api-keys:manage", "webhooks:manage"].contains(&permission.as_str()) {
            continue;
        }
        let (limited, _) = key(&world.server, json!({"permissions": [permission]})).await;
        for row in TABLE.iter().filter(|row| row.statuses[0] == 401) {
            let (method, path) = &operations[row.operation];
            let expected = match needed.get(row.operation) {
                Some(other) if other != permission => 403,
                _ => row.statuses[3],
            };
            let reply = world.ask(limited.clone(), method, path, row).await;
            if reply.status != expected {
                wrong.push(format!(
                    "{} with {permission}: {} instead of {expected}",
                    row.operation, reply.status
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_book_may_touch_nothing() {
    let world = World::new().await;
    let operations = operations();
    let book = world.server.book(json!({})).await;
    let (limited, _) = key(&world.server, json!({"couponBookIds": [book]})).await;
    let mut wrong = Vec::new();
    for row in TABLE.iter().filter(|row| row.statuses[0] == 401 && !ANY_BOOK.contains(&row.operation)) {
        let (method, path) = &operations[row.operation];
        let reply = world.ask(limited.clone(), method, path, row).await;
        if reply.status != 403 {
            wrong.push(format!("{}: {} {}", row.operation, reply.status, reply.text));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_book_works_with_its_codes_and_jobs() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let (limited, made) = key(&server, json!({"couponBookIds": [book]})).await;
    assert_eq!(made["couponBookIds"], json!([book]));
    let order = json!({"couponBookId": book, "quantity": 3});
    let job = id_of(&limited.post("coupon-codes/generate", order).await.expect(202));
    eventually("the job to succeed", async || {
        let job = limited.get(&format!("jobs/{job}")).await.expect(200);
        (job["status"] == "SUCCEEDED").then_some(())
    })
    .await;
    let given = json!({"couponBookId": book, "userId": "ann"});
    let given = limited.post("assignments/random", given).await.expect(201);
    let code = given["code"].as_str().expect("a code");
    limited.post(&format!("coupons/{code}/lock"), json!({"userId": "ann"})).await.expect(200);
    limited.post(&format!("coupons/{code}/redeem"), json!({"userId": "ann"})).await.expect(200);
    let held = limited.get(&format!("assignments/user/ann?couponBookId={book}")).await.expect(200);
    assert_eq!(held["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(limited.get("coupons/NO-SUCH-CODE").await.rejected(404), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_says_when_it_was_used_and_ends_when_it_expires() {
    let server = Server::start().await;
    let (limited, made) = key(&server, json!({"expiresAt": "2100-01-01T00:00:00Z"})).await;
    assert_eq!((&made["expiresAt"], &made["lastUsedAt"]), (&json!("2100-01-01T00:00:00Z"), &Value::Null));
    limited.get("auth/me").await.expect(200);
    let listed = server.admin().get("api-keys").await.expect(200);
    let listed = listed["data"].as_array().and_then(|keys| keys.iter().find(|key| key["id"] == made["id"]));
    assert!(listed.is_some_and(|key| key["lastUsedAt"].is_string()), "{listed:?}");
    // A program of a version without limits looks for this hash.
    let plain = secret_hash(made["key"].as_str().expect("a key"));
    let found: i64 = sqlx::query_scalar("select count(*) from api_key where secret_hash = $1")
        .bind(plain)
        .fetch_one(server.database.pool())
        .await
        .expect("the query failed");
    assert_eq!(found, 0, "a version without limits would accept the key");
    let expire = "update api_key set expires_at = now() where expires_at is not null";
    query(expire).execute(server.database.pool()).await.expect("expiring failed");
    eventually("the key to end", async || (limited.get("auth/me").await.status == 401).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_none_are_refused_with_the_field() {
    let server = Server::start().await;
    let unknown = json!({"name": "A key", "couponBookIds": [uuid::Uuid::now_v7()]});
    assert_eq!(server.admin().post("api-keys", unknown).await.rejected(404), "not_found");
    for (fields, field) in [
        (json!({"permissions": []}), "permissions"),
        (json!({"permissions": ["coupons:us"]}), "permissions"),
        (json!({"permissions": ["coupons:force-unlock"]}), "permissions"),
        (json!({"permissions": ["api-keys:manage"], "role": "ADMIN"}), "permissions"),
        (json!({"permissions": "coupons:use"}), "permissions"),
        (json!({"couponBookIds": []}), "couponBookIds"),
        (json!({"couponBookIds": ["no id"]}), "couponBookIds"),
        (json!({"expiresAt": "2001-01-01T00:00:00Z"}), "expiresAt"),
    ] {
        let mut body = fields.clone();
        body["name"] = json!("A key");
        let reply = server.admin().post("api-keys", body).await;
        assert_eq!(reply.json()["errors"][0]["field"], field, "{fields}");
        assert_eq!(reply.rejected(422), "invalid", "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_key_of_an_admin_may_manage_webhooks() {
    let server = Server::start().await;
    let permissions = json!(["webhooks:manage"]);
    let service = json!({"name": "A key", "role": "SERVICE", "permissions": permissions});
    assert_eq!(server.admin().post("api-keys", service).await.rejected(422), "invalid");
    let (admin, _) = key(&server, json!({"role": "ADMIN", "permissions": permissions})).await;
    admin.post("webhooks", json!({"url": "https://receiver.example/"})).await.expect(201);
    assert_eq!(admin.get("coupon-books").await.rejected(403), "forbidden");
    let (other, _) = key(&server, json!({"role": "ADMIN", "permissions": ["books:read"]})).await;
    assert_eq!(other.get("webhooks").await.rejected(403), "forbidden");
    assert_eq!(server.service().get("webhooks").await.rejected(403), "forbidden");
}
