//! What the tools share.

/// Names the server the tests make their databases on: the URL of a role that may do so, and of any database there.
pub const URL_VARIABLE: &str = "CUPONERA_TEST_DATABASE_URL";
