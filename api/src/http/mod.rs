//! HTTP without operations: connections, the steps that each request passes, and how requests are read and responses are
//! written.

pub(crate) mod server;

pub(crate) mod edge;
pub(crate) mod headers;
pub(crate) mod received;
pub(crate) mod request_permit;
pub(crate) mod traffic;

pub(crate) mod body;
pub(crate) mod idempotency;
pub(crate) mod prefer;
pub(crate) mod query;
pub(crate) mod spelling;

pub(crate) mod language;
pub(crate) mod problem;
pub(crate) mod reply;
pub(crate) mod time;
