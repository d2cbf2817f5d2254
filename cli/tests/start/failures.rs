//! A start that fails or is ended by a signal leaves no process of its data folder behind, at any point.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use cuponera_testkit::{eventually, race};
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};

use crate::support::{Installation, Process};

/// Number of concurrent starts; each has a Postgres.
const LANES: usize = 3;

/// An installation that was started and stopped once: its cluster has the schema and the first business.
async fn prepared() -> Installation {
    let installation = Installation::new();
    installation.up().await.stop().await;
    installation
}

/// A copy of an installation.
fn copy_of(original: &Installation) -> Installation {
    let copy = Installation::new();
    let copied = Command::new("cp").arg("-a").args([original.data_dir(), copy.data_dir()]).status();
    assert!(copied.expect("starting cp failed").success(), "copying the data folder failed");
    copy
}

/// Starts its Postgres, which keeps running if `leave` is called.
async fn postgres_of(installation: &Installation) -> PrivatePostgres {
    let binaries = Binaries::find().expect("there is no Postgres");
    let started = PrivatePostgres::start(&binaries, &Options::new(installation.data_dir())).await;
    started.expect("Postgres does not start")
}

async fn connect(postgres: &PrivatePostgres) -> PgConnection {
    let url = postgres.url().replace("/postgres", "/cuponera");
    PgConnection::connect(&url).await.expect("the database does not answer")
}

/// Processes that use a data folder: a server, its children, an `initdb`.
fn processes_of(installation: &Installation) -> Vec<String> {
    let folder = installation.data_dir();
    // The command lines of a server and its children contain this, and every user may read them.
    let cluster = fs::metadata(folder.join("postgres")).ok();
    let mark = cluster.map(|cluster| format!("cuponera-{:x}-{:x}", cluster.dev(), cluster.ino()));
    let processes = fs::read_dir("/proc").expect("there is no /proc").flatten();
    let paths = processes.map(|entry| entry.path()).filter(|path| path.join("cmdline").exists());
    paths.filter_map(|process| is_at_work(&process, &folder, mark.as_deref())).collect()
}

/// The command line of a process, if it uses this data folder.
fn is_at_work(process: &Path, folder: &Path, mark: Option<&str>) -> Option<String> {
    let command_line = fs::read(process.join("cmdline")).unwrap_or_default();
    let command_line = String::from_utf8_lossy(&command_line).replace('\0', " ");
    let is_below = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(folder));
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let is_ours = mark.is_some_and(|mark| command_line.contains(mark))
        || command_line.contains(&folder.display().to_string())
        || is_below(&process.join("cwd"))
        || descriptors.into_iter().any(|entry| is_below(&entry.path()));
    (is_ours && !command_line.is_empty()).then_some(command_line)
}

/// Runs a command that fails, and checks that no process of its data folder is left. Returns its standard error.
async fn fails(installation: &Installation, command: &mut Command) -> String {
    let mut process = Process::spawn(command);
    let status = process.ended().await;
    assert!(!status.success(), "it succeeded: {}", process.stderr());
    assert_eq!(process.stdout(), "", "it printed the banner");
    let left = format!("the last process of the data folder to end after: {}", process.stderr());
    eventually(&left, async || processes_of(installation).is_empty().then_some(())).await;
    process.stderr()
}

/// Causes of a failed start, in the order in which a start meets them, with a part of the message.
const SABOTAGES: [(Sabotage, &str); 12] = [
    (Sabotage::File("jwt.secret", "short"), "jwt.secret"),
    (Sabotage::Setting("CUPONERA_FILES_URL", "file:///proc/nowhere"), "CUPONERA_FILES_URL"),
    (Sabotage::Folder("lock"), "lock"),
    (Sabotage::Folder("postgres.log"), "postgres.log"),
    (Sabotage::File("postgres/postgresql.conf", "max_connections = many"), "postgresql.conf"),
    (Sabotage::File("postgres.password", "another"), "password authentication failed"),
    (Sabotage::Sql("update _sqlx_migrations set checksum = '' where version = 2"), "step 2"),
    (Sabotage::Sql("update _sqlx_migrations set success = false where version = 3"), "step 3"),
    (Sabotage::Sql("delete from _sqlx_migrations where version = 4"), "already exists"),
    (
        Sabotage::Sql("drop function coupon_event_begin_epoch_if_restored"),
        "coupon_event_begin_epoch_if_restored",
    ),
    (Sabotage::Sql("alter table job_chunk rename to elsewhere"), "job_chunk"),
    (Sabotage::Sql("alter table business rename to elsewhere"), "business"),
];

#[derive(Clone, Copy)]
enum Sabotage {
    Setting(&'static str, &'static str),
    /// Replaces the content of a file in the data folder.
    File(&'static str, &'static str),
    /// Replaces a file in the data folder by a folder.
    Folder(&'static str),
    Sql(&'static str),
}

impl Sabotage {
    async fn apply(self, installation: &Installation, command: &mut Command) {
        let path = |name: &str| installation.data_dir().join(name);
        match self {
            Self::Setting(name, value) => drop(command.env(name, value)),
            Self::File(name, content) => fs::write(path(name), content).expect("writing failed"),
            Self::Folder(name) => {
                let _ = fs::remove_file(path(name));
                fs::create_dir(path(name)).expect("making a folder failed");
            }
            Self::Sql(sql) => {
                let postgres = postgres_of(installation).await;
                let done = sqlx::raw_sql(sql).execute(&mut connect(&postgres).await).await;
                done.unwrap_or_else(|error| panic!("{sql}: {error}"));
                // The failing start adopts it, as after a kill.
                postgres.leave();
            }
        }
    }
}

#[tokio::test]
async fn whatever_makes_a_start_fail_its_postgres_is_stopped() {
    let original = prepared().await;
    race(LANES, SABOTAGES, async |(sabotage, word)| {
        let installation = copy_of(&original);
        let mut command = installation.command();
        sabotage.apply(&installation, &mut command).await;
        let prints = fails(&installation, &mut command).await;
        assert!(prints.contains(word), "{word:?} is not in {prints}");
    })
    .await;
}

#[tokio::test]
async fn a_command_that_fails_stops_the_postgres_that_it_started() {
    let original = prepared().await;
    let verbs: [&[&str]; 2] = [&["migrate"], &["admin", "list-businesses"]];
    race(LANES, verbs, async |verb| {
        let installation = copy_of(&original);
        let mut command = installation.verb(verb);
        Sabotage::File("postgres.password", "another").apply(&installation, &mut command).await;
        let prints = fails(&installation, &mut command).await;
        assert!(prints.contains("password authentication failed"), "{verb:?}: {prints}");
    })
    .await;
}

/// The progress of a start when the signal is sent.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// `initdb` writes.
    Making,
    /// The server was spawned.
    Starting,
}

impl Stage {
    fn is_reached(self, data_dir: &Path) -> bool {
        match self {
            Self::Making => fs::read_dir(data_dir).into_iter().flatten().flatten().any(|entry| {
                entry.file_name().to_string_lossy().starts_with("postgres.new-")
                    && entry.path().join("cluster/PG_VERSION").exists()
            }),
            Self::Starting => data_dir.join("postgres/postmaster.pid").exists(),
        }
    }
}

#[tokio::test]
async fn a_signal_during_a_start_ends_it_and_leaves_nothing() {
    let verbs: [&[&str]; 3] = [&["up"], &["migrate"], &["admin", "list-businesses"]];
    let stages = [(Stage::Making, Signal::INT), (Stage::Starting, Signal::TERM)];
    let cases = verbs.into_iter().flat_map(|verb| stages.map(|(stage, signal)| (verb, stage, signal)));
    race(LANES, cases, async |(verb, stage, signal)| {
        let installation = Installation::new();
        let mut command = installation.verb(verb);
        let mut process = Process::spawn(command.env("CUPONERA_HTTP_ADDR", "127.0.0.1:0"));
        eventually("the start to reach the stage", async || {
            stage.is_reached(&installation.data_dir()).then_some(())
        })
        .await;
        process.signal(signal);
        let status = process.ended().await;
        assert!(status.code().is_some(), "{verb:?}, {stage:?}: it was killed: {status}");
        assert_eq!(processes_of(&installation), [""; 0], "{verb:?}, {stage:?}: {}", process.stderr());
    })
    .await;
}

#[tokio::test]
async fn a_signal_while_the_schema_is_locked_ends_a_start_at_once_and_the_postgres_that_it_found() {
    let installation = prepared().await;
    let postgres = postgres_of(&installation).await;
    let mut holder = connect(&postgres).await;
    let lock = "begin; lock table _sqlx_migrations in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut holder).await.expect("locking failed");
    postgres.leave();
    let mut process = Process::spawn(&mut installation.command());
    let waiting = "select exists (select from pg_locks where not granted)";
    eventually("the start to wait", async || {
        let waits: bool = sqlx::query_scalar(waiting).fetch_one(&mut holder).await.expect("asking failed");
        waits.then_some(())
    })
    .await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success(), "{}", process.stderr());
    assert_eq!(process.stdout(), "", "it printed the banner");
    assert_eq!(processes_of(&installation), [""; 0], "{}", process.stderr());
}
