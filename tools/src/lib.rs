//! Shared code of the tools.

/// URL of the server for test databases: a role that may create databases, and any existing database.
pub const URL_VARIABLE: &str = "CUPONERA_TEST_DATABASE_URL";
