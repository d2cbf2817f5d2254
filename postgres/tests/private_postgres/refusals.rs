//! A start that cannot succeed fails with one line that names the path and the remedy.

use std::error::Error as _;
use std::fs;

use cuponera_postgres::{Binaries, Error, Options, PrivatePostgres};

use crate::support::{TestFolder, binaries};

#[tokio::test]
async fn a_data_folder_that_cannot_be_made() {
    let error = PrivatePostgres::start(&binaries(), &Options::new("/proc/cuponera")).await.unwrap_err();
    let line = error.to_string();
    assert!(line.starts_with("cannot create /proc/cuponera: ") && !line.contains('\n'), "{line}");
    assert!(error.source().is_some(), "the cause is lost");
}

#[tokio::test]
async fn a_cluster_of_another_major_version() {
    let folder = TestFolder::new();
    folder.start().await.stop().await.unwrap();
    fs::write(folder.cluster().join("PG_VERSION"), "9\n").unwrap();
    let error = PrivatePostgres::start(&binaries(), &folder.options()).await.unwrap_err();
    assert!(matches!(error, Error::VersionMismatch { cluster: 9, .. }), "{error}");
    assert!(error.to_string().contains("was made by Postgres 9"), "{error}");
}

#[tokio::test]
async fn a_cluster_without_its_password() {
    let folder = TestFolder::new();
    folder.start().await.stop().await.unwrap();
    fs::remove_file(folder.data_dir().join("postgres.password")).unwrap();
    let error = PrivatePostgres::start(&binaries(), &folder.options()).await.unwrap_err();
    assert!(matches!(error, Error::PasswordMissing { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_in_the_place_of_the_cluster_is_not_touched() {
    let folder = TestFolder::new();
    fs::create_dir_all(folder.cluster()).unwrap();
    fs::write(folder.cluster().join("mine"), "precious").unwrap();
    let error = PrivatePostgres::start(&binaries(), &folder.options()).await.unwrap_err();
    assert!(matches!(error, Error::Folder { .. }), "{error}");
    assert_eq!(fs::read_to_string(folder.cluster().join("mine")).unwrap(), "precious");
}

#[test]
fn programs_that_are_not_there() {
    let error = Binaries::in_folder("/nonexistent").unwrap_err();
    assert!(matches!(error, Error::BinariesUnusable { .. }), "{error}");
}
