//! Randomized fault injection against the real programs, in both deployment sizes.
//!
//! A seed determines the load, the faults and their times. Clients record all answers. When the faults are
//! over and the work is done, oracles check the history and the database. A bug is a guard that is removed
//! from a statement on its way to Postgres: it shows that the oracles notice.
//!
//! Operations are in [`operations`], faults in [`faults`], oracles in [`oracles`], bugs in [`bugs`].

pub mod bugs;
mod clients;
mod evidence;
pub mod faults;
mod followers;
mod history;
mod installation;
mod operations;
mod oracles;
mod plan;
mod postgres_proxy;
mod receivers;
mod report;
mod run;
pub mod shrink;
mod size;
mod world;

pub use plan::Plan;
pub use report::{Report, SizeReport};
pub use run::storm;
pub use size::Size;

/// An error of the storm itself: a program or service could not be started or reached. Errors of the
/// programs are violations.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The result of a fallible function of the storm.
pub type Result<T, E = Error> = std::result::Result<T, E>;
