//! A temporary data folder and bounded waits, for tests on a real Postgres.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{Connection, PgConnection};

const TIMEOUT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(10);

/// A data folder inside a folder of mode 0700: if tests run as root, the user of the server cannot open it
/// by path. Dropping it stops the server and removes the folder.
pub(crate) struct TestFolder {
    closed: PathBuf,
}

impl TestFolder {
    pub(crate) fn new() -> Self {
        let closed = std::env::temp_dir().join(format!("cuponera-postgres-{:016x}", rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&closed).unwrap();
        Self { closed }
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.closed.join("data")
    }

    pub(crate) fn cluster(&self) -> PathBuf {
        self.data_dir().join("postgres")
    }

    /// The options of the other tests of the project: not durable against a crash of the machine.
    pub(crate) fn options(&self) -> Options {
        Options::new(self.data_dir()).with_setting("fsync", "off").with_setting("shared_buffers", "16MB")
    }

    pub(crate) async fn start(&self) -> PrivatePostgres {
        PrivatePostgres::start(&binaries(), &self.options()).await.unwrap()
    }

    /// The postmaster that the cluster's pid file names.
    pub(crate) fn postmaster(&self) -> Pid {
        self.find_postmaster().unwrap()
    }

    /// Kills the postmaster and waits until it is dead: before that it could be adopted.
    pub(crate) async fn kill_postmaster(&self) {
        let pid = self.postmaster();
        kill_process(pid, Signal::KILL).unwrap();
        // A zombie has no command line.
        until("the server is dead", || {
            fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty()
        })
        .await;
    }

    pub(crate) fn find_postmaster(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.cluster().join("postmaster.pid")).ok()?;
        Pid::from_raw(text.lines().next()?.parse().ok()?)
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        // Only a failed test leaves a server behind: a stopped server has removed its pid file.
        if let Some(pid) = self.find_postmaster() {
            let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command_line).contains("cluster_name=cuponera-") {
                let _ = kill_process(pid, Signal::QUIT);
            }
        }
        let _ = fs::remove_dir_all(&self.closed);
    }
}

pub(crate) fn binaries() -> Binaries {
    Binaries::find().unwrap()
}

pub(crate) async fn connect(postgres: &PrivatePostgres) -> PgConnection {
    PgConnection::connect(postgres.url()).await.unwrap()
}

pub(crate) async fn execute(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

pub(crate) async fn number(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

pub(crate) async fn text(connection: &mut PgConnection, sql: &'static str) -> String {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// Waits until the condition holds, at most `TIMEOUT`.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun_at = Instant::now();
    while !is_so() {
        assert!(begun_at.elapsed() < TIMEOUT, "condition not reached: {what}");
        tokio::time::sleep(POLL).await;
    }
}

pub(crate) fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
