//! Jobs: submitted in one commit with all their chunks, which are claimed and finished one by one; cancelled, retried, read,
//! and discarded.

pub(super) mod submit;

pub(super) mod claim;
pub(super) mod finish;

mod cancel;
mod retry;

pub(super) mod read;

pub(super) mod discard;
pub(super) mod storage;

pub use claim::{Claim, ClaimState};
pub use finish::Finished;
pub use read::{JobFilter, MAX_JOBS_EXAMINED};
pub use retry::Redrive;
pub use submit::{NewImport, NewMemberImport};
