//! What the store promises, on real Postgres, raced from real connections. A file for each room; a test for each promise.

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect is over")]

mod assign;
mod book;
mod deletion;
mod distribution;
mod event_log;
mod generation;
mod hold;
mod housekeeping;
mod idempotency;
mod import;
mod isolation;
mod job;
mod lists;
mod login;
mod mixed_logins;
mod plan;
mod pools;
mod redeem;
mod sight;
mod spelling;
mod storage;
mod storm;
mod telemetry;
mod user_pool;
mod versions;
