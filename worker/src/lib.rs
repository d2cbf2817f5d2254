//! Runs jobs: claims chunks, works them, settles them; and keeps house.
//!
//! The [`runtime`] knows leases, retries and shutdown, and nothing of coupons. A handler is a free function from a claim to
//! an [`Outcome`](runtime::Outcome); it is called without the runtime just as well.

pub mod handlers;
pub mod runtime;
mod sweep;

pub use runtime::Worker;
