//! The data folder: private, owned by one process at a time, with the password of the cluster.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::TryRng;
use rand::rngs::SysRng;
use rustix::fs::{FlockOperation, flock};

use crate::Error;

/// How long to wait for a previous owner that is just ending.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(50);

/// 192 bits: impossible to guess, and short enough for a URL.
const PASSWORD_BYTES: usize = 24;

/// A data folder. This process owns it while the value exists.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Creates the folder if it is absent and locks it, or fails with [`Error::Locked`].
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        // The mode of an existing folder is the operator's decision and is not changed.
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::folder("create", path))?;
        let path = path.canonicalize().map_err(Error::folder("open", path))?;
        let lock = lock(&path).await?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn cluster(&self) -> PathBuf {
        cluster_in(&self.path)
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }

    /// The password for a new cluster: that of an interrupted attempt, or a new one.
    pub(crate) fn find_or_create_password(&self) -> Result<String, Error> {
        if let Some(password) = find_password(&self.path)? {
            return Ok(password);
        }
        let path = password_file(&self.path);
        let password = random_hex::<PASSWORD_BYTES>().map_err(Error::folder("generate", &path))?;
        self.write_private(&path, &password).map_err(Error::folder("write", &path))?;
        Ok(password)
    }

    /// Makes the entries of the folder durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Writes atomically: the file is complete, durable and readable only by its owner, or absent.
    fn write_private(&self, path: &Path, content: &str) -> io::Result<()> {
        let unfinished = path.with_extension("new");
        // A leftover file may have another mode, so it is recreated instead of truncated.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        self.sync()
    }
}

/// The cluster folder of a data folder.
pub(crate) fn cluster_in(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

/// The password of an existing cluster.
pub(crate) fn get_password(data_dir: &Path) -> Result<String, Error> {
    find_password(data_dir)?.ok_or_else(|| Error::PasswordMissing { path: password_file(data_dir) })
}

fn password_file(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres.password")
}

fn find_password(data_dir: &Path) -> Result<Option<String>, Error> {
    let path = password_file(data_dir);
    match fs::read_to_string(&path) {
        Ok(password) => Ok(Some(password.trim().to_owned()).filter(|password| !password.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::folder("read", path)(error)),
    }
}

/// Random hexadecimal text from the operating system, two characters for each byte.
pub(crate) fn random_hex<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect())
}

async fn lock(data_dir: &Path) -> Result<File, Error> {
    let path = data_dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(Error::folder("create", &path))?;
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                tokio::time::sleep(LOCK_POLL).await;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Locked { data_dir: data_dir.to_owned() });
            }
            Err(error) => return Err(Error::folder("lock", path)(error.into())),
        }
    }
}
