//! Responses of the health checks.

use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object};

use crate::http::time::Time;

/// The state of the installation.
#[derive(Debug, Object)]
#[oai(rename = "Health")]
pub(super) struct Report {
    /// `ok` or `degraded`.
    pub(super) status: String,
    pub(super) timestamp: Time,
    /// `connected` or `disconnected`.
    pub(super) database: String,
    /// `connected` or `disconnected`; `disabled` if the installation has no Redis.
    pub(super) redis: String,
    /// `connected` or `disconnected`; the state of the database if Postgres is the queue.
    pub(super) queue: String,
    /// Milliseconds since the start of the process.
    pub(super) uptime: u64,
    pub(super) version: String,
}

/// A status.
#[derive(Debug, Object)]
#[oai(rename = "HealthWord")]
pub(super) struct Word {
    pub(super) status: String,
}

#[derive(ApiResponse)]
pub(super) enum Answer {
    /// The database is connected.
    #[oai(status = 200)]
    Well(Json<Report>),
    /// The database is disconnected.
    #[oai(status = 503)]
    Ill(Json<Report>),
}

#[derive(ApiResponse)]
pub(super) enum Ready {
    /// The process can serve requests.
    #[oai(status = 200)]
    Yes(Json<Word>),
    /// The process cannot serve requests now.
    #[oai(status = 503)]
    No(Json<Word>),
}
