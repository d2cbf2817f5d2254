//! Runs the fleet on one machine without Docker: a private Postgres, emulators of SQS and S3, Redis, an API
//! and two workers. Each run starts from an empty state, and Ctrl-C stops and deletes everything. A program
//! that ends is restarted.
//!
//! Settings of the environment and of `.env` (`CUPONERA_HTTP_ADDR`, `CUPONERA_ADMIN_EMAIL`, `CUPONERA_LOG`,
//! …) apply as usual; a metrics address applies to the API only.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use cuponera_domain::principal::parse_email;
use cuponera_platform::credential::check_password;
use cuponera_platform::lifecycle;
use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use cuponera_testkit::{Emulator, Redis, eventually};
use futures::FutureExt;
use futures::future::select_all;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

const QUEUE: &str = "cuponera-jobs";
const DEAD_LETTERS: &str = "cuponera-jobs-dead";
const BUCKET: &str = "cuponera-files";
const API: &str = "cuponera-api";
const WORKER: &str = "cuponera-worker";
const WORKERS: usize = 2;
const DEFAULT_EMAIL: &str = "admin@example.com";
const DEFAULT_PASSWORD: &str = "development only";
/// A worker needs up to 15 s.
const END_TIMEOUT: Duration = Duration::from_secs(20);

/// Delay before a program that ended is restarted.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

type AnyError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    // Called before threads exist, because it may execute the program again.
    let prepared = lifecycle::prepare().map_err(AnyError::from);
    let done = prepared.and_then(|()| Ok(Runtime::new()?)).and_then(|runtime| runtime.block_on(run()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("run-aws: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), AnyError> {
    let (address, admin) = (http_address()?, FirstAdmin::of_the_settings()?);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let programs =
        std::env::current_exe()?.parent().ok_or("the folder of this program is unknown")?.to_owned();
    let folder = programs.parent().unwrap_or(&programs).join(format!("run-aws-{}", std::process::id()));
    let postgres = PrivatePostgres::start(&Binaries::find()?, &Options::new(&folder)).await?;
    let mut fleet = Fleet { programs, address, admin, settings: Vec::new(), members: Vec::new() };
    let told_to_end = async {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    };
    // The testkit panics if a service cannot be started. The running programs must be stopped even then.
    let serving = AssertUnwindSafe(fleet.serve(postgres.url())).catch_unwind();
    let done = tokio::select! {
        done = serving => done.unwrap_or_else(|_| Err("a service could not be started: see above".into())),
        () = told_to_end => Ok(()),
    };
    println!("\n  Stopping");
    fleet.end().await;
    let stopped = postgres.stop().await;
    std::fs::remove_dir_all(&folder)?;
    done?;
    Ok(stopped?)
}

/// The address of the API.
fn http_address() -> Result<SocketAddr, AnyError> {
    let address = std::env::var("CUPONERA_HTTP_ADDR").unwrap_or_else(|_| "127.0.0.1:8080".to_owned());
    let address: Option<SocketAddr> = address.parse().ok();
    let address = address.filter(|address| address.port() != 0);
    address.ok_or_else(|| {
        "CUPONERA_HTTP_ADDR: must be an address with a port, and the port not 0, as in 127.0.0.1:8080".into()
    })
}

/// The first admin of the first business.
struct FirstAdmin {
    email: String,
    password: String,
}

impl FirstAdmin {
    /// Validates the settings before anything is started.
    fn of_the_settings() -> Result<Self, AnyError> {
        let setting = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
        let email = setting("CUPONERA_ADMIN_EMAIL", DEFAULT_EMAIL);
        let password = setting("CUPONERA_ADMIN_PASSWORD", DEFAULT_PASSWORD);
        if parse_email(&email).is_err() {
            return Err("CUPONERA_ADMIN_EMAIL: must be an email address".into());
        }
        check_password(&password, Some(&email))
            .map_err(|fault| format!("CUPONERA_ADMIN_PASSWORD: {fault}"))?;
        Ok(Self { email, password })
    }

    /// For the banner, which does not print a password from the settings.
    fn shown_password(&self) -> &str {
        if self.password == DEFAULT_PASSWORD {
            DEFAULT_PASSWORD
        } else {
            "the value of CUPONERA_ADMIN_PASSWORD"
        }
    }
}

/// The running programs and their settings.
struct Fleet {
    programs: PathBuf,
    address: SocketAddr,
    admin: FirstAdmin,
    settings: Vec<(&'static str, String)>,
    members: Vec<(&'static str, Child)>,
}

impl Fleet {
    /// Starts all programs and restarts those that end. Returns only if a program cannot be started.
    async fn serve(&mut self, postgres: &str) -> Result<(), AnyError> {
        let emulator = Emulator::get().await;
        emulator.make_queue(QUEUE, DEAD_LETTERS).await;
        emulator.make_bucket(BUCKET).await;
        let redis = Redis::start().await;
        self.settings = vec![
            ("CUPONERA_DATABASE_URL", postgres.to_owned()),
            ("CUPONERA_QUEUE_URL", QUEUE.to_owned()),
            ("CUPONERA_FILES_URL", format!("s3://{BUCKET}/cuponera")),
            ("CUPONERA_HTTP_ADDR", self.address.to_string()),
            ("CUPONERA_JWT_SECRET", "a secret for development, not for anything else".to_owned()),
            ("CUPONERA_AUDIT_KEY", "de7e109a".repeat(8)),
            ("AWS_ENDPOINT_URL", emulator.url().to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("NO_PROXY", Ipv4Addr::LOCALHOST.to_string()),
            ("CUPONERA_REDIS_URL", redis.url()),
        ];
        if std::env::var_os("CUPONERA_LOG").is_none() {
            self.settings.push(("CUPONERA_LOG", "warn".to_owned()));
        }
        self.set_up().await?;
        self.start(API)?;
        for _ in 0..WORKERS {
            self.start(WORKER)?;
        }
        tokio::select! {
            (place, status) = first_end(&mut self.members) => {
                return Err(format!("{} does not start: {}", self.members[place].0, status?).into());
            }
            () = until_open(self.address) => {}
        }
        println!("{}", self.banner(postgres, emulator.url(), &redis.url()));
        loop {
            let (place, status) = first_end(&mut self.members).await;
            let name = self.members[place].0;
            println!("  {name} has ended ({}) and is started again", status?);
            tokio::time::sleep(RESTART_PAUSE).await;
            self.members[place].1 = self.spawn(name)?;
        }
    }

    /// Creates the schema and the first business.
    async fn set_up(&self) -> Result<(), AnyError> {
        let migrated = self.command("cuponera").arg("migrate").status().await?;
        let verb =
            ["admin", "create-business", "My business", "--if-none", "--password-stdin", "--admin-email"];
        let mut admin = self.command("cuponera");
        let mut admin =
            admin.args(verb).arg(&self.admin.email).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let mut input = admin.stdin.take().ok_or("the input is not a pipe")?;
        tokio::io::AsyncWriteExt::write_all(&mut input, self.admin.password.as_bytes()).await?;
        drop(input);
        if migrated.success() && admin.wait().await?.success() {
            return Ok(());
        }
        Err("the database could not be set up: see above".into())
    }

    fn start(&mut self, program: &'static str) -> io::Result<()> {
        let child = self.spawn(program)?;
        self.members.push((program, child));
        Ok(())
    }

    fn spawn(&self, program: &str) -> io::Result<Child> {
        let mut command = self.command(program);
        if program == WORKER {
            // A metrics address in the environment or in .env belongs to the API; two programs cannot share
            // it.
            command.env("CUPONERA_METRICS_ADDR", "127.0.0.1:0");
        }
        command.stdin(Stdio::null()).spawn()
    }

    /// In its own process group: a Ctrl-C in the terminal must reach the program once, through this one.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.process_group(0).kill_on_drop(true);
        command
    }

    fn banner(&self, postgres: &str, aws: &str, redis: &str) -> String {
        let (address, email, password) = (self.address, &self.admin.email, self.admin.shown_password());
        let worker_count = WORKERS;
        format!(
            "
  API            http://{address}/api/v1
  Documentation  http://{address}/docs
  First admin    {email}
  Password       {password}
  Workers        {worker_count}
  Postgres       {postgres}
  SQS and S3     {aws}  (AWS_ENDPOINT_URL; {QUEUE}, {BUCKET})
  Redis          {redis}

  Ctrl-C stops everything and deletes the data"
        )
    }

    /// Asks all programs to stop, and waits for them.
    async fn end(&mut self) {
        for (_, child) in &self.members {
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
            // It may have ended already.
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        }
        let ends = futures::future::join_all(self.members.iter_mut().map(|(_, child)| child.wait()));
        let _ = tokio::time::timeout(END_TIMEOUT, ends).await;
    }
}

/// Waits until a program ends, which is unexpected; returns its index and status.
async fn first_end(members: &mut [(&'static str, Child)]) -> (usize, io::Result<ExitStatus>) {
    let waits = members.iter_mut().map(|(_, child)| Box::pin(child.wait()));
    let (status, place, _) = select_all(waits).await;
    (place, status)
}

/// Waits until the address accepts connections.
async fn until_open(address: SocketAddr) {
    eventually("the API to serve", async || tokio::net::TcpStream::connect(address).await.ok().map(drop))
        .await;
}
