//! Printing that survives a reader who has gone: `| head` is no fault.

use std::io::{self, ErrorKind, Write};

use super::fault::Fault;

/// Prints to standard output, a line end added if there is none.
pub(crate) fn say(text: &str) -> Result<(), Fault> {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let mut out = io::stdout().lock();
    write!(out, "{text}{end}").and_then(|()| out.flush()).map_err(|error| unsaid(&error))
}

/// What it means that standard output does not take any more.
pub(crate) fn unsaid(error: &io::Error) -> Fault {
    match error.kind() {
        ErrorKind::BrokenPipe => Fault::Unread,
        _ => Fault::Here(format!("standard output cannot be written to: {error}")),
    }
}

/// Prints to standard error, after our name. If nobody listens there is nobody to tell.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "cuponera: {message}");
}

/// Prints a note to standard error.
pub(crate) fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}
