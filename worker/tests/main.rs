//! What holds between workers, the queue and Postgres, on a real Postgres and a stand-in for SQS.

#![expect(clippy::unwrap_used, reason = "a test that meets what it did not expect is over")]

mod adversity;
mod conformance;
mod dead_letters;
mod distribution;

mod fleet;
mod losses;
mod shutdown;
mod timeouts;
