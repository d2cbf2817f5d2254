//! API keys: shown once, named, and rejected within seconds of their revocation.

use cuponera_testkit::eventually;
use serde_json::json;
use uuid::Uuid;

use super::server;
use crate::support::id_of;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_shown_once_works_until_it_is_revoked_and_is_of_its_role() {
    let server = server().await;
    let admin = server.admin();
    let made = admin.post("api-keys", json!({"name": "The till"})).await.expect(201);
    let key = made["key"].as_str().expect("the key").to_owned();
    assert!(
        key.starts_with("cup_") && key.len() >= 64 && key.starts_with(made["hint"].as_str().expect("a hint"))
    );
    assert_eq!(made["role"], "SERVICE");
    let list = admin.get("api-keys").await;
    assert!(!list.text.contains(&key), "the list shows a key");
    let till = server.anonymous().with_key(&key);
    assert_eq!(till.get("auth/me").await.expect(200)["role"], "SERVICE");
    assert_eq!(till.get("users").await.rejected(403), "forbidden");
    let of_admin = admin.post("api-keys", json!({"name": "A script", "role": "ADMIN"})).await.expect(201);
    let script = server.anonymous().with_key(of_admin["key"].as_str().expect("the key"));
    script.get("coupon-books").await.expect(200);
    let order = json!({"name": "Another"});
    for reply in
        [script.get("users").await, script.get("api-keys").await, script.post("api-keys", order).await]
    {
        assert_eq!(reply.rejected(403), "forbidden", "an API key manages users or keys");
    }
    assert_eq!(admin.delete(&format!("api-keys/{}", id_of(&made))).await.status, 204);
    assert_eq!(till.get("auth/me").await.rejected(401), "unauthorized");
    let list = admin.get("api-keys").await.expect(200);
    assert_eq!(list["data"].as_array().map(Vec::len), Some(2), "a revoked key is listed: {list}");
    assert_eq!(admin.delete(&format!("api-keys/{}", id_of(&made))).await.rejected(404), "not_found");
    let rejected = admin.post("api-keys", json!({"name": "A person", "role": "USER"})).await.expect(422);
    assert_eq!(rejected["errors"][0]["field"], "role");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_and_an_ended_admin_stop_in_another_process_as_soon_as_their_memory_ends() {
    let server = server().await;
    let (admin, there) = (server.admin(), server.another_api().await);
    let made = admin.post("api-keys", json!({"name": "The till"})).await.expect(201);
    let till = server.anonymous().with_key(made["key"].as_str().expect("the key")).at(&there);
    let far = admin.at(&there);
    till.get("auth/me").await.expect(200);
    far.get("users").await.expect(200);
    admin.delete(&format!("api-keys/{}", id_of(&made))).await;
    admin.post("auth/logout", json!({})).await.expect(200);
    assert_eq!(admin.get("users").await.rejected(401), "unauthorized");
    for gone in [till, far] {
        eventually("the key to be rejected", async || {
            (gone.get("auth/me").await.status == 401).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_s_name_is_one_line_and_another_s_key_is_not_there() {
    let server = server().await;
    let admin = server.admin();
    let made = admin.post("api-keys", json!({"name": "  The till\u{00a0}"})).await.expect(201);
    assert_eq!(made["name"], "The till");
    for name in ["", "   ", "two\nlines", "a\ttab", &"x".repeat(101)] {
        let problem = admin.post("api-keys", json!({"name": name})).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], "name", "{name:?}");
    }
    admin.post("api-keys", json!({"name": "ñ".repeat(100)})).await.expect(201);
    let path = format!("api-keys/{}", id_of(&made));
    assert_eq!(server.another_admin().await.delete(&path).await.rejected(404), "not_found");
    for unknown in [format!("api-keys/{}", Uuid::now_v7()), "api-keys/7".to_owned()] {
        assert_eq!(admin.delete(&unknown).await.rejected(404), "not_found");
    }
    let key = made["key"].as_str().expect("the key");
    server.anonymous().with_key(key).get("auth/me").await.expect(200);
}
