//! Runs Postgres programs as the right user, and gives them access to a folder that this user cannot open
//! by path.
//!
//! Postgres refuses to run as root, and root's data folder may be inaccessible to other users (under
//! `/root`, mode 0700 itself). Therefore this process opens the folder, the programs inherit the
//! descriptor, and their path is `/proc/self/fd/<n>`: following that link needs no permission on the parent
//! folders. This works for each process of a server, because all are forked from the first and Postgres
//! does not close unknown descriptors. It needs no capability beyond those for changing the user. Other
//! users take the same path, so that there is only one.
//!
//! The working directory (`/proc/self/cwd`) would need no inherited descriptor, but Postgres 15 returns to
//! its start folder by name, which fails.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::Error;
use crate::binaries::{Install, with_own_environment};

/// In order of preference: the user made for Postgres, then a user without rights.
const UNPRIVILEGED_USERS: [&str; 2] = ["postgres", "nobody"];

/// The user Postgres programs run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunAs {
    /// Not root: the current user.
    CurrentUser,
    /// Root: this user and group, without supplementary groups.
    User { uid: u32, gid: u32 },
}

impl RunAs {
    /// For a cluster that does not exist yet.
    pub(crate) fn for_new_cluster() -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::CurrentUser);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(|_| Error::NoUnprivilegedUser)?;
        let user = UNPRIVILEGED_USERS.iter().find_map(|name| find_user(&passwd, name));
        user.map(|(uid, gid)| Self::User { uid, gid }).ok_or(Error::NoUnprivilegedUser)
    }

    /// For an existing cluster: its owner, because Postgres accepts no other user.
    pub(crate) fn owner_of(cluster: &Metadata) -> Self {
        if rustix::process::geteuid().is_root() {
            Self::User { uid: cluster.uid(), gid: cluster.gid() }
        } else {
            Self::CurrentUser
        }
    }

    /// Makes this user the owner of a file or folder.
    pub(crate) fn give(self, path: &Path) -> io::Result<()> {
        match self {
            Self::CurrentUser => Ok(()),
            Self::User { uid, gid } => std::os::unix::fs::chown(path, Some(uid), Some(gid)),
        }
    }
}

/// The path of `folder` in a program that inherits it.
pub(crate) fn inherited_path(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// A Postgres program that runs as `run_as`, without a terminal and without this process's environment.
pub(crate) fn command(install: &Install, program: &str, run_as: RunAs) -> Command {
    let mut command = with_own_environment(install.program(program));
    command.current_dir("/");
    // A Ctrl-C in a terminal must not reach the server: this process stops it in order.
    command.process_group(0);
    if let RunAs::User { uid, gid } = run_as {
        command.uid(uid).gid(gid);
    }
    command
}

/// Spawns a program that inherits `folder`.
///
/// If another thread spawns a program at the same moment, that program inherits the descriptor too. This is
/// harmless.
pub(crate) fn spawn_inheriting(folder: &File, command: &mut Command) -> io::Result<Child> {
    fcntl_setfd(folder, FdFlags::empty())?;
    let child = command.spawn();
    fcntl_setfd(folder, FdFlags::CLOEXEC)?;
    child
}

/// Converts a spawn error and names its cause.
pub(crate) fn spawn_error(install: &Install, program: &str, run_as: RunAs, source: io::Error) -> Error {
    match run_as {
        RunAs::User { uid, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Error::BinariesOutOfReach { folder: install.folder.clone(), user: user_name(uid) }
        }
        _ => Error::Run { program: install.program(program), source },
    }
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
