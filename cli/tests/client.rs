//! The subcommands that call a server, run as processes against one server that these tests share.

mod audit;
mod books;
mod export;
mod fake;
mod import;
mod import_cases;
mod jobs;
mod lists;
mod pools;
mod retries;
mod session;
mod shell;
mod statistics;
mod till;
mod tls;
mod undo;
mod webhooks;
mod world;

pub(crate) use world::{Ran, World, finish, run};
