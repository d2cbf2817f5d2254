//! The guarantees of the store, on a real Postgres, with races between real connections. One file for each subject.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod admin_event;
mod archive;
mod assign;
mod audit_chain;
mod bearer;
mod book;
mod deletion;
mod distribution;
mod erasure;
mod event_log;
mod generation;
mod hold;
mod housekeeping;
mod idempotency;
mod import;
mod isolation;
mod job;
mod lifetime;
mod lists;
mod login;
mod mixed_logins;
mod natural_keys;
mod plan;
mod pools;
mod redeem;
mod setup;
mod shared;
mod spelling;
mod statistics;
mod storage;
mod storm;
mod telemetry;
mod undo;
mod user_pool;
mod versions;
mod visibility;
mod webhook;
