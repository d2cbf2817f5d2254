//! Every way in which a credential ends, combined with every use in progress: the use is rejected within 5 seconds, also in a
//! process that received no notification.

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use cuponera_api::Limits as Callers;
use cuponera_platform::config::Shares;
use cuponera_platform::credential::Tokens;
use cuponera_testkit::{bound, eventually};
use futures::stream;
use jsonwebtoken::dangerous::insecure_decode;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{bearer, log_in, refresh};
use crate::support::{ADMIN_PASSWORD, Client, JWT_SECRET, Limits, Server, id_of};

/// The guaranteed limit, and a longer one for `make test`, which still detects a use that never ends.
const PROMISED: Duration = Duration::from_secs(5);
const TELLING: Duration = Duration::from_secs(20);
/// The pause between the pieces of an upload.
const PIECE: Duration = Duration::from_millis(100);

/// A use of a credential during which it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Request,
    Stream,
    Wait,
    Upload,
}

/// The server whose uses are rejected, another process on its database in which credentials end, and a job that does not end.
struct World {
    server: Server,
    elsewhere: String,
    job: String,
    book: String,
}

impl World {
    async fn new() -> Self {
        // All uses come from one address, so its share must allow enough uploads.
        let shares = Shares { max_uploads: 256, ..Shares::default() };
        let callers = Callers { shares, ..Callers::default() };
        let server = Server::start_with(Limits { worker: false, callers, ..Limits::default() }).await;
        let elsewhere = server.another_api().await;
        let book = server.book(json!({})).await;
        let order = json!({"couponBookId": book, "quantity": 1});
        let job = id_of(&server.admin().post("coupon-codes/generate", order).await.expect(202));
        Self { server, elsewhere, job, book }
    }

    /// The admin at the other process.
    fn admin(&self) -> Client {
        self.server.admin().at(&self.elsewhere)
    }

    /// Another admin of the business; its id and its email.
    async fn colleague(&self) -> (String, String) {
        let email = format!("{}@shop.test", Uuid::now_v7());
        let new = json!({"email": email, "password": ADMIN_PASSWORD, "role": "ADMIN"});
        (id_of(&self.admin().post("users", new).await.expect(201)), email)
    }

    async fn log_in(&self, email: &str) -> Value {
        log_in(&self.server.anonymous(), email, ADMIN_PASSWORD).await.expect(200)
    }

    fn bearer_elsewhere(&self, session: &Value) -> Client {
        bearer(&self.server, session).at(&self.elsewhere)
    }

    async fn execute(&self, sql: &'static str, id: &str) {
        let id: Uuid = id.parse().expect("an id");
        sqlx::query(sql).bind(id).execute(self.server.database.pool()).await.expect("the change failed");
    }
}

/// Uses a credential until it is rejected; returns the time of the rejection.
async fn until_refused(what: Use, client: Client, job: String, book: String) -> Instant {
    match what {
        Use::Request => {
            while client.get("auth/me").await.status != 401 {
                tokio::time::sleep(PIECE).await;
            }
        }
        Use::Stream => {
            let stream = client.request(Method::GET, &format!("jobs/{job}/events")).send().await;
            let mut stream = stream.expect("the server does not answer");
            assert_eq!(stream.status(), 200);
            while stream.chunk().await.expect("the stream was cut off").is_some() {}
        }
        Use::Wait => {
            let wait = client.request(Method::GET, &format!("jobs/{job}")).header("Prefer", "wait=60");
            assert_eq!(wait.send().await.expect("the server does not answer").status(), 401);
        }
        Use::Upload => {
            let pieces = stream::unfold(0_u32, |piece| async move {
                tokio::time::sleep(PIECE).await;
                Some((Ok::<_, std::io::Error>(format!("ENDING-{}-{piece}\n", Uuid::now_v7())), piece + 1))
            });
            let upload = client.request(Method::POST, &format!("coupon-codes/upload?couponBookId={book}"));
            let upload = upload.header("Content-Type", "text/csv").body(Body::wrap_stream(pieces));
            assert_eq!(upload.send().await.expect("the server does not answer").status(), 401);
        }
    }
    Instant::now()
}

/// A way in which a credential ends: its user, and the event that ends it.
struct Way {
    name: &'static str,
    client: Client,
    uses: &'static [Use],
    end: End,
}

enum End {
    /// A request, at the other process.
    Request(Client, Method, String, Value),
    /// An SQL statement with an id.
    Statement(&'static str, String),
    /// Expiry, at this time.
    At(Instant),
}

const ALL: &[Use] = &[Use::Request, Use::Stream, Use::Wait, Use::Upload];

impl World {
    /// The ways in which a login ends.
    async fn ways_of_logins(&self) -> Vec<Way> {
        let post = |client, path: &str, body| End::Request(client, Method::POST, path.to_owned(), body);
        let mut ways = Vec::new();
        for name in [
            "logout",
            "everywhere",
            "password change",
            "password reset",
            "disabling",
            "role change",
            "reuse",
            "switch",
        ] {
            let (id, email) = self.colleague().await;
            let [used, other] = [self.log_in(&email).await, self.log_in(&email).await];
            let [used_there, other_there] = [self.bearer_elsewhere(&used), self.bearer_elsewhere(&other)];
            let patch = |body| End::Request(self.admin(), Method::PATCH, format!("users/{id}"), body);
            let end = match name {
                "logout" => post(used_there, "auth/logout", json!({})),
                "everywhere" => post(other_there, "auth/logout", json!({"everywhere": true})),
                "password change" => {
                    let change =
                        json!({"currentPassword": ADMIN_PASSWORD, "newPassword": "another password"});
                    post(other_there, "auth/password", change)
                }
                "password reset" => patch(json!({"password": "another password"})),
                "disabling" => patch(json!({"disabled": true})),
                "role change" => patch(json!({"role": "USER"})),
                "reuse" => {
                    refresh(&self.server, &used).await.expect(200);
                    let again = json!({"refreshToken": used["refreshToken"]});
                    post(self.server.anonymous().at(&self.elsewhere), "auth/refresh", again)
                }
                _ => post(used_there, "auth/switch", json!({"businessId": self.server.business.0})),
            };
            ways.push(Way { name, client: bearer(&self.server, &used), uses: ALL, end });
        }
        ways
    }

    /// The ways in which an API key ends.
    async fn ways_of_keys(&self) -> Vec<Way> {
        let mut ways = Vec::new();
        for name in ["key deletion", "creator disabled", "creator demoted", "key expiry"] {
            let (id, email) = self.colleague().await;
            let creator = bearer(&self.server, &self.log_in(&email).await);
            let far = (Utc::now() + TimeDelta::hours(1)).to_rfc3339();
            let made = creator.post("api-keys", json!({"name": "A key", "expiresAt": far})).await.expect(201);
            assert_eq!(made["createdBy"], *id);
            let key = id_of(&made);
            let patch = |body| End::Request(self.admin(), Method::PATCH, format!("users/{id}"), body);
            let end = match name {
                "key deletion" => {
                    End::Request(self.admin(), Method::DELETE, format!("api-keys/{key}"), json!({}))
                }
                "creator disabled" => patch(json!({"disabled": true})),
                "creator demoted" => patch(json!({"role": "USER"})),
                _ => End::Statement("update api_key set expires_at = now() where id = $1", key),
            };
            let client = self.server.anonymous().with_key(made["key"].as_str().expect("a key"));
            ways.push(Way { name, client, uses: ALL, end });
        }
        ways
    }

    /// A login whose access token expires. An upload that began earlier continues, because its login has not ended.
    async fn token_expiry(&self) -> Way {
        let (_, email) = self.colleague().await;
        let session = self.log_in(&email).await;
        let long = session["accessToken"].as_str().expect("a token");
        let bearer = Tokens::new(&JWT_SECRET.to_owned().into(), Duration::from_mins(15)).check(long);
        let bearer = bearer.expect("a token of this server");
        let short = Tokens::new(&JWT_SECRET.to_owned().into(), Duration::from_secs(25));
        let token = short.issue(&bearer.principal, bearer.login).expect("a token");
        let claims = insecure_decode::<Value>(&token).expect("a token of this server").claims;
        let left = claims["exp"].as_i64().expect("an end") - Utc::now().timestamp();
        Way {
            name: "token expiry",
            client: self.server.anonymous().with_token(&token),
            uses: &[Use::Request, Use::Stream, Use::Wait],
            end: End::At(Instant::now() + Duration::from_secs(left.unsigned_abs())),
        }
    }

    /// Ends a credential; returns the time.
    async fn end(&self, name: &str, end: End) -> Instant {
        match end {
            End::Request(client, method, path, body) => {
                let reply = client.request(method, &path).json(&body).send().await.expect("no answer");
                // A reused refresh token is rejected, and ends its login.
                let expected = if name == "reuse" { 401 } else { 200 };
                assert!(reply.status() == expected || reply.status() == 204, "{name}: {}", reply.status());
            }
            End::Statement(sql, id) => self.execute(sql, &id).await,
            End::At(at) => {
                tokio::time::sleep_until(at.into()).await;
                return at;
            }
        }
        Instant::now()
    }
}

/// Invariant I-47.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_a_credential_and_whatever_uses_it_the_use_is_refused_within_5_seconds() {
    let world = World::new().await;
    let mut ways = world.ways_of_logins().await;
    ways.extend(world.ways_of_keys().await);
    ways.push(world.token_expiry().await);
    let mut uses = JoinSet::new();
    let mut ends = Vec::new();
    let (mut streams, mut waits) = (0, 0);
    for way in ways {
        way.client.get("auth/me").await.expect(200);
        for what in way.uses {
            streams += usize::from(*what == Use::Stream);
            waits += usize::from(*what == Use::Wait);
            let (client, job, book) =
                (way.client.on_new_connections(), world.job.clone(), world.book.clone());
            let (name, what) = (way.name, *what);
            uses.spawn(async move { (name, what, until_refused(what, client, job, book).await) });
        }
        ends.push((way.name, way.end));
    }
    eventually("all uses to be in progress", async || {
        let now = world.server.app.watching();
        ((now.streams, now.waits) == (streams, waits)).then_some(())
    })
    .await;
    let mut ended = std::collections::BTreeMap::new();
    for (name, end) in ends {
        ended.insert(name, world.end(name, end).await);
    }
    let mut late = Vec::new();
    while let Some(rejected) = uses.join_next().await {
        let (name, what, at) = rejected.expect("a use failed");
        let after = at.saturating_duration_since(ended[name]);
        if after > bound(PROMISED, TELLING) {
            late.push(format!("{what:?} after {name}: {after:?}"));
        }
    }
    assert!(late.is_empty(), "{late:#?}");
    let imports = world.server.admin().get("jobs?kind=IMPORT_CODES").await.expect(200);
    assert_eq!(imports["data"], json!([]), "an upload was committed after its credential had ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_outlives_its_access_token_and_not_its_login() {
    let world = World::new().await;
    let (_, email) = world.colleague().await;
    for ends in [false, true] {
        let session = world.log_in(&email).await;
        let long = session["accessToken"].as_str().expect("a token");
        let tokens = |seconds| Tokens::new(&JWT_SECRET.to_owned().into(), Duration::from_secs(seconds));
        let bearer = tokens(900).check(long).expect("a token of this server");
        let token = tokens(3).issue(&bearer.principal, bearer.login).expect("a token");
        let client = world.server.anonymous().with_token(&token);
        let (send, receive) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
        let body = Body::wrap_stream(stream::unfold(receive, async |mut receive| {
            receive.recv().await.map(|piece| (piece, receive))
        }));
        let path = format!("coupon-codes/upload?couponBookId={}", world.book);
        let upload = client.request(Method::POST, &path).header("Content-Type", "text/csv").body(body).send();
        let upload = tokio::spawn(upload);
        send.send(Ok(format!("OUTLIVES-{ends}\n"))).await.expect("the upload ended early");
        let me = world.server.anonymous().with_token(&token);
        eventually("the token to expire", async || (me.get("auth/me").await.status == 401).then_some(()))
            .await;
        if ends {
            bearer_logout(&world, &session).await;
        }
        drop(send);
        let reply = upload.await.expect("the upload failed").expect("the server does not answer");
        assert_eq!(reply.status(), if ends { 401 } else { 202 }, "whether the login had ended: {ends}");
    }
}

/// Logs out at the process that receives the upload.
async fn bearer_logout(world: &World, session: &Value) {
    bearer(&world.server, session).post("auth/logout", json!({})).await.expect(200);
}
