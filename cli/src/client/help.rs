//! The end of every help page of a verb that speaks to a server: what its exit status says.

/// What the exit statuses mean.
macro_rules! statuses {
    () => {
        "\
Exit status:
  0    done
  1    something is wrong on this side: a file, a login that is missing, an answer that is none
  2    the command line is not right
  3    the server refused (a 4xx): what and why is said; under --json its document is printed too
  4    the server cannot be reached, or cannot answer now, also after trying again
  5    the job failed or was cancelled
  130  Ctrl-C; a job that was submitted goes on"
    };
}

/// Examples, and what the exit statuses mean.
macro_rules! help {
    ($examples:literal) => {
        concat!($examples, "\n\n", statuses!())
    };
}
