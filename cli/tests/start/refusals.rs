//! The cause of a failed start is reported in one line that names it, and the exit status is not zero.

use std::net::TcpListener;
use std::process::Command;

use cuponera_testkit::free_address;

use crate::support::{Installation, Process};

/// The single error line of a command that fails. Log lines (JSON) are ignored.
async fn complaint(command: &mut Command) -> String {
    let mut process = Process::spawn(command);
    let status = process.ended().await;
    assert!(!status.success(), "it succeeded");
    assert_eq!(process.stdout(), "", "it printed more than its error");
    let stderr = process.stderr();
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.starts_with('{')).collect();
    let [line] = lines[..] else { panic!("not one line: {stderr:?}") };
    line.strip_prefix("cuponera: ")
        .unwrap_or_else(|| panic!("not an error line of cuponera: {line}"))
        .to_owned()
}

#[track_caller]
fn assert_names(complaint: &str, words: &[&str]) {
    for word in words {
        assert!(complaint.contains(word), "{word:?} is not in {complaint:?}");
    }
}

#[tokio::test]
async fn a_taken_port_is_named_and_nothing_is_started() {
    let installation = Installation::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("binding to loopback failed");
    let address = taken.local_addr().expect("an address").to_string();
    let complaint = complaint(installation.command().env("CUPONERA_HTTP_ADDR", &address)).await;
    assert_names(&complaint, &[&address, "CUPONERA_HTTP_ADDR"]);
    assert!(installation.postmaster().is_none());
}

#[tokio::test]
async fn a_data_folder_that_cannot_be_made_is_named() {
    let installation = Installation::new();
    let file = installation.data_dir();
    std::fs::write(&file, "a file").expect("writing failed");
    for folder in [file.clone(), file.join("below")] {
        let complaint = complaint(installation.command().env("CUPONERA_DATA_DIR", &folder)).await;
        assert_names(&complaint, &[&folder.display().to_string(), "CUPONERA_DATA_DIR"]);
    }
}

#[tokio::test]
async fn settings_that_are_not_valid_are_named() {
    let installation = Installation::new();
    let cases = [
        ("CUPONERA_ADMIN_EMAIL", "nobody"),
        ("CUPONERA_ADMIN_PASSWORD", "short"),
        ("CUPONERA_JWT_SECRET", "short"),
        ("CUPONERA_DATABASE_URL", "mysql://somewhere"),
        ("CUPONERA_FILES_URL", "files"),
        ("CUPONERA_QUEUE_URL", "jobs.fifo"),
        ("CUPONERA_UPLOAD_LIMIT", "0"),
        ("CUPONERA_ACCESS_TOKEN_TTL", "0s"),
        ("CUPONERA_SHARE_CALLER", "3/4"),
        ("CUPONERA_MAX_BODY_MEMORY", "1MiB"),
        ("CUPONERA_LOG", "cuponera=loud"),
    ];
    for (name, value) in cases {
        let complaint = complaint(installation.command().env(name, value)).await;
        assert_names(&complaint, &[name]);
        assert!(
            name != "CUPONERA_JWT_SECRET" && name != "CUPONERA_ADMIN_PASSWORD" || !complaint.contains(value)
        );
    }
    assert!(!installation.data_dir().exists(), "something was created before the settings were checked");
}

#[tokio::test]
async fn all_settings_that_are_not_valid_are_named_at_once() {
    let installation = Installation::new();
    let mut command = installation.command();
    command.env("CUPONERA_ADMIN_EMAIL", "nobody").env("CUPONERA_JWT_SECRET", "short");
    let mut process = Process::spawn(&mut command);
    assert!(!process.ended().await.success());
    let stderr = process.stderr();
    assert_eq!(stderr.lines().filter(|line| line.starts_with("cuponera: CUPONERA_")).count(), 2, "{stderr}");
}

#[tokio::test]
async fn a_setting_that_does_not_parse_is_named() {
    let installation = Installation::new();
    for (name, value, flag) in [
        ("CUPONERA_HTTP_ADDR", "somewhere", "--http-addr"),
        ("CUPONERA_DATABASE_POOL", "1", "--database-pool"),
        ("CUPONERA_WORKER_CONCURRENCY", "many", "--worker-concurrency"),
        ("CUPONERA_MAX_REQUESTS", "1", "--max-requests"),
        ("CUPONERA_SHARE_ADDRESS", "0.25", "--share-address"),
    ] {
        let mut process = Process::spawn(installation.command().env(name, value));
        assert_eq!(process.ended().await.code(), Some(2));
        assert_names(&process.stderr(), &[value, flag]);
    }
}

#[tokio::test]
async fn missing_postgres_programs_are_named_with_the_way_out() {
    let installation = Installation::new();
    let empty = tempfile::tempdir().expect("creating a temporary folder failed");
    let complaint = complaint(installation.command().env("PG_BIN", empty.path())).await;
    assert_names(&complaint, &[&empty.path().display().to_string(), "PG_BIN"]);
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_said_without_its_password() {
    let installation = Installation::new();
    let url = format!("postgres://someone:a-secret@{}/shop", free_address());
    let complaint = complaint(installation.command().env("CUPONERA_DATABASE_URL", url)).await;
    assert_names(&complaint, &["the database does not answer", "refused"]);
    assert!(!complaint.contains("a-secret"), "{complaint}");
}

#[tokio::test]
async fn a_second_process_on_the_same_data_folder_is_refused_and_does_not_disturb_the_first() {
    let installation = Installation::new();
    let first = installation.up().await;
    let complaint = complaint(&mut installation.command()).await;
    assert_names(&complaint, &["another cuponera", &installation.data_dir().display().to_string()]);
    first.log_in(crate::support::PASSWORD).await;
}

#[tokio::test]
async fn a_line_of_dotenv_that_cannot_be_read_is_not_repeated() {
    let installation = Installation::new();
    let file = installation.data_dir().with_file_name(".env");
    std::fs::write(&file, "CUPONERA_ADMIN_PASSWORD=open sesame\n").expect("writing failed");
    let complaint = complaint(&mut installation.command()).await;
    assert_names(&complaint, &[".env", "quotes"]);
    assert!(!complaint.contains("sesame"), "{complaint}");
}
