//! Output. A reader that closes the pipe, such as `| head`, is not an error.

use std::io::{self, ErrorKind, Write};

use super::fault::ClientError;

/// Prints to standard output, with a final line end.
pub(crate) fn print(text: &str) -> Result<(), ClientError> {
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let mut out = io::stdout().lock();
    write!(out, "{text}{end}").and_then(|()| out.flush()).map_err(|error| output_error(&error))
}

/// Classifies an error of standard output.
pub(crate) fn output_error(error: &io::Error) -> ClientError {
    match error.kind() {
        ErrorKind::BrokenPipe => ClientError::OutputClosed,
        _ => ClientError::Local(format!("cannot write to standard output: {error}")),
    }
}

/// Prints to standard error, with the program's name. Errors are ignored.
pub(crate) fn print_error(message: &str) {
    let _ = writeln!(io::stderr(), "cuponera: {message}");
}

/// Prints a note to standard error.
pub(crate) fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}
