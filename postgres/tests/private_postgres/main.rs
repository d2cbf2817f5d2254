//! Tests of the guarantees of a private Postgres, on a real server. `PG_BIN` selects the Postgres to use.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod lifecycle;
mod refusals;
mod support;
