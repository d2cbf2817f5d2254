//! The hot writes (assign, lock, unlock, redeem): batched in lanes.

pub(crate) mod lanes;
pub(crate) mod lock_notes;
