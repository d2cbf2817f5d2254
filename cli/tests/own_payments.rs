//! The example of docs/own-payments.md against `cuponera up`: its shop is killed with SIGKILL at each of its lines, and no money,
//! coupon or order is lost or taken twice. `cli/tests/own_payments/kill.py` plays and checks.

use std::path::Path;
use std::process::{Command, Stdio};

use cuponera_testkit::free_address;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::finish;
use crate::support::{Admin, EMAIL, Installation, PASSWORD, Process};

/// More than the runs of a soak need: each takes one code.
const CODES: u32 = 20_000;

#[tokio::test]
async fn the_own_payments_example_survives_a_kill_at_each_of_its_lines() {
    let shop = Shop::new().await;
    let printed = shop.play(&[]);
    println!("{printed}");
    assert!(printed.contains(": 0 failures in "), "{printed}");
    assert_eq!(shop.server.complaints(), Vec::<String>::new());
}

#[tokio::test]
async fn the_demo_of_own_payments_ends_without_a_difference() {
    let shop = Shop::new().await;
    let mut command = shop.python("../examples/own-payments/demo.py");
    // The provider chooses a port; the shop is started again on the same one.
    command.env("CUPONERA_EMAIL", EMAIL).env("CUPONERA_PASSWORD", PASSWORD);
    command.env("PROVIDER_PORT", "0").env("SHOP_PORT", free_address().port().to_string());
    let printed = succeeds(&mut command);
    for line in ["order PAID      coupon REDEEMED", "order REFUNDED  coupon ASSIGNED", "no difference"] {
        assert!(printed.contains(line), "{printed}");
    }
}

#[tokio::test]
async fn a_bug_in_the_own_payments_example_is_detected() {
    let shop = Shop::new().await;
    let printed = shop.play(&["bugs"]);
    println!("{printed}");
    assert!(printed.contains("caught no_reference: "), "{printed}");
}

/// A server with the books and the API key of the example.
struct Shop {
    server: Process,
    key: String,
    books: Value,
    folder: TempDir,
    _installation: Installation,
}

impl Shop {
    async fn new() -> Self {
        let installation = Installation::new();
        let server = installation.up().await;
        let admin = server.log_in(PASSWORD).await;
        let order = json!({"name": "shop", "permissions": ["coupons:use", "coupons:read", "coupons:assign-random",
            "redemptions:read", "redemptions:rollback"]});
        let made = admin.json(admin.request(Method::POST, "api-keys").json(&order), 201).await;
        let key = made["key"].as_str().expect("a key").to_owned();
        let books = json!({
            "one": book(&admin, &json!({"name": "One use"})).await,
            "five": book(&admin, &json!({"name": "Five uses", "maxRedeemsPerUser": 5})).await,
            "lock": book(&admin, &json!({"name": "With lock", "maxRedeemsPerUser": 5, "requireLock": true})).await,
        });
        let folder = TempDir::new().expect("creating a temporary folder failed");
        Self { server, key, books, folder, _installation: installation }
    }

    /// Runs kill.py, which must succeed. Returns its output.
    fn play(&self, arguments: &[&str]) -> String {
        let mut command = self.python("tests/own_payments/kill.py");
        command.args(arguments).env("CUPONERA_API_KEY", &self.key).env("BOOKS", self.books.to_string());
        succeeds(&mut command)
    }

    /// Python with a script of the repository, on this server.
    fn python(&self, script: &str) -> Command {
        let mut command = Command::new("python3");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
        let url = self.server.banner("API").expect("the banner has no address").replace("/api/v1", "");
        command
            .env("CUPONERA_URL", url)
            .env("TMPDIR", self.folder.path())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// Runs a command, which must succeed. Returns its output.
fn succeeds(command: &mut Command) -> String {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().expect("python3 does not start: the tests need Python 3.10 or newer");
    let ran = finish(child);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    ran.stdout
}

/// A new active book with codes. Returns its id.
async fn book(admin: &Admin, rules: &Value) -> String {
    let made = admin.post("coupon-books", rules, 201).await;
    let id = made["id"].as_str().expect("an id").to_owned();
    let change = admin.request(Method::PATCH, &format!("coupon-books/{id}"));
    admin.json(change.json(&json!({"status": "ACTIVE"})), 200).await;
    let job = admin.post("coupon-codes/generate", &json!({"couponBookId": id, "quantity": CODES}), 202).await;
    assert_eq!(admin.over(&job).await["status"], "SUCCEEDED");
    id
}
