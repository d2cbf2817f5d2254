//! Tests of workers and queues, on a real Postgres and an emulator of SQS.

#![expect(clippy::unwrap_used, reason = "a test fails on an unexpected error")]

mod adversity;
mod assignments;
mod conformance;
mod dead_letters;
mod distribution;
mod export;

mod fleet;
mod import;
mod losses;
mod shutdown;
mod timeouts;
mod webhooks;
