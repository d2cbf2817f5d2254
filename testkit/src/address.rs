//! The server of test databases: its URL, and the names of the databases.

use std::time::{SystemTime, UNIX_EPOCH};

/// URL of the server for test databases: a role that may create databases, and any existing database.
pub const URL_VARIABLE: &str = "CUPONERA_TEST_DATABASE_URL";

/// Prefix of the names of test databases; the creation time follows.
pub(crate) const PREFIX: &str = "cuponera_test_";

/// The server's URL, for creating and dropping databases.
pub(crate) fn admin_url() -> String {
    let url = std::env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty());
    url.unwrap_or_else(|| {
        panic!("{URL_VARIABLE} is not set: run `make test`, or set it to the URL of a Postgres whose role may create databases")
    })
}

/// The URL of another database on the server.
pub(crate) fn url_of(server: &str, database: &str) -> String {
    let (address, parameters) = server.split_once('?').unwrap_or((server, ""));
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..].find('/').map_or(address.len(), |at| authority + at);
    let question = if parameters.is_empty() { "" } else { "?" };
    format!("{}/{database}{question}{parameters}", &address[..end])
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
