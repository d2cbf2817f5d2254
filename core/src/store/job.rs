//! Jobs: submitted in one commit with all their chunks, cancelled, retried; [`read`] back.

pub(in crate::store) mod claim;
mod discard;
mod read;
mod retry;
pub(in crate::store) mod storage;
mod submit;

pub use claim::{Claim, Finished, Pulse};
pub(super) use read::get;
pub use read::{JobFilter, MAX_JOBS_EXAMINED};
pub use retry::Redrive;
pub use submit::NewImport;
pub(super) use submit::{NewJob, count, insert};
