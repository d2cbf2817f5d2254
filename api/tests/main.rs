//! The API end to end: a real server on loopback, a worker beside it, and a Postgres of the test's own.
//!
//! Each test is named after the promise it proves, and waits for conditions, never for times.

mod support;

mod authorization;
mod books;
mod browsers;
mod exact;
mod generation;
mod import;
mod isolation;
mod life;
mod limits;
mod metrics;
mod openapi;
mod pools;
mod problems;
mod queue;
mod races;
mod redis;
mod retention;
mod session;
mod shares;
mod slow;
mod storm;
mod strict;
mod upgrade;
mod waiting;
mod warnings;
