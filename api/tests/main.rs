//! End-to-end tests of the API: a real server on loopback with a worker, on a separate Postgres database for each test.
//!
//! Each test is named after its guarantee, and waits for conditions, never for times.

mod support;

mod assignments;
mod audit;
mod authorization;
mod bearer;
mod books;
mod browsers;
mod events;
mod exact;
mod exports;
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
mod shared;
mod shares;
mod slow;
mod statistics;
mod storm;
mod strict;
mod undo;
mod upgrade;
mod waiting;
mod warnings;
mod webhooks;
