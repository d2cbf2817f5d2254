//! The verbs that speak to a server, run as people and scripts run them, against one that all tests here share.

mod books;
mod fake;
mod import;
mod import_cases;
mod jobs;
mod retries;
mod session;
mod shell;
mod till;
mod tls;
mod world;

pub(crate) use world::{Ran, World, finish, run};
