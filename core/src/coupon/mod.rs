//! Coupons: what a code looks like, where codes come from, and the states a coupon goes through.

pub mod code;
pub mod ff1;
pub mod pattern;
pub mod space;
pub mod state;
