//! The guarantees of a private Postgres, on a real server: created once, found again, complete after every
//! crash.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cuponera_postgres::{Error, Options, PrivatePostgres, Started, find_running};
use rustix::process::{Pid, getpgid, test_kill_process};

use crate::support::{TestFolder, binaries, connect, entries, execute, number, text, until};

const DATA_DIR_OF_CHILD: &str = "CUPONERA_TEST_DATA_DIR";

#[tokio::test]
async fn what_was_written_is_there_after_stop_and_start() {
    let folder = TestFolder::new();
    let postgres = folder.start().await;
    assert_eq!(postgres.started(), Started::Created);
    execute(&mut connect(&postgres).await, "CREATE TABLE kept AS SELECT 7::bigint AS n").await;
    let pid = folder.postmaster();
    postgres.stop().await.unwrap();
    assert!(test_kill_process(pid).is_err(), "the server outlived its stop");

    let postgres = folder.start().await;
    assert_eq!(postgres.started(), Started::Started);
    assert_eq!(number(&mut connect(&postgres).await, "SELECT n FROM kept").await, 7);
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_left_running_is_adopted_and_can_be_stopped() {
    let folder = TestFolder::new();
    let first = folder.start().await;
    let (url, pid) = (first.url().to_owned(), folder.postmaster());
    assert_eq!(getpgid(Some(pid)).unwrap(), pid, "a Ctrl-C of the terminal would reach the server");
    first.leave();

    let second = folder.start().await;
    assert_eq!(second.started(), Started::Found);
    assert_eq!((second.url(), folder.postmaster()), (url.as_str(), pid));
    connect(&second).await;
    second.stop().await.unwrap();
    assert!(!folder.cluster().join("postmaster.pid").exists());
}

/// Invariant I-43.
#[tokio::test]
async fn a_server_that_is_dropped_is_stopped_also_by_a_panic_and_also_one_that_was_adopted() {
    let folder = TestFolder::new();
    folder.start().await.leave();
    let pid = folder.postmaster();
    let adopted = folder.start().await;
    assert_eq!(adopted.started(), Started::Found);
    let panics = tokio::spawn(async move {
        let _adopted = adopted;
        panic!("as a bug of the owner would");
    });
    assert!(panics.await.unwrap_err().is_panic());
    assert!(!is_alive(pid), "the server outlived its owner");
    assert!(!folder.cluster().join("postmaster.pid").exists());
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process() {
    let folder = TestFolder::new();
    folder.start().await.stop().await.unwrap();
    let options = folder.options();
    let started = tokio::spawn(async move { PrivatePostgres::start(&binaries(), &options).await });
    until("the server was spawned", || folder.find_postmaster().is_some()).await;
    let pid = folder.postmaster();
    started.abort();
    // If the server became ready meanwhile, the value is dropped with the task.
    drop(started.await);
    assert!(!is_alive(pid), "the server outlived its start");
    assert!(!folder.cluster().join("postmaster.pid").exists());
}

#[tokio::test]
async fn a_running_server_is_found_beside_its_owner_and_one_that_stopped_is_not() {
    let folder = TestFolder::new();
    let find = || find_running(&folder.data_dir()).unwrap();
    assert_eq!(find(), None, "the folder does not exist yet");
    let owner = folder.start().await;
    assert_eq!(find().as_deref(), Some(owner.url()));
    connect(&owner).await;
    let left = owner.url().to_owned();
    owner.leave();
    assert_eq!(find(), Some(left), "the server runs without its owner");
    folder.start().await.stop().await.unwrap();
    assert_eq!(find(), None);
    let again = folder.start().await;
    folder.kill_postmaster().await;
    again.leave();
    until("the server to fall", || find().is_none()).await;
}

#[tokio::test]
async fn a_killed_owner_leaves_its_server_to_the_next() {
    let folder = TestFolder::new();
    let mut owner = spawn_owner(&folder);
    let rejected = PrivatePostgres::start(&binaries(), &folder.options()).await.unwrap_err();
    assert!(matches!(rejected, Error::Locked { .. }), "{rejected}");
    assert!(rejected.to_string().starts_with("another cuponera is running on /"), "{rejected}");
    owner.kill().unwrap();
    owner.wait().unwrap();

    let postgres = folder.start().await;
    assert_eq!(postgres.started(), Started::Found);
    postgres.stop().await.unwrap();
}

#[tokio::test]
#[ignore = "the owner that the test above kills: it never ends"]
async fn owner_to_be_killed() {
    let Ok(data_dir) = std::env::var(DATA_DIR_OF_CHILD) else { return };
    let options = Options::new(data_dir).with_setting("fsync", "off");
    let _postgres = PrivatePostgres::start(&binaries(), &options).await.unwrap();
    println!("\nstarted");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_server_is_started_again_with_what_was_committed() {
    let folder = TestFolder::new();
    let first = folder.start().await;
    execute(&mut connect(&first).await, "CREATE TABLE kept AS SELECT generate_series(1, 10000) AS n").await;
    folder.kill_postmaster().await;
    first.leave();

    let postgres = folder.start().await;
    assert_eq!(postgres.started(), Started::Started);
    assert_eq!(number(&mut connect(&postgres).await, "SELECT count(*) FROM kept").await, 10_000);
    postgres.stop().await.unwrap();
    let log = fs::read_to_string(folder.data_dir().join("postgres.log")).unwrap();
    assert!(log.contains("automatic recovery in progress"), "nothing had to be recovered");
}

#[tokio::test]
async fn a_server_that_is_stopping_is_waited_for_and_started_anew() {
    let folder = TestFolder::new();
    let first = folder.start().await;
    let pid = folder.postmaster();
    // A smart shutdown waits for this connection to close.
    let lingering = connect(&first).await;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until("the server is stopping", || {
        fs::read_to_string(folder.cluster().join("postmaster.pid")).unwrap().contains("stopping")
    })
    .await;
    first.leave();

    let options = folder.options();
    let second = tokio::spawn(async move { PrivatePostgres::start(&binaries(), &options).await.unwrap() });
    until("the next owner waits", || {
        fs::File::open(folder.data_dir().join("lock")).is_ok_and(|file| is_locked(&file))
    })
    .await;
    drop(lingering);
    let second = second.await.unwrap();
    assert_eq!(second.started(), Started::Started);
    assert_ne!(folder.postmaster(), pid);
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_pid_file_that_names_a_stranger_is_stale() {
    let folder = TestFolder::new();
    folder.start().await.stop().await.unwrap();
    // It has the same user: only then would Postgres itself mistake it for a server.
    let owner = fs::metadata(folder.cluster()).unwrap();
    let mut stranger = Command::new("sleep")
        .arg("600")
        .stdout(Stdio::null())
        .uid(owner.uid())
        .gid(owner.gid())
        .spawn()
        .unwrap();
    let forged = format!("{}\n/proc/self/fd/9\n1\n5432\n\n127.0.0.1\n\nready\n", stranger.id());
    fs::write(folder.cluster().join("postmaster.pid"), forged).unwrap();

    let postgres = folder.start().await;
    assert_eq!(postgres.started(), Started::Started);
    postgres.stop().await.unwrap();
    assert_eq!(stranger.try_wait().unwrap(), None, "the other process was signaled");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn an_initdb_cut_short_is_begun_again() {
    let folder = TestFolder::new();
    let options = folder.options();
    let cut_short = tokio::spawn(async move {
        PrivatePostgres::start(&binaries(), &options).await.map(PrivatePostgres::leave)
    });
    until("initdb writes", || {
        let workshop = entries(&folder.data_dir()).into_iter().find(|name| name.starts_with("postgres.new-"));
        workshop.is_some_and(|name| folder.data_dir().join(name).join("cluster/PG_VERSION").exists())
    })
    .await;
    let workers = initdb_of(&folder);
    assert!(!workers.is_empty(), "no initdb process was found");
    cut_short.abort();
    assert!(cut_short.await.unwrap_err().is_cancelled());
    assert!(!workers.iter().any(|pid| is_alive(*pid)), "initdb outlived its start");
    assert!(!folder.cluster().exists(), "an unfinished cluster is in place");

    let postgres = folder.start().await;
    assert_eq!(postgres.started(), Started::Created);
    connect(&postgres).await;
    postgres.stop().await.unwrap();
    folder.start().await.stop().await.unwrap();
    until("nothing unfinished is left", || {
        !entries(&folder.data_dir()).iter().any(|name| name.contains("new"))
    })
    .await;
}

#[tokio::test]
async fn folder_and_password_are_private() {
    let folder = TestFolder::new();
    let postgres = folder.start().await;
    let mode = |name: &str| fs::metadata(folder.data_dir().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("."), mode("postgres.password"), mode("postgres.log")), (0o700, 0o600, 0o600));
    assert!(!format!("{postgres:?}").contains(postgres.url()), "the password is printed");

    let wrong = postgres.url().replace("cuponera:", "cuponera:x");
    let rejected = <sqlx::PgConnection as sqlx::Connection>::connect(&wrong).await.unwrap_err();
    assert!(rejected.to_string().contains("password authentication failed"), "{rejected}");
    postgres.stop().await.unwrap();
}

/// When tests run as root, the user of the server cannot open its own data folder by path.
#[tokio::test]
async fn every_process_of_the_server_reaches_a_closed_folder() {
    let folder = TestFolder::new();
    let postgres = folder.start().await;
    if rustix::process::geteuid().is_root() {
        assert_ne!(fs::metadata(folder.cluster()).unwrap().uid(), 0);
    }
    let mut connection = connect(&postgres).await;
    execute(&mut connection, "CREATE DATABASE other").await;
    execute(&mut connection, "CREATE TABLE many AS SELECT n, n::text AS t FROM generate_series(1, 200000) n")
        .await;
    execute(&mut connection, "VACUUM (PARALLEL 2, ANALYZE) many").await;
    execute(&mut connection, "CHECKPOINT").await;
    execute(&mut connection, "SELECT pg_switch_wal()").await;
    execute(
        &mut connection,
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET work_mem = '64kB'",
    )
    .await;
    execute(&mut connection, "SET min_parallel_table_scan_size = 0; CREATE INDEX ON many (t)").await;
    assert_eq!(number(&mut connection, "SELECT count(DISTINCT t) FROM many").await, 200_000);
    execute(&mut connection, "ALTER SYSTEM SET work_mem = '3MB'").await;
    execute(&mut connection, "SELECT pg_reload_conf()").await;
    until_reloaded(&postgres).await;
    postgres.stop().await.unwrap();
    let log = fs::read_to_string(folder.data_dir().join("postgres.log")).unwrap();
    // Postgres logs an error when autovacuum yields to a statement; this is normal.
    let is_bad = |line: &&str| {
        ["PANIC", "ERROR", "ermission denied", "No such file"].iter().any(|word| line.contains(word))
            && !line.contains("canceling autovacuum task")
    };
    assert_eq!(log.lines().find(is_bad), None);
}

#[tokio::test]
async fn the_callers_settings_win() {
    let folder = TestFolder::new();
    let options = folder.options().with_setting("jit", "on").with_setting("max_connections", "17");
    let postgres = PrivatePostgres::start(&binaries(), &options).await.unwrap();
    let mut connection = connect(&postgres).await;
    for (query, expected) in [
        ("SHOW jit", "on"),
        ("SHOW max_connections", "17"),
        ("SHOW fsync", "off"),
        ("SHOW synchronous_commit", "on"),
        ("SHOW listen_addresses", "127.0.0.1"),
        ("SHOW unix_socket_directories", ""),
        ("SHOW data_checksums", "on"),
        ("SHOW timezone", "UTC"),
        ("SHOW server_encoding", "UTF8"),
    ] {
        assert_eq!(text(&mut connection, query).await, expected, "{query}");
    }
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_setting_postgres_refuses_is_told_in_one_line() {
    let folder = TestFolder::new();
    let options = folder.options().with_setting("max_connections", "many");
    let error = PrivatePostgres::start(&binaries(), &options).await.unwrap_err().to_string();
    assert!(error.contains("invalid value for parameter \"max_connections\""), "{error}");
    assert!(error.contains("postgres.log") && !error.contains('\n'), "{error}");
}

async fn until_reloaded(postgres: &PrivatePostgres) {
    let reloaded = async {
        while text(&mut connect(postgres).await, "SHOW work_mem").await != "3MB" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reloaded).await.unwrap();
}

fn is_locked(file: &fs::File) -> bool {
    rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
}

/// Starts this test program again as the owner of the folder; returns when its server runs.
fn spawn_owner(folder: &TestFolder) -> Child {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["lifecycle::owner_to_be_killed", "--exact", "--ignored", "--nocapture"])
        .env(DATA_DIR_OF_CHILD, folder.data_dir())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(owner.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap() == "started"), "the owner ended early");
    owner
}

/// Whether a process runs; a zombie does not.
fn is_alive(pid: Pid) -> bool {
    !fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().is_empty()
}

/// The processes of an `initdb` started by this test.
fn initdb_of(folder: &TestFolder) -> Vec<Pid> {
    let is_below = |link: std::path::PathBuf| {
        fs::read_link(link).is_ok_and(|target| target.starts_with(folder.data_dir()))
    };
    let processes =
        entries("/proc".as_ref()).into_iter().filter_map(|name| Pid::from_raw(name.parse().ok()?));
    let works_there = |pid: &Pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let is_us = *pid == rustix::process::getpid();
        !is_us && descriptors.into_iter().any(|descriptor| is_below(descriptor.path()))
    };
    processes.filter(works_there).collect()
}
