//! Typed ids. All are UUIDs of version 7: made here, ordered by time, so that the newest stand together in an index.

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
            /// A new id, greater than those made before.
            #[expect(clippy::new_without_default, reason = "an id is made on purpose, never by default")]
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
    /// One giving of a code to a user; it ends when the code is revoked.
    AssignmentId
    /// One hold of a code. Renewing keeps it, so it tells a live lock from an older one.
    LockId
    /// One use of a code.
    RedemptionId
    /// One line of the audit trail.
    EventId
    /// A piece of long work.
    JobId
    /// A person who can log in.
    AccountId
    /// One login of a person: it lives from refresh to refresh until it is ended.
    LoginId
    /// An API key.
    ApiKeyId
}
