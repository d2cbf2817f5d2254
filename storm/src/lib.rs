//! Randomized fault injection against the real programs, in both deployment sizes.
//!
//! A seed gives the load, the faults and when they strike. Clients record every answer; when the faults are over and the work is
//! done, oracles check the history and the database. A bug is a guard that is taken out of a statement on its way to Postgres:
//! it shows that the oracles would notice.
//!
//! An operation is an entry in [`operations`], a fault in [`faults`], an oracle in [`oracles`], a bug in [`bugs`].

pub mod bugs;
mod clients;
mod evidence;
pub mod faults;
mod history;
mod installation;
mod operations;
mod oracles;
mod plan;
mod report;
mod run;
pub mod shrink;
mod wire;
mod world;

pub use installation::Size;
pub use plan::Plan;
pub use report::{Report, SizeReport};
pub use run::storm;

/// An error of the storm itself: something could not be started or asked. What a program does wrong is a violation.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The result of what may fail so.
pub type Result<T, E = Error> = std::result::Result<T, E>;
