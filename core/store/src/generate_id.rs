//! Generates typed ids.

use uuid::Uuid;

/// Generates ids: UUIDs of version 7, which contain the time of this machine's clock.
pub trait GenerateId: From<Uuid> {
    /// An id greater than all ids that this process generated before.
    fn generate() -> Self {
        Self::from(Uuid::now_v7())
    }
}

impl<T: From<Uuid>> GenerateId for T {}
