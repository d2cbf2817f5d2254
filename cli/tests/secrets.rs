//! No secret is disclosed: known secrets are used in every place that takes one, errors are provoked, and the logs and
//! error answers are searched for the secrets.

use std::fs;
use std::path::Path;

use cuponera_testkit::eventually;
use reqwest::{Method, RequestBuilder};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{EMAIL, Installation, Process, http};

const JWT_SECRET: &str = "canary-jwt-secret-0123456789-abcdef";
const AUDIT_KEY: &str = "ca4a12ca4a12ca4a12ca4a12ca4a12ca4a12ca4a12ca4a12ca4a12ca4a12ca4a";
const ADMIN_PASSWORD: &str = "canary-admin-password";
const USER_PASSWORD: &str = "canary-user-password";
const WRONG_PASSWORD: &str = "canary-wrong-password";
const WRONG_TOKEN: &str = "canary.access.token";
const WRONG_KEY: &str = "canary-api-key";
const DATABASE_PASSWORD: &str = "canary-database-password";
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
const CODES: [&str; 4] = ["CANARY-CODE-HELD", "CANARY-CODE-FREE", "CANARY-CODE-UNKNOWN", "CANARY-CODE-TWICE"];

/// A client that sends known secrets and stores the answers.
struct Planter {
    http: reqwest::Client,
    base: String,
    /// The known secrets, and those that the server generated.
    secrets: Vec<String>,
    /// The headers and bodies of answers with a status of 400 or above.
    errors: String,
}

impl Planter {
    fn new(base: String) -> Self {
        let planted = [JWT_SECRET, ADMIN_PASSWORD, USER_PASSWORD, WRONG_PASSWORD, WRONG_TOKEN, WRONG_KEY];
        let planted = planted.into_iter().chain([DATABASE_PASSWORD, AUDIT_KEY]).chain(CODES);
        Self { http: http(), base, secrets: planted.map(str::to_owned).collect(), errors: String::new() }
    }

    async fn send(&mut self, request: RequestBuilder) -> (u16, Value) {
        let response = request.send().await.expect("the server does not answer");
        let (status, headers) = (response.status().as_u16(), format!("{:?}", response.headers()));
        let text = response.text().await.expect("the answer ended early");
        if status >= 400 {
            self.errors.extend([headers, text.clone(), "\n".to_owned()]);
        }
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    async fn ask(&mut self, who: Option<&str>, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.http.request(method, format!("{}/{path}", self.base)).json(&body);
        let request = match who {
            Some(key) if key.starts_with("ck_") || key == WRONG_KEY => request.header("X-API-Key", key),
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        self.send(request).await
    }

    async fn log_in(&mut self, email: &str, password: &str) -> String {
        let body = json!({"email": email, "password": password});
        let (status, session) = self.ask(None, Method::POST, "auth/login", body).await;
        assert_eq!(status, 200, "{session}");
        self.given(&session["refreshToken"]);
        self.given(&session["accessToken"])
    }

    /// Stores a secret that the server generated.
    fn given(&mut self, secret: &Value) -> String {
        let secret = secret.as_str().expect("a secret").to_owned();
        self.secrets.push(secret.clone());
        secret
    }

    /// Sends valid requests.
    async fn use_well(&mut self) -> (String, String) {
        let admin = self.log_in(EMAIL, ADMIN_PASSWORD).await;
        let who = Some(admin.as_str());
        let user =
            json!({"email": "ann@shop.test", "password": USER_PASSWORD, "role": "USER", "userId": "ann"});
        assert_eq!(self.ask(who, Method::POST, "users", user).await.0, 201);
        let user = self.log_in("ann@shop.test", USER_PASSWORD).await;
        let (_, key) =
            self.ask(who, Method::POST, "api-keys", json!({"name": "Shop", "role": "SERVICE"})).await;
        self.given(&key["key"]);
        let (_, book) = self.ask(who, Method::POST, "coupon-books", json!({"name": "A book"})).await;
        let book = book["id"].as_str().expect("an id").to_owned();
        let path = format!("coupon-books/{book}");
        assert_eq!(self.ask(who, Method::PATCH, &path, json!({"status": "ACTIVE"})).await.0, 200);
        let file = format!("code\n{}\n{}\n{}\n{}\nbad code\n", CODES[0], CODES[1], CODES[3], CODES[3]);
        // In the second import each code exists already, which the database detects.
        for _ in 0..2 {
            let upload = format!("{}/coupon-codes/upload?couponBookId={book}", self.base);
            let upload = self.http.post(upload).bearer_auth(&admin).header("Content-Type", "text/csv");
            let (status, job) = self.send(upload.body(file.clone())).await;
            assert_eq!(status, 202, "{job}");
            self.wait_for(who, &job).await;
        }
        let path = format!("assignments/{}", CODES[0]);
        assert_eq!(self.ask(who, Method::POST, &path, json!({"userId": "ann"})).await.0, 201);
        for way in ["lock", "unlock", "validate"] {
            let path = format!("coupons/{}/{way}", CODES[0]);
            assert_eq!(self.ask(Some(&user), Method::POST, &path, json!({})).await.0, 200);
        }
        (admin, user)
    }

    async fn wait_for(&mut self, who: Option<&str>, job: &Value) {
        let path = format!("jobs/{}", job["id"].as_str().expect("an id"));
        eventually("the import to end", async || {
            (self.ask(who, Method::GET, &path, json!({})).await.1["status"] == "SUCCEEDED").then_some(())
        })
        .await;
    }

    /// Puts each secret into each parameter of each path, after the path, and into the query, like a client that confuses fields.
    async fn misplace(&mut self, admin: &str) {
        let root = self.base.trim_end_matches("/api/v1").to_owned();
        for (path, secret) in
            paths().iter().flat_map(|path| self.secrets.iter().map(move |secret| (path, secret)))
        {
            let in_place: Vec<_> = path
                .split('/')
                .map(|segment| if segment.starts_with('{') { secret } else { segment })
                .collect();
            let in_place = in_place.join("/");
            let mut asked = vec![
                (Method::GET, format!("{in_place}/{secret}")),
                (Method::GET, format!("{in_place}?{secret}={secret}")),
            ];
            // Without a parameter in the path, this would be the operation itself.
            if in_place != *path {
                asked.extend([Method::GET, Method::POST].map(|method| (method, in_place.clone())));
            }
            for (method, path) in asked {
                let request = self.http.request(method, format!("{root}{path}")).bearer_auth(admin);
                request.send().await.expect("the server does not answer");
            }
        }
    }

    /// Sends invalid requests, each with a secret.
    async fn use_badly(&mut self, admin: &str, user: &str) {
        for (email, password) in [(EMAIL, WRONG_PASSWORD), ("nobody@shop.test", USER_PASSWORD)] {
            let body = json!({"email": email, "password": password});
            assert_eq!(self.ask(None, Method::POST, "auth/login", body).await.0, 401);
        }
        for who in [WRONG_TOKEN, WRONG_KEY] {
            assert_eq!(self.ask(Some(who), Method::GET, "jobs", json!({})).await.0, 401);
        }
        let broken = self.http.post(format!("{}/auth/login", self.base));
        let broken = broken.header("Content-Type", "application/json");
        let broken = broken.body(format!(r#"{{"email": "{EMAIL}", "password": "{WRONG_PASSWORD}"#));
        assert_eq!(self.send(broken).await.0, 400);
        let misplaced = [
            json!({"email": {"password": WRONG_PASSWORD}, "password": [WRONG_PASSWORD]}),
            json!({"email": EMAIL, "password": WRONG_PASSWORD, "code": CODES[2]}),
        ];
        for body in misplaced {
            assert_eq!(self.ask(None, Method::POST, "auth/login", body).await.0, 422);
        }
        let taken = json!({"email": "ann@shop.test", "password": WRONG_PASSWORD, "role": "USER"});
        assert_eq!(self.ask(Some(admin), Method::POST, "users", taken).await.0, 409);
        for (who, code) in [(user, CODES[1]), (user, CODES[2]), (admin, CODES[1]), (admin, CODES[2])] {
            for way in ["lock", "unlock", "redeem", "validate"] {
                let path = format!("coupons/{code}/{way}");
                let (status, _) = self.ask(Some(who), Method::POST, &path, json!({"userId": "ann"})).await;
                assert!([404, 409].contains(&status), "{status}");
            }
        }
        for (path, status) in
            [(format!("coupons/{}?x=%FF", CODES[2]), 422), (format!("coupons/{}/nothing", CODES[2]), 404)]
        {
            assert_eq!(self.ask(Some(admin), Method::GET, &path, json!({})).await.0, status);
        }
        let path = format!("coupon-codes/book/{}?prefix={}", uuid_of_nobody(), CODES[2]);
        assert_eq!(self.ask(Some(admin), Method::GET, &path, json!({})).await.0, 404);
    }
}

/// The paths of the OpenAPI document, and prefixes of other paths.
fn paths() -> Vec<String> {
    let document = fs::read_to_string(DOCUMENT).expect("there is no document");
    let document: Value = serde_json::from_str(&document).expect("the document is JSON");
    let paths = document["paths"].as_object().expect("the document has paths");
    let others =
        ["/", "/docs/", "/docs/errors/", "/openapi.json/", "/metrics/", "/health/", "/api/v1/", "/api/v2/"];
    paths.keys().cloned().chain(others.map(|path| format!("{path}{{}}"))).collect()
}

fn uuid_of_nobody() -> &'static str {
    "01890000-0000-7000-8000-000000000000"
}

/// The text of all logs in a folder and its subfolders.
fn logs_under(folder: &Path) -> String {
    let entries =
        fs::read_dir(folder).expect("the folder cannot be read").map(|entry| entry.expect("an entry"));
    let text = |entry: fs::DirEntry| match entry.path() {
        path if path.is_dir() => logs_under(&path),
        path if path.extension().is_some_and(|extension| extension == "log") => {
            String::from_utf8_lossy(&fs::read(path).expect("a log cannot be read")).into_owned()
        }
        _ => String::new(),
    };
    entries.map(text).collect()
}

#[tokio::test]
async fn secrets_are_in_no_log_and_no_error_however_much_is_logged() {
    let installation = Installation::new();
    let mut process = Process::spawn(
        installation
            .command()
            .env("CUPONERA_LOG", "trace")
            .env("CUPONERA_JWT_SECRET", JWT_SECRET)
            .env("CUPONERA_AUDIT_KEY", AUDIT_KEY)
            .env("CUPONERA_ADMIN_PASSWORD", ADMIN_PASSWORD),
    );
    process.serves().await;
    let mut planter = Planter::new(process.banner("API").expect("an address"));
    let (admin, user) = planter.use_well().await;
    planter.use_badly(&admin, &user).await;
    planter.misplace(&admin).await;
    let metrics = planter.base.replace("/api/v1", "/metrics");
    let metrics =
        planter.http.get(metrics).send().await.expect("no metrics").text().await.expect("no metrics");
    assert!(metrics.contains("/api/v1/coupons/{code}/lock"), "{metrics}");
    assert!(!metrics.contains('@') && !metrics.contains("ann"), "a user is in a label: {metrics}");
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    let fails =
        Process::spawn(installation.command().env(
            "CUPONERA_DATABASE_URL",
            format!("postgres://canary:{DATABASE_PASSWORD}@127.0.0.1:1/canary"),
        ));
    let (fails, own_password) = (ended(fails).await, installation.data_dir().join("postgres.password"));
    planter.secrets.push(fs::read_to_string(own_password).expect("a password").trim().to_owned());
    let places = [
        ("the log", process.stderr()),
        ("standard output", process.stdout()),
        ("the output of a failed start", fails),
        ("errors", planter.errors.clone()),
        ("the metrics", metrics),
        ("the log of Postgres", logs_under(&installation.data_dir())),
    ];
    for (place, text) in places {
        assert!(!text.is_empty(), "{place}: empty");
        for secret in &planter.secrets {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{place} contains {secret}");
        }
    }
}

async fn ended(mut process: Process) -> String {
    assert!(!process.ended().await.success());
    process.stdout() + &process.stderr()
}
