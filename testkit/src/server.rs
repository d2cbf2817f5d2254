//! A Postgres for one test, in a temporary folder.

use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use tempfile::TempDir;

/// No durability, and the memory of one test.
const SETTINGS: [(&str, &str); 5] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    ("shared_buffers", "128MB"),
    ("max_connections", "150"),
];

/// The server. It is stopped before its folder is removed.
#[derive(Debug)]
pub(crate) struct OwnServer {
    postgres: PrivatePostgres,
    _folder: TempDir,
}

impl OwnServer {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().expect("creating a temporary folder failed");
        let mut options = Options::new(folder.path());
        for (name, value) in SETTINGS {
            options = options.with_setting(name, value);
        }
        let binaries = Binaries::find().expect("there is no Postgres");
        let postgres = PrivatePostgres::start(&binaries, &options).await.expect("Postgres does not start");
        Self { postgres, _folder: folder }
    }

    /// The URL of a database that exists.
    pub(crate) fn url(&self) -> &str {
        self.postgres.url()
    }
}
