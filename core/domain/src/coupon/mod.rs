//! Coupons: the form of codes, their generation, and the states of a coupon.

pub mod code;
pub mod ff1;
pub mod pattern;
pub mod space;
pub mod state;
