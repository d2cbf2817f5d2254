//! A fresh installation to measure: a Postgres of its own and the program as its users start it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::process::{Child, Command};

use crate::Result;

const PASSWORD: &str = "correct horse battery";

/// The running installation.
pub(crate) struct Installation {
    folder: PathBuf,
    postgres: PrivatePostgres,
    program: Child,
    pub(crate) database_url: String,
    pub(crate) pool: PgPool,
    pub(crate) client: reqwest::Client,
    pub(crate) base: String,
    token: String,
}

impl Installation {
    pub(crate) async fn start(program: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("cuponera-bench-{}", std::process::id()));
        let postgres =
            PrivatePostgres::start(&Binaries::find()?, &Options::new(folder.join("database"))).await?;
        let admin = PgPoolOptions::new().connect(postgres.url()).await?;
        sqlx::query(AssertSqlSafe("create database cuponera")).execute(&admin).await?;
        let server = postgres.url().strip_suffix("/postgres").ok_or("the server has a strange address")?;
        let database_url = format!("{server}/cuponera");
        let address = free_address()?;
        let mut command = Command::new(program);
        command.arg("up").arg("--data-dir").arg(folder.join("data")).stdout(Stdio::null()).kill_on_drop(true);
        command.env("CUPONERA_DATABASE_URL", &database_url).env("CUPONERA_HTTP_ADDR", &address);
        command.env("CUPONERA_ADMIN_PASSWORD", PASSWORD).env("CUPONERA_LOG", "warn");
        let program = command.spawn()?;
        let client = reqwest::Client::new();
        let base = format!("http://{address}");
        wait_until_up(&client, &base).await?;
        let login = json!({ "email": "admin@example.com", "password": PASSWORD });
        let session: Value =
            client.post(format!("{base}/api/v1/auth/login")).json(&login).send().await?.json().await?;
        let token = session["accessToken"].as_str().ok_or("the login gave no token")?.to_owned();
        // A key outlives an access token.
        let key: Value = client
            .post(format!("{base}/api/v1/api-keys"))
            .bearer_auth(&token)
            .json(&json!({ "name": "bench" }))
            .send()
            .await?
            .json()
            .await?;
        let token = key["key"].as_str().ok_or("no API key was given")?.to_owned();
        let pool = PgPoolOptions::new().max_connections(4).connect(&database_url).await?;
        Ok(Self { folder, postgres, program, database_url, pool, client, base, token })
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.pool.close().await;
        self.program.kill().await?;
        self.postgres.stop().await?;
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
    }

    /// A place for files of the run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request =
            self.client.post(format!("{}/api/v1{path}", self.base)).header("X-API-Key", &self.token);
        Ok(request.json(body).send().await?.error_for_status()?.json().await?)
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        let request =
            self.client.patch(format!("{}/api/v1{path}", self.base)).header("X-API-Key", &self.token);
        Ok(request.json(body).send().await?.error_for_status()?.json().await?)
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        let request = self.client.get(format!("{}/api/v1{path}", self.base)).header("X-API-Key", &self.token);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Makes an active book and answers its id.
    pub(crate) async fn book(&self) -> Result<String> {
        let book = self.post("/coupon-books", &json!({ "name": "Bench" })).await?;
        let id = book["id"].as_str().ok_or("the book has no id")?.to_owned();
        self.patch(&format!("/coupon-books/{id}"), &json!({ "status": "ACTIVE" })).await?;
        Ok(id)
    }

    /// Makes codes and waits until they are there.
    pub(crate) async fn generate(&self, book: &str, quantity: u64) -> Result<()> {
        let job = self
            .post("/coupon-codes/generate", &json!({ "couponBookId": book, "quantity": quantity }))
            .await?;
        let path = format!("/jobs/{}", job["id"].as_str().ok_or("the job has no id")?);
        loop {
            let job = self.get(&path).await?;
            match job["status"].as_str() {
                Some("SUCCEEDED") => return Ok(()),
                Some("QUEUED" | "RUNNING") => tokio::time::sleep(Duration::from_millis(20)).await,
                _ => return Err(format!("the job ended otherwise: {job}").into()),
            }
        }
    }

    /// Starts measuring the program's peak memory anew.
    pub(crate) fn forget_peak_memory(&self) -> Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.pid()?), "5")?)
    }

    /// The most memory the program held since, in MiB.
    pub(crate) fn peak_memory_mib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("no peak memory is told")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("no peak memory is told")?.parse()?;
        Ok(kib / 1024)
    }

    fn pid(&self) -> Result<u32> {
        Ok(self.program.id().ok_or("the program has ended")?)
    }
}

fn free_address() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

async fn wait_until_up(client: &reqwest::Client, base: &str) -> Result<()> {
    for _ in 0..300 {
        if client
            .get(format!("{base}/health/ready"))
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the program did not come up within 30 seconds".into())
}
