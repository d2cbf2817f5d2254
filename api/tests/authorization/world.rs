//! The objects that requests refer to, created for each request, and the callers.

use std::sync::Mutex;

use cuponera_domain::id::BookId;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::table::Row;
use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Client, Limits, Reply, Server, id_of};

pub(super) struct World {
    pub(super) server: Server,
    another_admin: Client,
    /// A book with codes for random assignment.
    stock: String,
    /// Unassigned codes of another book, for assignment by name.
    free: Mutex<Vec<String>>,
    /// Unassigned codes of a BEARER book.
    presented: Mutex<Vec<String>>,
    /// A SHARED book.
    public: String,
}

impl World {
    /// Starts without a worker, so jobs stay queued.
    pub(super) async fn new() -> Self {
        let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
        let (stock, named) = (server.book(json!({})).await, server.book(json!({})).await);
        let bearer = server.book(json!({"codeKind": "BEARER"})).await;
        for book in [&stock, &named, &bearer] {
            let id = BookId(book.parse().expect("an id"));
            let store = server.database.store();
            cuponera_testkit::generate(store, server.business, id, "{XXXXXXXX}", 600).await;
        }
        let codes_of = async |book: &str| {
            let codes = server.codes(book).await.into_iter();
            Mutex::new(codes.map(|code| code["code"].as_str().expect("a code").to_owned()).collect())
        };
        let (free, presented) = (codes_of(&named).await, codes_of(&bearer).await);
        let public = server.book(json!({"codeKind": "SHARED"})).await;
        Self { another_admin: server.another_admin().await, server, stock, free, presented, public }
    }

    pub(super) fn everybody(&self) -> [Client; 6] {
        let server = &self.server;
        let [ann, bob] = ["ann", "bob"].map(|user| server.user(user));
        [server.anonymous(), ann, bob, server.service(), server.admin(), self.another_admin.clone()]
    }

    /// Sends the request of a row.
    pub(super) async fn ask(&self, client: Client, method: &str, path: &str, row: &Row) -> Reply {
        let query = self.fill_in(row.query).await;
        self.ask_with(client, method, path, row, &query).await
    }

    /// Sends the request of a row with another query.
    pub(super) async fn ask_with(
        &self,
        client: Client,
        method: &str,
        path: &str,
        row: &Row,
        query: &str,
    ) -> Reply {
        let object = self.fill_in(row.object).await;
        let path = match (path.find('{'), path.find('}')) {
            (Some(from), Some(to)) => format!("{}{object}{}", &path[..from], &path[to + 1..]),
            _ => path.to_owned(),
        };
        // The other parameter that a path may have. The object of a delivery names it with its webhook.
        let path = path.replace("{userId}", "ann").replace("/deliveries/{deliveryId}", "");
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = client.request(method, &format!("{path}{query}"));
        if !row.body.is_empty() {
            let media = if row.operation.starts_with("upload") { "text/csv" } else { "application/json" };
            request = request.header("Content-Type", media).body(self.fill_in(row.body).await);
        }
        Reply::to(request).await
    }

    /// Replaces each known word in braces by the id of an object.
    async fn fill_in(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for word in [
            "new",
            "refresh",
            "account",
            "key",
            "book",
            "stock",
            "free",
            "presented",
            "public",
            "shared",
            "held",
            "redemption",
            "job",
            "over",
            "pool",
            "distribution",
            "given",
            "webhook",
            "delivery",
        ] {
            let place = format!("{{{word}}}");
            if text.contains(&place) {
                text = text.replace(&place, &self.make(word).await);
            }
        }
        text
    }

    async fn make(&self, word: &str) -> String {
        let admin = self.server.admin();
        match word {
            "new" => Uuid::now_v7().to_string(),
            "refresh" => {
                let body = json!({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD});
                let session = admin.post("auth/login", body).await.expect(200);
                session["refreshToken"].as_str().expect("a token").to_owned()
            }
            "account" => {
                let email = format!("{}@shop.test", Uuid::now_v7());
                let user = json!({"email": email, "password": "long enough", "role": "USER"});
                id_of(&admin.post("users", user).await.expect(201))
            }
            "key" => id_of(&admin.post("api-keys", json!({"name": "A key"})).await.expect(201)),
            "book" => self.server.book(json!({})).await,
            "stock" => self.stock.clone(),
            "free" => self.take_free(),
            "presented" => take(&self.presented),
            "public" => self.public.clone(),
            "shared" => {
                let new = json!({"couponBookId": self.public, "code": Uuid::now_v7().to_string()});
                let made = admin.post("coupon-codes", new).await.expect(201);
                made["code"].as_str().expect("a code").to_owned()
            }
            "held" => {
                let code = self.take_free();
                self.server.give(&code, "ann").await;
                code
            }
            "redemption" => {
                let code = self.take_free();
                self.server.give(&code, "ann").await;
                let body = json!({"userId": "ann"});
                let redeemed = admin.post(&format!("coupons/{code}/redeem"), body).await.expect(200);
                redeemed["redemptionId"].as_str().expect("an id").to_owned()
            }
            "job" => {
                let order = json!({"couponBookId": self.stock, "quantity": 1});
                id_of(&admin.post("coupon-codes/generate", order).await.expect(202))
            }
            "over" => {
                let order = json!({"couponBookId": self.stock, "quantity": 1});
                let job = id_of(&admin.post("coupon-codes/generate", order).await.expect(202));
                admin.post(&format!("jobs/{job}/cancel"), json!({})).await.expect(200);
                job
            }
            "webhook" => self.make_webhook().await,
            "delivery" => {
                let webhook = self.make_webhook().await;
                let sent = admin.post(&format!("webhooks/{webhook}/test"), json!({})).await.expect(202);
                format!("{webhook}/deliveries/{}", id_of(&sent))
            }
            "pool" => self.make_pool().await,
            "distribution" => self.make_distribution().await,
            "given" => {
                let job = self.make_distribution().await;
                admin.post(&format!("jobs/{job}/cancel"), json!({})).await.expect(200);
                job
            }
            other => panic!("unknown object {other}"),
        }
    }

    async fn make_distribution(&self) -> String {
        let pool = self.make_pool().await;
        let order = json!({"couponBookId": self.stock, "mode": "EQUAL", "codesPerUser": 1});
        let path = format!("user-pools/{pool}/distributions");
        id_of(&self.server.admin().post(&path, order).await.expect(202))
    }

    /// A webhook. A business has at most 100, so the one before is deleted.
    async fn make_webhook(&self) -> String {
        let admin = self.server.admin();
        let before = admin.get("webhooks").await.expect(200);
        for webhook in before["data"].as_array().into_iter().flatten() {
            admin.delete(&format!("webhooks/{}", id_of(webhook))).await;
        }
        id_of(&admin.post("webhooks", json!({"url": "https://receiver.example/hooks"})).await.expect(201))
    }

    /// A pool with one user.
    async fn make_pool(&self) -> String {
        let admin = self.server.admin();
        let name = Uuid::now_v7().to_string();
        let pool = id_of(&admin.post("user-pools", json!({ "name": name })).await.expect(201));
        admin.post(&format!("user-pools/{pool}/users"), json!({"userIds": ["ann"]})).await.expect(200);
        pool
    }

    fn take_free(&self) -> String {
        take(&self.free)
    }
}

fn take(codes: &Mutex<Vec<String>>) -> String {
    codes.lock().expect("the mutex is not poisoned").pop().expect("an unassigned code is left")
}
