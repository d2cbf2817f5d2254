//! All errors of this crate. Each message is one line that names the path and the remedy.

use std::io;
use std::path::PathBuf;

/// Why a private Postgres could not be found, started or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable Postgres programs on this machine.
    #[error(
        "no Postgres {} or newer was found (looked in {looked_in}): run `make postgres`, or set PG_BIN to the \
         folder that holds initdb and postgres, or CUPONERA_DATABASE_URL to a server that already runs",
        crate::binaries::OLDEST_MAJOR
    )]
    BinariesNotFound {
        /// The searched places, for the message.
        looked_in: String,
    },
    /// `PG_BIN`, the only folder searched, has no usable Postgres programs.
    #[error(
        "{} contains no usable Postgres ({reason}): set PG_BIN to the folder of initdb and postgres, or unset it",
        folder.display()
    )]
    BinariesUnusable {
        /// That folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The process runs as root, and the user that Postgres must run as cannot execute the programs.
    #[error(
        "Postgres refuses to run as root, and the user {user} cannot execute {}: install Postgres for all \
         (apt-get install postgresql), or set PG_BIN to a folder every user can read",
        folder.display()
    )]
    BinariesOutOfReach {
        /// The folder of the programs.
        folder: PathBuf,
        /// The unprivileged user.
        user: String,
    },
    /// The cluster was made by a major version of Postgres that is not installed.
    #[error(
        "{} was made by Postgres {cluster}, but the programs found are version {installed}: install Postgres \
         {cluster} or set PG_BIN to it, or start with another data folder",
        path.display()
    )]
    VersionMismatch {
        /// The cluster folder.
        path: PathBuf,
        /// The major version that made the cluster.
        cluster: u32,
        /// The installed major versions, for the message.
        installed: String,
    },
    /// Another process owns the data folder.
    #[error(
        "another cuponera is running on {}: stop it, or set CUPONERA_DATA_DIR to another folder",
        data_dir.display()
    )]
    Locked {
        /// The data folder.
        data_dir: PathBuf,
    },
    /// A file or folder could not be created, read or written.
    #[error(
        "cannot {action} {}: check its owner and mode, or set CUPONERA_DATA_DIR to a folder you can write",
        path.display()
    )]
    Folder {
        /// The attempted action, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The cluster exists but its password does not.
    #[error(
        "{} is missing, so its database cannot be opened: restore this file from a backup, or start \
         with another data folder",
        path.display()
    )]
    PasswordMissing {
        /// The password file.
        path: PathBuf,
    },
    /// The process runs as root, and the machine has no user to run Postgres as.
    #[error(
        "Postgres refuses to run as root, and /etc/passwd has neither postgres nor nobody: run as another user"
    )]
    NoUnprivilegedUser,
    /// A Postgres program could not be executed.
    #[error("cannot run {}: check that Postgres is installed completely", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb could not create {}: {error_line}", path.display())]
    Initdb {
        /// The folder of the new cluster.
        path: PathBuf,
        /// The last error line of `initdb`.
        error_line: String,
    },
    /// The server ended before it was ready.
    #[error("Postgres did not start: {error_line} (full log: {})", log.display())]
    DidNotStart {
        /// The last error line of the log.
        error_line: String,
        /// The log of the server.
        log: PathBuf,
    },
    /// The server did not become ready in time and was stopped.
    #[error("Postgres (process {pid}) was not ready after {waited_s} s and was stopped: see {} and try again", log.display())]
    NotReady {
        /// The postmaster.
        pid: i32,
        /// Time waited, in seconds.
        waited_s: u64,
        /// The log of the server.
        log: PathBuf,
    },
    /// The server could not be signaled, or did not stop.
    #[error("Postgres (process {pid}) does not stop: see {}, or end it with kill -QUIT {pid}", log.display())]
    DoesNotStop {
        /// The postmaster.
        pid: i32,
        /// The log of the server.
        log: PathBuf,
        /// The error of the operating system if the signal could not be sent.
        source: Option<io::Error>,
    },
}

impl Error {
    /// For `map_err`: adds the attempted action and the path.
    pub(crate) fn folder(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder { action, path, source }
    }
}
