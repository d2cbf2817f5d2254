//! The rules of coupons, and the memory they are kept in.
//!
//! The first modules are pure: words, states and plans, with no clock and no connection. The others do I/O and may use
//! the pure ones; the pure ones use only each other. Nothing here knows HTTP.

// Pure.
pub mod book;
pub mod coupon;
pub mod csv;
pub mod error;
pub mod id;
pub mod job;
pub mod json;
pub mod number;
pub mod page;
pub mod principal;
pub mod text;

// I/O.
pub mod cache;
pub mod config;
pub mod credential;
pub mod files;
pub mod lifecycle;
pub mod queue;
pub mod store;
pub mod telemetry;
