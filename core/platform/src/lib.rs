//! The services around the store: settings, the lifecycle of a program, queues, files, the cache, credentials and
//! telemetry.

pub mod cache;
pub mod config;
pub mod credential;
pub mod files;
pub mod lifecycle;
pub mod queue;
pub mod telemetry;
