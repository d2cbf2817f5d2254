//! `GET /events?kind=ADMIN`: what each operation of the administration records, and which callers see it.

use serde_json::{Value, json};

use super::{all, key_of};
use crate::support::{Client, Server, id_of};

/// Subjects, actions and actors of all admin events, newest first.
async fn recorded(server: &Server) -> Vec<(String, String, String)> {
    let page = server.admin().get("events?kind=ADMIN&limit=500").await.expect(200);
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let events = page["data"].as_array().expect("a page").iter();
    events.map(|event| (text(event, "subject"), text(event, "action"), text(event, "actor"))).collect()
}

fn action_of(recorded: &[(String, String, String)]) -> Vec<(&str, &str)> {
    recorded.iter().map(|(subject, action, _)| (subject.as_str(), action.as_str())).collect()
}

/// The name of a caller in events.
async fn name_of(client: &Client) -> String {
    let me = client.get("auth/me").await.expect(200);
    let text = |field: &str| me[field].as_str().expect("a text").to_owned();
    match text("role").as_str() {
        "USER" => format!("user:{}", text("userId")),
        role => format!("{}:{}", role.to_lowercase(), text("id")),
    }
}

/// Invariant I-63.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_books_keys_pools_and_jobs_are_listed_with_actor_origin_and_values() {
    let server = Server::start().await;
    let (admin, service) = (server.admin(), server.service());
    let before = recorded(&server).await.len();
    let book = id_of(&service.post("coupon-books", json!({"name": "Spring"})).await.expect(201));
    let changed =
        admin.patch(&format!("coupon-books/{book}"), json!({"name": "Summer", "status": "ACTIVE"})).await;
    let request = changed.header("x-request-id").to_owned();
    changed.expect(200);
    let key = json!({"name": "A key", "permissions": ["coupons:use"], "couponBookIds": [book]});
    let key = admin.post("api-keys", key).await.expect(201);
    admin.delete(&format!("api-keys/{}", id_of(&key))).await.expect(204);
    let pool = id_of(&service.post("user-pools", json!({"name": "VIP"})).await.expect(201));
    service.post(&format!("user-pools/{pool}/users"), json!({"userIds": ["ann", "bob"]})).await.expect(200);
    service.delete(&format!("user-pools/{pool}")).await.expect(204);
    let order = json!({"couponBookId": book, "quantity": 3});
    let job = id_of(&service.post("coupon-codes/generate", order).await.expect(202));
    cuponera_testkit::eventually("the job to succeed", async || {
        let job = service.get(&format!("jobs/{job}")).await.expect(200);
        (job["status"] == "SUCCEEDED").then_some(())
    })
    .await;
    let mut events = recorded(&server).await;
    events.truncate(events.len() - before);
    events.reverse();
    let expected = [
        ("BOOK", "CREATE"),
        ("BOOK", "UPDATE"),
        ("API_KEY", "CREATE"),
        ("API_KEY", "REVOKE"),
        ("POOL", "CREATE"),
        ("POOL", "ADD_USERS"),
        ("POOL", "DELETE"),
        ("JOB", "SUBMIT"),
        ("JOB", "SUCCEED"),
    ];
    assert_eq!(action_of(&events), expected);
    let (by_admin, by_service, by_job) =
        (name_of(&admin).await, name_of(&service).await, format!("job:{job}"));
    let by: Vec<&str> = events.iter().map(|(_, _, actor)| actor.as_str()).collect();
    let [a, s] = [by_admin.as_str(), by_service.as_str()];
    assert_eq!(by, [s, a, a, a, s, s, s, s, &by_job]);
    let page = admin.get("events?kind=ADMIN").await.expect(200);
    let of = |subject: &str, action: &str| {
        let events = page["data"].as_array().expect("a page");
        events
            .iter()
            .find(|event| event["subject"] == subject && event["action"] == action)
            .expect("an event")
    };
    let update = of("BOOK", "UPDATE");
    assert_eq!(update["before"], json!({"name": "Spring", "status": "DRAFT"}));
    assert_eq!(update["after"], json!({"name": "Summer", "status": "ACTIVE"}));
    assert_eq!((update["subjectId"].as_str(), update["requestId"].as_str()), (Some(&*book), Some(&*request)));
    assert_eq!(update["ip"], "127.0.0.1");
    assert_eq!(of("API_KEY", "CREATE")["after"]["permissions"], json!(["coupons:use"]));
    assert_eq!(of("POOL", "ADD_USERS")["after"], json!({"users": 2}));
    let secret = key["key"].as_str().expect("a key");
    assert!(!page.to_string().contains(secret), "the key is in its event");
}

/// Invariant I-63.
#[tokio::test(flavor = "multi_thread")]
async fn logins_and_changes_of_users_are_listed_with_their_actor() {
    let server = Server::start().await;
    let admin = server.admin();
    let new = json!({"email": "eva@shop.test", "password": "correct horse battery", "role": "USER", "userId": "eva"});
    let eva = id_of(&admin.post("users", new).await.expect(201));
    let before = recorded(&server).await.len();
    let log_in = json!({"email": "eva@shop.test", "password": "correct horse battery"});
    let first = server.anonymous().post("auth/login", log_in.clone()).await.expect(200);
    let second = server.anonymous().post("auth/login", log_in).await.expect(200);
    let token = |session: &Value| session["accessToken"].as_str().expect("a token").to_owned();
    let (client, other) =
        (server.anonymous().with_token(&token(&first)), server.anonymous().with_token(&token(&second)));
    let password =
        json!({"currentPassword": "correct horse battery", "newPassword": "another horse battery"});
    client.post("auth/password", password).await.expect(204);
    other.get("auth/me").await.rejected(401);
    client.post("auth/logout", json!({})).await.expect(200);
    admin.patch(&format!("users/{eva}"), json!({"role": "ADMIN"})).await.expect(200);
    admin.patch(&format!("users/{eva}"), json!({"disabled": true})).await.expect(200);
    let mut events = recorded(&server).await;
    events.truncate(events.len() - before);
    events.reverse();
    let expected = [
        ("LOGIN", "START"),
        ("LOGIN", "START"),
        ("USER", "CHANGE_PASSWORD"),
        ("LOGIN", "END"),
        ("LOGIN", "END"),
        ("MEMBERSHIP", "UPDATE"),
        ("MEMBERSHIP", "UPDATE"),
    ];
    assert_eq!(action_of(&events), expected);
    let by_admin = name_of(&admin).await;
    for (place, (subject, _, actor)) in events.iter().enumerate() {
        let expected = if subject == "MEMBERSHIP" { by_admin.as_str() } else { "user:eva" };
        assert_eq!(actor, expected, "event {place}");
    }
    let text = server.admin().get("events?kind=ADMIN&limit=500").await.expect(200).to_string();
    for secret in
        ["horse battery", "argon2", first["refreshToken"].as_str().expect("a token"), &token(&second)]
    {
        assert!(!text.contains(secret), "{secret} is in an event");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn admin_events_are_listed_by_each_filter_and_page_by_page() {
    let server = Server::start().await;
    let (admin, service) = (server.admin(), server.service());
    for number in 0..4 {
        service.post("user-pools", json!({"name": format!("Pool {number}")})).await.expect(201);
    }
    let page = admin.get("events?kind=ADMIN&limit=500").await.expect(200);
    assert_eq!(all(&page, "action")[..4], ["CREATE"; 4]);
    let by = name_of(&service).await;
    let at = page["data"][1]["at"].as_str().expect("a time").to_owned();
    let count = page["data"].as_array().expect("a page").len();
    let keys = all(&page, "subject").iter().filter(|subject| **subject == "API_KEY").count();
    assert!(keys > 0);
    for (query, expected) in [
        (format!("actor={by}"), 4),
        ("actor=nobody".to_owned(), 0),
        ("subject=POOL".to_owned(), 4),
        (format!("subject=POOL&subjectId={}", page["data"][2]["subjectId"].as_str().expect("an id")), 1),
        ("subject=POOL&action=DELETE".to_owned(), 0),
        ("subject=API_KEY&action=CREATE".to_owned(), keys),
        (format!("from={at}"), 2),
        (format!("to={at}"), count - 2),
        (format!("from={at}&to={at}"), 0),
        (format!("actor={by}&from={at}&follow=false"), 2),
    ] {
        let page = admin.get(&format!("events?kind=ADMIN&limit=500&{query}")).await.expect(200);
        assert_eq!(page["data"].as_array().map(Vec::len), Some(expected), "{query}");
    }
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = admin.get(&format!("events?kind=ADMIN&limit=3{cursor}")).await.expect(200);
        ids.extend(all(&page, "id").into_iter().map(str::to_owned));
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(ids, all(&page, "id"));
    assert_eq!(admin.get("events?kind=COUPON").await.expect(200), admin.get("events").await.expect(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admin_of_the_business_sees_admin_events() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    for client in [server.service(), server.user("ann"), key_of(&server, &book).await] {
        assert_eq!(client.get("events?kind=ADMIN").await.rejected(403), "forbidden");
    }
    assert_eq!(server.anonymous().get("events?kind=ADMIN").await.rejected(401), "unauthorized");
    let theirs = server.another_admin().await.get("events?kind=ADMIN").await.expect(200);
    let own = server.admin().get("events?kind=ADMIN").await.expect(200);
    assert!(!all(&own, "subjectId").is_empty() && !all(&theirs, "subjectId").is_empty());
    assert!(all(&theirs, "id").iter().all(|id| !all(&own, "id").contains(id)));
    let make = async |fields: Value| {
        let mut body = json!({"name": "An admin's key", "role": "ADMIN"});
        body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let made = server.admin().post("api-keys", body).await.expect(201);
        server.anonymous().with_key(made["key"].as_str().expect("a key"))
    };
    let allowed = json!({"permissions": ["events:admin", "coupons:history"]});
    for (fields, status) in [
        (json!({}), 200),
        (allowed, 200),
        (json!({"permissions": ["coupons:history"]}), 403),
        (json!({"couponBookIds": [book]}), 403),
    ] {
        let reply = make(fields.clone()).await.get("events?kind=ADMIN").await;
        assert_eq!(reply.status, status, "{fields} {}", reply.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_codes_and_following_are_rejected_for_admin_events() {
    let server = Server::start().await;
    let admin = server.admin();
    let id = uuid::Uuid::now_v7();
    for (query, field) in [
        ("kind=OTHER", "kind"),
        ("kind=admin", "kind"),
        (&format!("kind=ADMIN&couponBookId={id}"), "couponBookId"),
        ("kind=ADMIN&userId=ann", "userId"),
        ("kind=ADMIN&action=LOCK", "action"),
        ("kind=ADMIN&subject=CAR", "subject"),
        ("kind=ADMIN&subjectId=%00", "subjectId"),
        ("action=CREATE", "action"),
        ("subject=BOOK", "subject"),
        (&format!("subjectId={id}"), "subjectId"),
        ("kind=ADMIN&follow=true", "follow"),
        ("kind=ADMIN&cursor=odd", "cursor"),
        ("kind=ADMIN&limit=0", "limit"),
        ("kind=ADMIN&actor=%00", "actor"),
        ("kind=ADMIN&from=2027-01-02T00:00:00Z&to=2027-01-01T00:00:00Z", "to"),
    ] {
        let reply = admin.get(&format!("events?{query}")).await;
        assert_eq!(reply.json()["errors"][0]["field"], field, "{query} {}", reply.text);
        assert_eq!(reply.rejected(422), "invalid", "{query}");
    }
}
