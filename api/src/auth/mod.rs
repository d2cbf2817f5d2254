//! Authentication and authorization: credentials, passwords, permissions and rate limits.

pub(crate) mod guard;

pub(crate) mod caller;
pub(crate) mod credential_cache;
pub(crate) mod credentials;
pub(crate) mod hashing;
pub(crate) mod limits;
pub(crate) mod policy;
