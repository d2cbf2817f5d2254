//! The end of the help page of each subcommand that calls a server: the exit statuses.

/// The meaning of the exit statuses.
macro_rules! statuses {
    () => {
        "\
Exit status:
  0    success
  1    a local error: an unreadable file, a missing login, an invalid answer
  2    a usage error
  3    the server rejected the request (4xx); the reason is printed, under --json with its problem document
  4    the server is unreachable or unavailable, also after retries
  5    the job failed or was cancelled, or the test event of a webhook was not delivered
  130  Ctrl-C; a submitted job continues"
    };
}

/// Examples, and the meaning of the exit statuses.
macro_rules! help {
    ($examples:literal) => {
        concat!($examples, "\n\n", statuses!())
    };
}
