//! The number of connections that the limit of open files allows.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// Maximum number of connections. A lower limit of open files lowers it.
const MAX_CONNECTIONS: usize = 10_000;
/// Files reserved for other uses: connections to the database, uploads, the log.
const OTHER_FILES: usize = 512;

/// Raises the soft limit of open files to the hard limit. Returns the number of connections that it allows.
pub(crate) fn max_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            debug!(%error, "the limit of open files stays as it is");
        }
    }
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(MAX_CONNECTIONS, |files| files.saturating_sub(OTHER_FILES).clamp(16, MAX_CONNECTIONS))
}
