//! The rules of coupons: types, states and decisions, without I/O, SQL or a clock.
//!
//! Times and random seeds are arguments. Errors are [`rejection::Rejection`]s, without HTTP.

pub mod admin_event;
pub mod audit;
pub mod book;
pub mod coupon;
pub mod csv;
pub mod distribution;
pub mod export;
pub mod id;
pub mod job;
pub mod json;
pub mod lock;
pub mod number;
pub mod page;
pub mod pool;
pub mod principal;
pub mod rejection;
pub mod schedule;
pub mod statistics;
pub mod text;
pub mod time_range;
pub mod time_zone;
pub mod trace;
pub mod webhook;
