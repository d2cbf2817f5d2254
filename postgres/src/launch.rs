//! How Postgres programs are run: as whom, and how they reach a folder that user cannot walk to.
//!
//! Postgres refuses root, and the data folder of root may lie where no other user can go (under `/root`, mode
//! 0700 itself). So the folder is opened here, the open descriptor is inherited by the programs, and they are
//! told `/proc/self/fd/<n>`: following that link asks for no permission on the folders above. It holds for
//! every process of a server, because they are all forked from the first and Postgres closes no descriptor it
//! does not know. It needs no capability beyond what changing the user takes anyway. Other users take the
//! same way, so that there is one.
//!
//! Not the working directory (`/proc/self/cwd`), which would need no inheriting: Postgres 15 returns to the
//! folder it was started in by its name, and cannot.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::Error;
use crate::binaries::Install;

/// Best first: made for this, or made for nothing.
const UNPRIVILEGED_USERS: [&str; 2] = ["postgres", "nobody"];

/// The user Postgres programs run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunAs {
    /// We are not root: as we are.
    Ourselves,
    /// We are root: as this user and group, without any other group.
    User { uid: u32, gid: u32 },
}

impl RunAs {
    /// For a cluster that does not exist yet.
    pub(crate) fn for_new_cluster() -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(|_| Error::NoUnprivilegedUser)?;
        let user = UNPRIVILEGED_USERS.iter().find_map(|name| find_user(&passwd, name));
        user.map(|(uid, gid)| Self::User { uid, gid }).ok_or(Error::NoUnprivilegedUser)
    }

    /// For a cluster that exists: its owner, whoever made it, for Postgres accepts no other.
    pub(crate) fn owner_of(cluster: &Metadata) -> Self {
        if rustix::process::geteuid().is_root() {
            Self::User { uid: cluster.uid(), gid: cluster.gid() }
        } else {
            Self::Ourselves
        }
    }

    /// Makes this user the owner of a file or folder.
    pub(crate) fn give(self, path: &Path) -> io::Result<()> {
        match self {
            Self::Ourselves => Ok(()),
            Self::User { uid, gid } => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
        }
    }
}

/// The path under which a program that inherits `folder` finds it.
pub(crate) fn inherited_path(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// A Postgres program, to be run as `run_as` without a terminal and without our environment.
pub(crate) fn command(install: &Install, program: &str, run_as: RunAs) -> Command {
    let mut command = with_own_environment(install.program(program));
    command.current_dir("/");
    // Out of reach of the Ctrl-C of a terminal: the server is stopped by us, in order.
    command.process_group(0);
    if let RunAs::User { uid, gid } = run_as {
        command.uid(uid).gid(gid);
    }
    command
}

/// A program without our environment: that holds secrets, and PG* variables, a time zone or a locale that would change what
/// the programs of Postgres do.
pub(crate) fn with_own_environment(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").envs(kept_environment()).stdin(Stdio::null());
    command
}

/// Spawns a program that inherits `folder`.
///
/// Another thread that spawns at the same instant passes the descriptor on too: an open folder, which harms
/// nobody.
pub(crate) fn spawn_inheriting(folder: &File, command: &mut Command) -> io::Result<Child> {
    fcntl_setfd(folder, FdFlags::empty())?;
    let child = command.spawn();
    fcntl_setfd(folder, FdFlags::CLOEXEC)?;
    child
}

/// Says why a program could not be spawned.
pub(crate) fn spawn_error(install: &Install, program: &str, run_as: RunAs, source: io::Error) -> Error {
    match run_as {
        RunAs::User { uid, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Error::BinariesOutOfReach { folder: install.folder.clone(), user: user_name(uid) }
        }
        _ => Error::Run { program: install.program(program), source },
    }
}

fn kept_environment() -> impl Iterator<Item = (&'static str, OsString)> {
    ["PATH", "LD_LIBRARY_PATH"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)))
}

fn find_user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields =
        passwd.lines().map(|line| line.split(':')).find(|line| line.clone().next() == Some(name))?.skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let entry = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
    entry.and_then(|line| line.split(':').next()).map_or_else(|| uid.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd =
            "postgresql:x:1:2::/:/bin/sh\npostgres:x:101:104:PostgreSQL:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(find_user(passwd, "postgres"), Some((101, 104)));
        assert_eq!(find_user(passwd, "nobody"), None);
        assert_eq!(find_user("postgres:x:broken", "postgres"), None);
    }
}
