//! The worker: claims, executes and finishes chunks of jobs, delivers events to webhooks, and does the housekeeping.
//!
//! The [`runtime`] handles leases, retries and shutdown and is independent of coupons. A handler is a free function
//! from a claim to a [`ChunkOutcome`](runtime::ChunkOutcome). It can also be called without the runtime.

pub mod handlers;
pub mod runtime;

pub mod deliver;
mod sweep;

pub use runtime::Worker;
