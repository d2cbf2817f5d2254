//! Accounts in several businesses: a login is to one business, each membership has a role and a holder id, and only the owner
//! changes the password.

use serde_json::{Value, json};

use super::{bearer, log_in, refresh, server};
use crate::support::{ADMIN_PASSWORD, Client, Reply, Server, id_of};

const EMAIL: &str = "ana@person.test";
const PASSWORD: &str = "a long password of ana";

/// Ana is a USER of the shop and an ADMIN of another business.
struct World {
    server: Server,
    their_admin: Client,
    their_business: String,
    id: String,
}

fn member(role: &str, user_id: &str) -> Value {
    json!({"email": EMAIL, "password": PASSWORD, "role": role, "userId": user_id})
}

impl World {
    async fn new() -> Self {
        let server = server().await;
        let their_admin = server.another_admin().await;
        let their_business =
            their_admin.get("auth/me").await.expect(200)["businessId"].as_str().expect("an id").to_owned();
        let made = server.admin().post("users", member("USER", "ana-here")).await.expect(201);
        let mut there = member("ADMIN", "ana-there");
        there["password"] = json!("their idea of a password");
        let added = their_admin.post("users", there).await.expect(201);
        assert_eq!(added["id"], made["id"], "one email has two accounts");
        assert_eq!(
            (&added["role"], &added["userId"], &added["disabled"]),
            (&json!("ADMIN"), &json!("ana-there"), &json!(false))
        );
        Self { server, their_admin, their_business, id: id_of(&made) }
    }

    fn here(&self) -> String {
        self.server.business.to_string()
    }

    async fn log_in_to(&self, business: &str) -> Reply {
        let body = json!({"email": EMAIL, "password": PASSWORD, "businessId": business});
        self.server.anonymous().post("auth/login", body).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_says_which_business_it_is_for_if_there_are_several() {
    let world = World::new().await;
    let anonymous = world.server.anonymous();
    assert_eq!(
        log_in(&anonymous, EMAIL, "their idea of a password").await.rejected(401),
        "invalid_credentials"
    );
    let problem = log_in(&anonymous, EMAIL, PASSWORD).await.expect(409);
    assert_eq!(problem["code"], "choose_business");
    let listed = json!([
        {"id": world.here(), "name": "A shop", "role": "USER"},
        {"id": world.their_business, "name": "Another shop", "role": "ADMIN"},
    ]);
    assert_eq!(problem["businesses"], listed);
    let session = world.log_in_to(&world.their_business).await.expect(200);
    assert_eq!(session["businesses"], listed);
    let elsewhere = world.log_in_to(&uuid::Uuid::now_v7().to_string()).await;
    assert_eq!(elsewhere.rejected(401), "invalid_credentials");
    // Only a caller with the right password gets the list.
    let wrong = log_in(&anonymous, EMAIL, "not the password").await;
    assert_eq!((wrong.json().get("businesses"), wrong.status), (None, 401));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_in_two_businesses_sees_one_at_a_time() {
    let world = World::new().await;
    let book = world.server.book(json!({"name": "Ours"})).await;
    let theirs = id_of(&world.their_admin.post("coupon-books", json!({"name": "Theirs"})).await.expect(201));
    let names = async |client: &Client| {
        let books = client.get("coupon-books").await.expect(200);
        let names = books["data"].as_array().expect("a list").iter().map(|book| book["name"].clone());
        names.collect::<Vec<_>>()
    };
    let session = world.log_in_to(&world.here()).await.expect(200);
    let here = bearer(&world.server, &session);
    let me = here.get("auth/me").await.expect(200);
    assert_eq!(
        (&me["businessId"], &me["role"], &me["userId"]),
        (&json!(world.here()), &json!("USER"), &json!("ana-here"))
    );
    assert_eq!(names(&here).await, ["Ours"]);
    assert_eq!(here.get(&format!("coupon-books/{theirs}")).await.rejected(404), "not_found");
    assert_eq!(here.get("users").await.rejected(403), "forbidden", "the role of another business");

    let switch = json!({"businessId": world.their_business});
    let switched = here.post("auth/switch", switch).await.expect(200);
    assert_eq!(here.get("auth/me").await.rejected(401), "unauthorized", "a token for two businesses");
    assert_eq!(refresh(&world.server, &session).await.rejected(401), "invalid_refresh_token");
    let there = bearer(&world.server, &switched);
    let me = there.get("auth/me").await.expect(200);
    assert_eq!((&me["businessId"], &me["role"]), (&json!(world.their_business), &json!("ADMIN")));
    assert_eq!(names(&there).await, ["Theirs"]);
    assert_eq!(there.get(&format!("coupon-books/{book}")).await.rejected(404), "not_found");
    let users = there.get("users").await.expect(200);
    assert!(!users.to_string().contains("ana-here"), "{users}");
    // A refresh does not change the business.
    let refreshed = refresh(&world.server, &switched).await.expect(200);
    let me = bearer(&world.server, &refreshed).get("auth/me").await.expect(200);
    assert_eq!(me["businessId"], world.their_business);
    let nowhere = json!({"businessId": uuid::Uuid::now_v7()});
    assert_eq!(
        bearer(&world.server, &refreshed).post("auth/switch", nowhere).await.rejected(404),
        "not_found"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_idempotency_key_in_two_businesses_is_two_requests() {
    let world = World::new().await;
    let path = format!("users/{}", world.id);
    world.server.admin().patch(&path, json!({"role": "ADMIN"})).await.expect(200);
    for business in [world.here(), world.their_business.clone()] {
        let session = world.log_in_to(&business).await.expect(200);
        let client = bearer(&world.server, &session);
        let made = client
            .post_with_key("coupon-books", "the same key", &json!({"name": "A book"}))
            .await
            .expect(201);
        assert_eq!(made["businessId"], *business, "the answer of another business");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_admin_changes_the_password_of_an_account_with_another_membership() {
    let world = World::new().await;
    let path = format!("users/{}", world.id);
    let change = json!({"password": "the admin's password"});
    for admin in [world.server.admin(), world.their_admin.clone()] {
        assert_eq!(admin.patch(&path, change.clone()).await.rejected(409), "account_shared");
    }
    let session = world.log_in_to(&world.here()).await.expect(200);
    let own = json!({"currentPassword": PASSWORD, "newPassword": "another password of ana"});
    assert_eq!(bearer(&world.server, &session).post("auth/password", own).await.status, 204);
    assert_eq!(world.log_in_to(&world.here()).await.rejected(401), "invalid_credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn disabling_ends_the_membership_of_one_business_and_no_other() {
    let world = World::new().await;
    let path = format!("users/{}", world.id);
    let sessions = [
        world.log_in_to(&world.here()).await.expect(200),
        world.log_in_to(&world.their_business).await.expect(200),
    ];
    let [here, there] = [0, 1].map(|place: usize| bearer(&world.server, &sessions[place]));
    // First the account's first membership, then the further one.
    for (admin, ended, other, stays) in [
        (world.server.admin(), &here, &there, &world.their_business),
        (world.their_admin.clone(), &there, &here, &world.here()),
    ] {
        assert_eq!(admin.patch(&path, json!({"disabled": true})).await.expect(200)["disabled"], true);
        assert_eq!(ended.get("auth/me").await.rejected(401), "unauthorized");
        // The other login ended earlier, or continues.
        let expected = if std::ptr::eq(other, &raw const there) { 200 } else { 401 };
        assert_eq!(other.get("auth/me").await.status, expected);
        // With one membership left, no business has to be chosen.
        let session = log_in(&world.server.anonymous(), EMAIL, PASSWORD).await.expect(200);
        let me = bearer(&world.server, &session).get("auth/me").await.expect(200);
        assert_eq!(me["businessId"], **stays);
        assert_eq!(admin.patch(&path, json!({"disabled": false})).await.expect(200)["disabled"], false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_of_another_business_is_added_in_the_same_shape_as_a_new_one() {
    let world = World::new().await;
    let new = |email: &str| json!({"email": email, "password": ADMIN_PASSWORD, "role": "USER"});
    let made = world.server.admin().post("users", new("only-here@person.test")).await.expect(201);
    let known = world.their_admin.post("users", new("only-here@person.test")).await.expect(201);
    let fresh = world.their_admin.post("users", new("fresh@person.test")).await.expect(201);
    let names = |answer: &Value| answer.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&known), names(&fresh));
    assert_eq!(known["userId"], made["id"], "the default holder id is the account's id");
    assert_eq!(
        world.their_admin.post("users", new("only-here@person.test")).await.rejected(409),
        "email_taken"
    );
    let taken = json!({"email": "fresh@person.test", "password": ADMIN_PASSWORD, "role": "USER", "userId": "ana-here"});
    assert_eq!(world.server.admin().post("users", taken).await.rejected(409), "user_id_taken");
}
