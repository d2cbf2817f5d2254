//! The domain rules of coupons, and the modules that store and transport them.
//!
//! The first modules are pure: types, states and rules, without a clock or a connection. They use only each other. The
//! other modules do I/O and may use the pure ones. No module here uses HTTP types.

// Pure.
pub mod book;
pub mod coupon;
pub mod csv;
pub mod distribution;
pub mod error;
pub mod id;
pub mod job;
pub mod json;
pub mod number;
pub mod page;
pub mod pool;
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
