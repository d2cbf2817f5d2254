//! The promises of a private Postgres, kept on a real one. With `PG_BIN` set, on the Postgres found there.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod lifecycle;
mod refusals;
mod support;
