//! The user's logins: `login.json`, with one entry for each server, readable only by the user.
//!
//! Guarantees: the file is complete or absent, and a refresh token is used once, also by concurrent commands.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::fault::ClientError;

/// Timeout of the file's lock. Another command may hold the lock while it waits for the server.
const LOCK_TIMEOUT: Duration = Duration::from_mins(2);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// An access token is refreshed this long before it expires, so that it is still valid when the server checks it.
const MARGIN_SECONDS: i64 = 10;

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct Logins {
    path: PathBuf,
}

/// The file, locked against changes by other commands.
#[derive(Debug)]
pub(crate) struct LockedLogins<'a> {
    logins: &'a Logins,
    _lock: File,
}

/// A login at one server.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Login {
    pub(crate) email: String,
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    renew_at: DateTime<Utc>,
}

/// The server's response to a password or a refresh token.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Session {
    access_token: String,
    refresh_token: String,
    expires_in: i64,
}

impl Session {
    /// The login to store.
    pub(crate) fn of(self, email: &str) -> Login {
        let margin = MARGIN_SECONDS.min(self.expires_in / 2);
        let lives = TimeDelta::try_seconds(self.expires_in.saturating_sub(margin)).unwrap_or_default();
        Login {
            email: email.to_owned(),
            access_token: self.access_token,
            refresh_token: self.refresh_token,
            renew_at: Utc::now().checked_add_signed(lives).unwrap_or_else(Utc::now),
        }
    }
}

impl Login {
    /// Whether the access token has expired or is about to expire.
    pub(crate) fn is_stale(&self) -> bool {
        Utc::now() >= self.renew_at
    }
}

impl Logins {
    /// The file in `$XDG_CONFIG_HOME/cuponera` or `~/.config/cuponera`.
    pub(crate) fn find() -> Result<Self, ClientError> {
        let absolute =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
        let config =
            absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let config = config.ok_or_else(|| {
            ClientError::Local(
                "neither XDG_CONFIG_HOME nor HOME is set: there is no folder to store a login in".to_owned(),
            )
        })?;
        Ok(Self { path: config.join("cuponera/login.json") })
    }

    /// The login at a server.
    pub(crate) fn login(&self, url: &str) -> Result<Option<Login>, ClientError> {
        Ok(self.read()?.remove(url))
    }

    /// Locks the file; waits while another command holds the lock.
    pub(crate) async fn lock(&self) -> Result<LockedLogins<'_>, ClientError> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| self.unusable("created", &error))?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.with_extension("lock"))
            .map_err(|error| self.unusable("locked", &error))?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(LockedLogins { logins: self, _lock: lock }),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_TIMEOUT => {
                    tokio::time::sleep(LOCK_POLL).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let path = self.path.display();
                    return Err(ClientError::Local(format!(
                        "another command holds the lock of {path}: stop it and try again"
                    )));
                }
                Err(TryLockError::Error(error)) => return Err(self.unusable("locked", &error)),
            }
        }
    }

    fn read(&self) -> Result<BTreeMap<String, Login>, ClientError> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|_| {
                ClientError::Local(format!("{} is damaged: delete it and log in again", self.path.display()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(self.unusable("read", &error)),
        }
    }

    fn write(&self, logins: &BTreeMap<String, Login>) -> std::io::Result<()> {
        let draft = self.path.with_extension("new");
        // A leftover file may have another mode, so it is deleted and not truncated.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(logins)?)?;
        file.sync_all()?;
        fs::rename(draft, &self.path)
    }

    fn unusable(&self, action: &str, error: &std::io::Error) -> ClientError {
        ClientError::Local(format!(
            "{} cannot be {action}: {error}. Check its owner and mode",
            self.path.display()
        ))
    }
}

impl LockedLogins<'_> {
    /// The login at a server.
    pub(crate) fn login(&self, url: &str) -> Result<Option<Login>, ClientError> {
        self.logins.login(url)
    }

    /// Stores a login. `None` deletes it.
    pub(crate) fn keep(&self, url: &str, login: Option<Login>) -> Result<(), ClientError> {
        let mut logins = self.logins.read()?;
        match login {
            Some(login) => logins.insert(url.to_owned(), login),
            None => logins.remove(url),
        };
        self.logins.write(&logins).map_err(|error| self.logins.unusable("written", &error))
    }
}
