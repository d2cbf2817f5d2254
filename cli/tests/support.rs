//! An installation in a temporary folder, and its processes. They end with the test, also if it fails.

pub(crate) mod fleet;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cuponera_testkit::eventually;
use reqwest::{Method, RequestBuilder};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::PgPool;
use tempfile::TempDir;

/// Timeout of a condition. Generous, because reaching it fails the test.
const TIMEOUT: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(5);

pub(crate) const EMAIL: &str = "admin@example.com";
pub(crate) const PASSWORD: &str = "correct horse battery";

/// An installation in a temporary folder.
pub(crate) struct Installation {
    folder: TempDir,
}

/// A process, and its output so far.
pub(crate) struct Process {
    child: Child,
    stdout: Output,
    stderr: Output,
}

/// The output of a pipe so far, and the thread that reads it.
struct Output {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Installation {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new().expect("creating a temporary folder failed");
        // The Postgres that scripts/ensure-postgres.sh installs in this repository.
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.postgres");
        std::os::unix::fs::symlink(fetched, folder.path().join(".postgres")).expect("creating a link failed");
        Self { folder }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `cuponera up` on a free port; settings can be added.
    pub(crate) fn command(&self) -> Command {
        let mut command = self.verb(&["up"]);
        command.env("CUPONERA_HTTP_ADDR", "127.0.0.1:0");
        command
    }

    /// A subcommand of `cuponera` on this installation, without settings from the environment; settings can be added.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Command {
        let mut command = cuponera();
        command.args(arguments).current_dir(self.folder.path());
        command.env("CUPONERA_DATA_DIR", self.data_dir());
        command
    }

    /// Starts it with a known password and waits until it serves.
    pub(crate) async fn up(&self) -> Process {
        let mut process = Process::spawn(self.command().env("CUPONERA_ADMIN_PASSWORD", PASSWORD));
        process.serves().await;
        process
    }

    /// The postmaster of its Postgres, if it runs.
    pub(crate) fn postmaster(&self) -> Option<Pid> {
        let file = fs::read_to_string(self.data_dir().join("postgres/postmaster.pid")).ok()?;
        let pid = Pid::from_raw(file.lines().next()?.trim().parse().ok()?)?;
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command_line).contains("cluster_name=cuponera-").then_some(pid)
    }

    /// Direct connections to its database, for checks.
    pub(crate) async fn database(&self) -> PgPool {
        let file = fs::read_to_string(self.data_dir().join("postgres/postmaster.pid"));
        let file = file.expect("no Postgres runs");
        let port = file.lines().nth(3).expect("a port");
        let password = fs::read_to_string(self.data_dir().join("postgres.password")).expect("a password");
        let url = format!("postgres://cuponera:{}@127.0.0.1:{port}/cuponera", password.trim());
        PgPool::connect(&url).await.expect("the database does not answer")
    }
}

impl Drop for Installation {
    /// Stops a Postgres that is left, before its folder is deleted.
    fn drop(&mut self) {
        let Some(pid) = self.postmaster() else { return };
        let _ = kill_process(pid, Signal::QUIT);
        let begun = Instant::now();
        while Path::new(&format!("/proc/{pid}")).exists() && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(POLL);
        }
    }
}

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starting cuponera failed");
        let stdout = collect(child.stdout.take().expect("a pipe"));
        let stderr = collect(child.stderr.take().expect("a pipe"));
        Self { child, stdout, stderr }
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The warnings and errors in its log, without those caused by a slow machine.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.stderr();
        let complaints = log.lines().filter(|line| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            let is_slowness = line["target"].as_str().is_some_and(|target| target.starts_with("sqlx"))
                || line["message"]
                    .as_str()
                    .is_some_and(|message| message.starts_with("Redis is unavailable"));
            (line["level"] == "WARN" || line["level"] == "ERROR") && !is_slowness
        });
        complaints.map(str::to_owned).collect()
    }

    /// Waits until it has printed its whole banner.
    pub(crate) async fn serves(&mut self) {
        let begun = Instant::now();
        while !self.stdout().contains("Ctrl-C stops it") {
            let ended = self.child.try_wait().expect("waiting failed");
            assert!(ended.is_none(), "it ended instead of serving: {}", self.stderr());
            assert!(begun.elapsed() < TIMEOUT, "it does not serve: {}", self.stderr());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until it has ended and all its output was read.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            let was_read = self.stdout.reader.is_finished() && self.stderr.reader.is_finished();
            if let Some(status) = self.child.try_wait().expect("waiting failed").filter(|_| was_read) {
                return status;
            }
            assert!(begun.elapsed() < TIMEOUT, "it does not end: {}", self.stderr());
            tokio::time::sleep(POLL).await;
        }
    }

    /// The value of a line of the banner, such as `API`.
    pub(crate) fn banner(&self, name: &str) -> Option<String> {
        let stdout = self.stdout();
        let line = stdout.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix("  "))?;
        Some(line.trim().to_owned())
    }

    /// Its peak resident memory, in KiB.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it is gone");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("no peak");
        peak.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the process is gone");
    }

    /// Kills it with SIGKILL, without its Postgres.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().expect("waiting failed");
    }

    /// Logs the first admin in.
    pub(crate) async fn log_in(&self, password: &str) -> Admin {
        Admin::log_in(self.banner("API").expect("the banner has no address"), password).await
    }

    /// Waits until its log has this message, and returns the whole line.
    pub(crate) async fn logged(&mut self, message: &str) -> Value {
        let begun = Instant::now();
        loop {
            let lines = self.stderr();
            let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(line) = lines.find(|line| line["message"] == message) {
                return line;
            }
            let ended = self.child.try_wait().expect("waiting failed");
            assert!(ended.is_none(), "it ended before it logged {message:?}: {}", self.stderr());
            assert!(begun.elapsed() < TIMEOUT, "it does not log {message:?}: {}", self.stderr());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops it with SIGSTOP, like a machine that hangs or is disconnected.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Continues it with SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends it with SIGTERM. Returns how long that took.
    pub(crate) async fn stop(&mut self) -> Duration {
        let told = Instant::now();
        self.signal(Signal::TERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}: {}", self.stderr());
        told.elapsed()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first admin, logged in.
pub(crate) struct Admin {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Admin {
    /// The first admin, at the API with this base.
    pub(crate) async fn log_in(base: String, password: &str) -> Self {
        let admin = Self { http: http(), base, token: String::new() };
        let body = json!({"email": EMAIL, "password": password});
        let session = admin.json(admin.request(Method::POST, "auth/login").json(&body), 200).await;
        Self { token: session["accessToken"].as_str().expect("a token").to_owned(), ..admin }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/{path}", self.base)).bearer_auth(&self.token)
    }

    /// Waits for the end of a job.
    pub(crate) async fn over(&self, job: &Value) -> Value {
        let path = format!("jobs/{}", job["id"].as_str().expect("an id"));
        eventually("the job to end", async || {
            let job = self.get(&path).await;
            (job["status"] != "QUEUED" && job["status"] != "RUNNING").then_some(job)
        })
        .await
    }

    /// Waits until the server processes a request.
    pub(crate) async fn sees_a_request_run(&self) {
        eventually("the request to run", async || {
            let metrics = self.text(self.request(Method::GET, "../../metrics"), 200).await;
            metrics.lines().any(|line| line == "cuponera_http_requests_in_flight 1").then_some(())
        })
        .await;
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.json(self.request(Method::GET, path), 200).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value, status: u16) -> Value {
        self.json(self.request(Method::POST, path).json(body), status).await
    }

    /// Sends a request and reads the answer, which must have this status.
    pub(crate) async fn json(&self, request: RequestBuilder, status: u16) -> Value {
        let text = self.text(request, status).await;
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"))
    }

    pub(crate) async fn text(&self, request: RequestBuilder, status: u16) -> String {
        let response = request.send().await.expect("the server does not answer");
        let (answered, text) =
            (response.status().as_u16(), response.text().await.expect("the answer ended early"));
        assert_eq!(answered, status, "{text}");
        text
    }
}

/// The program, without settings from the environment.
pub(crate) fn cuponera() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_cuponera")))
}

/// Removes the settings of the environment from a command.
fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CUPONERA_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// A client without the proxies of the environment.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("an HTTP client without options can be built")
}

/// Reads a pipe to its end in a separate thread, so that the process never blocks on it.
fn collect(pipe: impl Read + Send + 'static) -> Output {
    let text = Arc::new(Mutex::new(String::new()));
    let into = text.clone();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
            text.push_str(&line);
            text.push('\n');
        }
    });
    Output { text, reader }
}
