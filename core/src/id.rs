//! Typed ids. All are UUIDs of version 7, generated here: they are ordered by time, so new ids are adjacent
//! in an index.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Generates an id, greater than all ids generated before.
            #[expect(clippy::new_without_default, reason = "an id is generated explicitly, not by default")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    )*};
}

id! {
    /// A tenant.
    BusinessId
    /// A coupon book.
    BookId
    /// An assignment of a code to a user; it ends when the code is revoked.
    AssignmentId
    /// A lock of a code. A renewal keeps the id, so it distinguishes a live lock from an earlier one.
    LockId
    /// A redemption of a code.
    RedemptionId
    /// An event in the history of a coupon.
    EventId
    /// A user pool.
    PoolId
    /// A job.
    JobId
    /// A user account.
    AccountId
    /// A login of an account, from its start through all refreshes to its end.
    LoginId
    /// An API key.
    ApiKeyId
}
