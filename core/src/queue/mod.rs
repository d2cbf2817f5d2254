//! How workers learn that there is work. A wake-up says only *there is work*; which chunk is Postgres's fair choice, so a
//! lost, doubled or late one changes nothing.

mod postgres;

pub use postgres::{Wakeups, announce};
