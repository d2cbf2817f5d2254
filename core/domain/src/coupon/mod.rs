//! Coupons: the form of codes, their generation, and the states of a coupon.

pub mod code;
pub mod ff1;
pub mod limits;
pub mod pattern;
pub mod redemption;
pub mod shared;
pub mod space;
pub mod state;
