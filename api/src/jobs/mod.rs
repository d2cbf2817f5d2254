//! Jobs as clients follow them: progress, waiting, event streams and errors files.

pub(crate) mod progress;
pub(crate) mod watch;

pub(crate) mod events;

pub(crate) mod errors_file;

pub(crate) mod dead_letters;
