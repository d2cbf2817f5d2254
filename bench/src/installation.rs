//! A new installation to measure: a durable Postgres, the programs as users start them, and books with
//! codes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use reqwest::multipart;
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool, query, query_scalar};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::Result;
use crate::load::Target;

const PASSWORD: &str = "correct horse battery";
/// Interval for polling a start or a job.
const POLL: Duration = Duration::from_millis(10);

/// The programs of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Programs {
    /// `cuponera`, which runs API, worker and Postgres.
    One,
    /// `cuponera-api` and `cuponera-worker`, so that the memory of each can be measured.
    Two,
}

/// The holders of planted codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holders {
    /// Code `B000000007` is held by `u7`.
    OneEach,
    Nobody,
}

/// A book with codes of `B` and nine digits, starting at `first_code`.
#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub(crate) id: String,
    pub(crate) first_code: u64,
}

/// The running installation.
pub(crate) struct Installation {
    folder: PathBuf,
    postgres: PrivatePostgres,
    /// The API is first. A single program is also the worker.
    programs: Vec<Child>,
    pub(crate) database_url: String,
    pub(crate) pool: PgPool,
    pub(crate) business: String,
    client: reqwest::Client,
    target: Target,
}

impl Installation {
    /// Starts an installation with the programs of a folder.
    pub(crate) async fn start(folder_of_programs: &Path, programs: Programs) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("cuponera-bench-{}-{programs:?}", std::process::id()));
        let postgres =
            PrivatePostgres::start(&Binaries::find()?, &Options::new(folder.join("database"))).await?;
        let admin = PgPoolOptions::new().connect(postgres.url()).await?;
        query(AssertSqlSafe("create database cuponera")).execute(&admin).await?;
        let server = postgres.url().strip_suffix("/postgres").ok_or("the server has an unexpected URL")?;
        let database_url = format!("{server}/cuponera");
        let address = free_address()?;
        let command = |program: &str| {
            let mut command = Command::new(folder_of_programs.join(program));
            command.stdout(Stdio::null()).kill_on_drop(true).env("CUPONERA_LOG", "error");
            command.env("CUPONERA_DATA_DIR", folder.join("data")).env("CUPONERA_HTTP_ADDR", &address);
            command.env("CUPONERA_DATABASE_URL", &database_url).env("CUPONERA_ADMIN_PASSWORD", PASSWORD);
            command.env("CUPONERA_JWT_SECRET", PASSWORD.repeat(2));
            command.env("CUPONERA_AUDIT_KEY", "be7c4a11".repeat(8));
            command.env("CUPONERA_WEBHOOK_ALLOW", "127.0.0.0/8");
            command
        };
        let programs = match programs {
            Programs::One => vec![command("cuponera").arg("up").spawn()?],
            Programs::Two => {
                finish(command("cuponera").arg("migrate"), "").await?;
                let business = ["admin", "create-business", "Bench", "--admin-email", "admin@example.com"];
                finish(command("cuponera").args(business).arg("--password-stdin"), PASSWORD).await?;
                vec![command("cuponera-api").spawn()?, command("cuponera-worker").spawn()?]
            }
        };
        let client = reqwest::Client::new();
        wait_until_up(&client, &address).await?;
        let pool = PgPoolOptions::new().max_connections(4).connect(&database_url).await?;
        let business: String = query_scalar("select id::text from business").fetch_one(&pool).await?;
        let api_key = api_key(&client, &address).await?;
        let target = Target { address, api_key };
        Ok(Self { folder, postgres, programs, database_url, pool, business, client, target })
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        self.pool.close().await;
        for program in &mut self.programs {
            program.kill().await?;
        }
        self.postgres.stop().await?;
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
    }

    /// The address and API key for the load.
    pub(crate) fn target(&self) -> Target {
        self.target.clone()
    }

    /// A path for a file of the run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same path as text, for a command.
    pub(crate) fn path(&self, name: &str) -> Result<String> {
        Ok(self.file(name).to_str().ok_or("the path of the temporary folder is not UTF-8")?.to_owned())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.client.post(self.url(path)).header("X-API-Key", &self.target.api_key);
        Ok(request.json(body).send().await?.error_for_status()?.json().await?)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1{path}", self.target.address)
    }

    /// Creates an active book and returns its id.
    pub(crate) async fn book(&self) -> Result<String> {
        let book = self.post("/coupon-books", &json!({ "name": "Bench" })).await?;
        let id = book["id"].as_str().ok_or("the book has no id")?.to_owned();
        let activate = self.client.patch(self.url(&format!("/coupon-books/{id}")));
        let activate =
            activate.header("X-API-Key", &self.target.api_key).json(&json!({ "status": "ACTIVE" }));
        activate.send().await?.error_for_status()?;
        Ok(id)
    }

    /// Creates a book with codes by SQL instead of jobs.
    pub(crate) async fn book_with_codes(&self, codes: u64, holders: Holders) -> Result<Book> {
        let id = self.book().await?;
        let next: Option<i64> =
            query_scalar("select max(substr(code, 2)::bigint) + 1 from coupon where code ~ '^B[0-9]{9}$'")
                .fetch_one(&self.pool)
                .await?;
        let first = next.unwrap_or(0);
        query(
            "with codes as (
               insert into coupon (business_id, book_id, job_id, position, code, status, holder, assignment_id, assigned_at, version)
               select $1::uuid, $2::uuid, $2::uuid, n - $3, 'B' || lpad(n::text, 9, '0'),
                      case when $5 then 'ASSIGNED' else 'AVAILABLE' end::coupon_status, case when $5 then 'u' || n end,
                      case when $5 then gen_random_uuid() end, case when $5 then now() end, $5::int
               from generate_series($3, $3 + $4 - 1) n),
             quota as (
               insert into user_quota (book_id, user_id, held, granted)
               select $2::uuid, 'u' || n, 1, 1 from generate_series($3, $3 + $4 - 1) n where $5),
             book as (update coupon_book set next_position = $4 where id = $2::uuid)
             insert into book_delta (book_id, generated, available, assigned)
             values ($2::uuid, $4, case when $5 then 0 else $4 end, case when $5 then $4 else 0 end)",
        )
        .bind(&self.business)
        .bind(&id)
        .bind(first)
        .bind(i64::try_from(codes)?)
        .bind(holders == Holders::OneEach)
        .execute(&self.pool)
        .await?;
        for settle in ["vacuum analyze coupon", "vacuum analyze user_quota", "checkpoint"] {
            query(AssertSqlSafe(settle)).execute(&self.pool).await?;
        }
        Ok(Book { id, first_code: u64::try_from(first)? })
    }

    /// Fails unless a book has this number of codes in a status: the timed work must have been done.
    pub(crate) async fn expect_codes(&self, book: &str, status: &str, expected: u64) -> Result<()> {
        let count: i64 = query_scalar(
            "select count(*) from coupon where book_id = $1::uuid and status = $2::coupon_status",
        )
        .bind(book)
        .bind(status)
        .fetch_one(&self.pool)
        .await?;
        if u64::try_from(count)? == expected {
            return Ok(());
        }
        Err(format!("{count} codes are {status}, expected {expected}").into())
    }

    /// Writes one event of each of the first codes of a book, with this version, by SQL. The codes do not change.
    pub(crate) async fn write_events(&self, book: &str, events: u64, version: u64) -> Result<()> {
        query(
            "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
             select gen_random_uuid(), $1::uuid, $2::uuid, n, $4, 'ASSIGNED', 'LOCKED', 'LOCK', 'u' || n, 'bench'
             from generate_series(0, $3 - 1) n",
        )
        .bind(&self.business)
        .bind(book)
        .bind(i32::try_from(events)?)
        .bind(i32::try_from(version)?)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Empties the table of codes and runs a checkpoint, so that both sides start in the same state.
    pub(crate) async fn empty_coupons(&self) -> Result<()> {
        query("truncate coupon, user_quota").execute(&self.pool).await?;
        query("checkpoint").execute(&self.pool).await?;
        Ok(())
    }

    /// Generates codes; returns the id of the succeeded job.
    pub(crate) async fn generate(&self, book: &str, quantity: u64) -> Result<String> {
        let request = json!({ "couponBookId": book, "quantity": quantity });
        let job = self.run_job("/coupon-codes/generate", &request).await?;
        Ok(job["id"].as_str().ok_or("the job has no id")?.to_owned())
    }

    /// Submits a job and returns it when it has succeeded.
    pub(crate) async fn run_job(&self, path: &str, request: &Value) -> Result<Value> {
        let job = self.post(path, request).await?;
        self.succeeded(&job).await
    }

    /// Uploads a file and waits until its job has succeeded.
    pub(crate) async fn import(&self, book: &str, file: &Path) -> Result<()> {
        let job = self.upload(book, file).await?;
        self.succeeded(&job).await?;
        Ok(())
    }

    /// Uploads a file and returns its job.
    pub(crate) async fn upload(&self, book: &str, file: &Path) -> Result<Value> {
        let form = multipart::Form::new().file("file", file).await?;
        let upload = self.client.post(self.url(&format!("/coupon-codes/upload?couponBookId={book}")));
        let answer = upload.header("X-API-Key", &self.target.api_key).multipart(form).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    async fn succeeded(&self, job: &Value) -> Result<Value> {
        let id = job["id"].as_str().ok_or("the job has no id")?;
        loop {
            let request = self.client.get(self.url(&format!("/jobs/{id}")));
            let answer = request.header("X-API-Key", &self.target.api_key).send().await?;
            let job: Value = answer.error_for_status()?.json().await?;
            match job["status"].as_str() {
                Some("SUCCEEDED") => return Ok(job),
                Some("QUEUED" | "RUNNING") => tokio::time::sleep(POLL).await,
                _ => return Err(format!("the job did not succeed: {job}").into()),
            }
        }
    }

    /// The number of requests of a route that the API answered with 2xx, from its metrics.
    pub(crate) async fn requests_of(&self, route: &str) -> Result<u64> {
        let metrics = self.client.get(format!("http://{}/metrics", self.target.address)).send().await?;
        let metrics = metrics.error_for_status()?.text().await?;
        let of_route = |line: &&str| {
            line.starts_with("cuponera_http_requests_total{")
                && line.contains(&format!(r#"route="{route}""#))
                && line.contains(r#"status="2"#)
        };
        let counts =
            metrics.lines().filter(of_route).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    /// Resets the peak memory of the programs.
    pub(crate) fn forget_peak_memory(&self) -> Result<()> {
        for program in &self.programs {
            std::fs::write(format!("/proc/{}/clear_refs", pid(program)?), "5")?;
        }
        Ok(())
    }

    /// The peak memory of the API since the reset, in MiB.
    pub(crate) fn peak_memory_of_api(&self) -> Result<f64> {
        peak_memory(self.programs.first().ok_or("no program runs")?)
    }

    /// The peak memory of the worker since the reset, in MiB.
    pub(crate) fn peak_memory_of_worker(&self) -> Result<f64> {
        peak_memory(self.programs.last().ok_or("no program runs")?)
    }
}

fn pid(program: &Child) -> Result<u32> {
    Ok(program.id().ok_or("a program has ended")?)
}

fn peak_memory(program: &Child) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid(program)?))?;
    let line =
        status.lines().find(|line| line.starts_with("VmHWM:")).ok_or("the system reports no peak memory")?;
    let kib: f64 = line.split_whitespace().nth(1).ok_or("the system reports no peak memory")?.parse()?;
    Ok(kib / 1024.0)
}

/// Runs a command with this input until it ends.
async fn finish(command: &mut Command, input: &str) -> Result<()> {
    let mut running = command.stdin(Stdio::piped()).spawn()?;
    let mut stdin = running.stdin.take().ok_or("a command has no input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let done = running.wait().await?;
    if done.success() { Ok(()) } else { Err(format!("{command:?} failed").into()) }
}

pub(crate) fn free_address() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Waits until the API is ready, at most one minute.
pub(crate) async fn wait_until_up(client: &reqwest::Client, address: &str) -> Result<()> {
    for _ in 0..6_000 {
        let ready = client.get(format!("http://{address}/health/ready")).send().await;
        if ready.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
    Err("the program was not ready within a minute".into())
}

/// A SERVICE key: unlike an access token it does not expire during the run.
async fn api_key(client: &reqwest::Client, address: &str) -> Result<String> {
    let login = json!({ "email": "admin@example.com", "password": PASSWORD });
    let session = client.post(format!("http://{address}/api/v1/auth/login")).json(&login).send().await?;
    let session: Value = session.error_for_status()?.json().await?;
    let token = session["accessToken"].as_str().ok_or("the login returned no token")?;
    let request = client.post(format!("http://{address}/api/v1/api-keys")).bearer_auth(token);
    let key: Value =
        request.json(&json!({ "name": "bench" })).send().await?.error_for_status()?.json().await?;
    Ok(key["key"].as_str().ok_or("no API key was returned")?.to_owned())
}
