//! Everything that can go wrong, each as one line that names the path and the fix.

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
        /// The places looked in, for people.
        looked_in: String,
    },
    /// The one folder to look in, `PG_BIN`, has no Postgres programs that can be used.
    #[error(
        "{} holds no usable Postgres ({reason}): set PG_BIN to the folder of initdb and postgres, or unset it",
        folder.display()
    )]
    BinariesUnusable {
        /// That folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Running as root, and the user Postgres must run as cannot execute the programs.
    #[error(
        "Postgres refuses to run as root, and the user {user} cannot execute {}: install Postgres for all \
         (apt-get install postgresql), or set PG_BIN to a folder every user can read",
        folder.display()
    )]
    BinariesOutOfReach {
        /// Where the programs are.
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
        /// The major versions installed, for people.
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
    /// A file or folder could not be made, read or written.
    #[error(
        "cannot {action} {}: check its owner and mode, or set CUPONERA_DATA_DIR to a folder you can write",
        path.display()
    )]
    Folder {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cluster exists but its password does not.
    #[error(
        "{} is missing, so nobody can log in to the database beside it: restore that file from a backup, or start \
         with another data folder",
        path.display()
    )]
    PasswordMissing {
        /// The password file.
        path: PathBuf,
    },
    /// Running as root on a machine without a user to run Postgres as.
    #[error(
        "Postgres refuses to run as root, and /etc/passwd has neither postgres nor nobody: run as another user"
    )]
    NoUnprivilegedUser,
    /// A Postgres program could not be executed at all.
    #[error("cannot run {}: check that Postgres is installed whole", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb could not make {}: {complaint}", path.display())]
    Initdb {
        /// The cluster folder to be.
        path: PathBuf,
        /// The last complaint of `initdb`.
        complaint: String,
    },
    /// The server ended before it was ready.
    #[error("Postgres did not start: {complaint} (the whole story is in {})", log.display())]
    DidNotStart {
        /// The last complaint in the log.
        complaint: String,
        /// The log of the server.
        log: PathBuf,
    },
    /// The server lived but did not become ready in time. It has been stopped.
    #[error("Postgres (process {pid}) is not ready after {waited_s} s and is stopped: see {} and try again", log.display())]
    NotReady {
        /// The postmaster.
        pid: i32,
        /// How long we waited, in seconds.
        waited_s: u64,
        /// The log of the server.
        log: PathBuf,
    },
    /// The server could not be told to stop, or did not.
    #[error("Postgres (process {pid}) does not stop: see {}, or end it with kill -QUIT {pid}", log.display())]
    DoesNotStop {
        /// The postmaster.
        pid: i32,
        /// The log of the server.
        log: PathBuf,
        /// What the system said, if the signal could not be sent.
        source: Option<io::Error>,
    },
}

impl Error {
    /// For `map_err`: what was tried on which path.
    pub(crate) fn folder(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder { action, path, source }
    }
}
