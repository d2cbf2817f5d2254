//! The faults: each strikes once at its time, and is over by itself.

mod connections;
mod database;
mod programs;
mod queue;
mod redis;

use futures::future::LocalBoxFuture;
use rand::rngs::StdRng;

use crate::Result;
use crate::installation::{Installation, Size};

/// A fault.
pub struct Fault {
    /// As it is named on the command line.
    pub name: &'static str,
    /// Whether it needs what only a fleet has.
    pub(crate) needs_fleet: bool,
    /// Whether files of an upload may be left: its program is gone, or does not know whether its job was committed.
    pub(crate) leaves_files: bool,
    /// Strikes and recovers. An error is a violation: what should have come back did not.
    pub(crate) strike: for<'a> fn(&'a Installation, StdRng) -> LocalBoxFuture<'a, Result<()>>,
}

/// All faults.
pub const FAULTS: &[Fault] = &[
    programs::KILL,
    programs::FREEZE,
    programs::TERMINATE,
    database::RESTART_POSTGRES,
    database::HOLD_ROWS,
    database::LONG_READER,
    connections::CUT_CONNECTIONS,
    connections::SLOW_CONNECTIONS,
    queue::REFUSE_QUEUE,
    queue::HANG_QUEUE,
    redis::FLUSH_REDIS,
    redis::FREEZE_REDIS,
    redis::KILL_REDIS,
];

impl Fault {
    /// Whether it can strike an installation of this size.
    pub(crate) fn strikes(&self, size: Size) -> bool {
        size == Size::Fleet || !self.needs_fleet
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
