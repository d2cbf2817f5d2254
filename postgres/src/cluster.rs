//! The cluster: the folder in which Postgres stores its data. It is complete or absent.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use crate::binaries::{Binaries, Install};
use crate::folder::{DataFolder, cluster_in, get_password, random_hex};
use crate::launch::{self, RunAs};
use crate::server_log::{Log, error_line};
use crate::{Error, SUPERUSER, settings};

const INITDB_POLL: Duration = Duration::from_millis(20);
/// Time for the children of a killed `initdb` to end. It is short because in a container without an init
/// process zombies stay in the process group until the container ends.
const GROUP_TIMEOUT: Duration = Duration::from_secs(1);

/// Prefix of the folder in which `initdb` works. A folder with this prefix is an unfinished cluster.
const TEMPORARY_PREFIX: &str = "postgres.new-";

/// A complete cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    path: PathBuf,
    // Kept open: the server inherits it, and it identifies the folder even after a rename.
    handle: File,
    identity: String,
    major: u32,
    run_as: RunAs,
    password: String,
}

impl Cluster {
    /// Opens the cluster of a data folder; creates it if it is absent (the second value is then true).
    pub(crate) async fn open_or_create(
        folder: &DataFolder,
        binaries: &Binaries,
        settings: &[(String, String)],
    ) -> Result<(Self, bool), Error> {
        remove_temporary(folder.path());
        let is_new = !folder.cluster().join("PG_VERSION").exists();
        if is_new {
            create(folder, binaries.preferred(), settings::is_throwaway(settings)).await?;
        }
        Ok((Self::open(folder.path())?, is_new))
    }

    /// Finds the cluster of a data folder, which another process may own. Read-only.
    pub(crate) fn find(data_dir: &Path) -> Result<Option<Self>, Error> {
        if !cluster_in(data_dir).join("PG_VERSION").exists() {
            return Ok(None);
        }
        Self::open(data_dir).map(Some)
    }

    fn open(data_dir: &Path) -> Result<Self, Error> {
        let path = cluster_in(data_dir);
        let password = get_password(data_dir)?;
        let major = read_major(&path).map_err(Error::folder("read", path.join("PG_VERSION")))?;
        let handle = File::open(&path).map_err(Error::folder("open", &path))?;
        let metadata = handle.metadata().map_err(Error::folder("examine", &path))?;
        let identity = format!("cuponera-{:x}-{:x}", metadata.dev(), metadata.ino());
        let run_as = RunAs::owner_of(&metadata);
        Ok(Self { path, handle, identity, major, run_as, password })
    }

    pub(crate) fn major(&self) -> u32 {
        self.major
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    pub(crate) fn run_as(&self) -> RunAs {
        self.run_as
    }

    pub(crate) fn handle(&self) -> &File {
        &self.handle
    }

    /// Identifies the folder by device and inode while a server uses it. Unlike a name or an id in a file,
    /// this follows a renamed folder and is not shared with a copy.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.path.join("postmaster.pid")
    }

    /// The programs that can open this cluster.
    pub(crate) fn install<'a>(&self, binaries: &'a Binaries) -> Result<&'a Install, Error> {
        binaries.for_major(self.major).ok_or_else(|| Error::VersionMismatch {
            path: self.path.clone(),
            cluster: self.major,
            installed: binaries.versions(),
        })
    }

    /// Whether `other` is the same folder, even under another name.
    pub(crate) fn is(&self, other: &Path) -> bool {
        match (self.handle.metadata(), fs::metadata(other)) {
            (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
            _ => false,
        }
    }
}

/// Creates a cluster in a temporary folder and renames it, so an interrupted attempt is never used.
async fn create(folder: &DataFolder, install: &Install, throwaway: bool) -> Result<(), Error> {
    let run_as = RunAs::for_new_cluster()?;
    let password = folder.find_or_create_password()?;
    let suffix = random_hex::<4>().map_err(Error::folder("name", folder.path()))?;
    let temporary = folder.path().join(format!("{TEMPORARY_PREFIX}{suffix}"));
    prepare(&temporary, &password, run_as).map_err(Error::folder("create", &temporary))?;

    let made = initdb(folder, &temporary, install, run_as, throwaway).await;
    if made.is_ok() {
        let target = folder.cluster();
        let moved = fs::rename(temporary.join("cluster"), &target).and_then(|()| folder.sync());
        moved.map_err(Error::folder("create", target))?;
    }
    remove_temporary(folder.path());
    made
}

/// Creates a folder that the user of `initdb` owns, with the password in it: that user may have no access
/// to the data folder.
fn prepare(temporary: &Path, password: &str, run_as: RunAs) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(temporary)?;
    let password_file = temporary.join("password");
    fs::write(&password_file, password)?;
    run_as.give(&password_file)?;
    run_as.give(temporary)
}

async fn initdb(
    folder: &DataFolder,
    temporary: &Path,
    install: &Install,
    run_as: RunAs,
    throwaway: bool,
) -> Result<(), Error> {
    let handle = File::open(temporary).map_err(Error::folder("open", temporary))?;
    let inherited = launch::inherited_path(&handle);
    let log = Log::open(folder.log())?;
    let mut command = launch::command(install, "initdb", run_as);
    command.arg("-D").arg(inherited.join("cluster")).arg("--pwfile").arg(inherited.join("password"));
    command.args(["--username", SUPERUSER, "--auth=scram-sha-256", "--data-checksums", "--no-instructions"]);
    // Byte order is the fastest collation and does not change when system libraries are upgraded.
    command.args(["--encoding=UTF8", "--locale=C"]);
    if throwaway {
        command.arg("--no-sync");
    }
    command.stdout(log.writer()?).stderr(log.writer()?);
    let child = launch::spawn_inheriting(&handle, &mut command)
        .map_err(|source| launch::spawn_error(install, "initdb", run_as, source))?;
    if Initdb(child)
        .succeeds()
        .await
        .map_err(|source| Error::Run { program: install.program("initdb"), source })?
    {
        return Ok(());
    }
    Err(Error::Initdb { path: folder.cluster(), error_line: error_line(&log.since_opened()) })
}

/// A running `initdb`. Dropping it kills the process and its children.
struct Initdb(Child);

impl Initdb {
    /// Waits until the process ends.
    async fn succeeds(mut self) -> io::Result<bool> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.success());
            }
            tokio::time::sleep(INITDB_POLL).await;
        }
    }
}

impl Drop for Initdb {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        // `launch::command` made it the leader of its process group.
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let killed = group.is_some_and(|group| kill_process_group(group, Signal::KILL).is_ok());
        let _ = self.0.wait();
        let killed_at = Instant::now();
        while killed
            && group.is_some_and(|group| test_kill_process_group(group).is_ok())
            && killed_at.elapsed() < GROUP_TIMEOUT
        {
            std::thread::sleep(INITDB_POLL);
        }
    }
}

/// Removes the folders of interrupted attempts. If an `initdb` of such an attempt still writes, the
/// remainder is removed at the next start.
fn remove_temporary(data_dir: &Path) {
    let entries = fs::read_dir(data_dir).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX)) {
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::debug!(path = %entry.path().display(), %error, "an unfinished cluster was not removed");
        }
    }
}

fn read_major(cluster: &Path) -> io::Result<u32> {
    let text = fs::read_to_string(cluster.join("PG_VERSION"))?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("not a version: {text:?}")))
}
