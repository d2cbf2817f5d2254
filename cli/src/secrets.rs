//! Secrets that an installation generates and stores in its data folder, readable only by its owner.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use cuponera_domain::audit::AuditKey;
use cuponera_platform::credential::random_secret;
use secrecy::SecretString;

const JWT_SECRET_FILE: &str = "jwt.secret";
const JWT_SECRET_BYTES: usize = 32;
const AUDIT_KEY_FILE: &str = "audit.key";
const AUDIT_KEY_BYTES: usize = 32;
/// 72 random bits, printed as 18 hex digits.
const PASSWORD_BYTES: usize = 9;

/// Creates the data folder with mode 0700 if it is absent, and checks that it is writable.
pub(crate) fn open_data_folder(folder: &Path) -> Result<(), String> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let probe = folder.join(".writable");
    let tried = made.and_then(|()| fs::write(&probe, b"")).and_then(|()| fs::remove_file(&probe));
    tried.map_err(|error| {
        format!(
            "the data folder {} is not writable: {error}. Choose another with CUPONERA_DATA_DIR",
            folder.display()
        )
    })
}

/// Reads the secret that signs access tokens. The first call generates it.
pub(crate) fn jwt_secret(folder: &Path) -> Result<SecretString, String> {
    let path = folder.join(JWT_SECRET_FILE);
    match fs::read_to_string(&path) {
        Ok(secret) if secret.trim().len() >= JWT_SECRET_BYTES => return Ok(secret.trim().to_owned().into()),
        Ok(_) => return Err(format!("{} is too short: delete it to generate a new one", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
    }
    let secret = random_secret(JWT_SECRET_BYTES).map_err(|error| error.chain())?;
    write_for_owner(&path, &secret)
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(secret.into())
}

/// Reads the key of the seals over the event logs. The first call generates it.
pub(crate) fn audit_key(folder: &Path) -> Result<AuditKey, String> {
    if let Some(key) = stored_audit_key(folder)? {
        return Ok(key);
    }
    let path = folder.join(AUDIT_KEY_FILE);
    let key = random_secret(AUDIT_KEY_BYTES).map_err(|error| error.chain())?;
    write_for_owner(&path, &key).map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    key.parse().map_err(|fault| format!("{} {fault}", path.display()))
}

/// Reads the key of the seals, if the data folder has one.
pub(crate) fn stored_audit_key(folder: &Path) -> Result<Option<AuditKey>, String> {
    let path = folder.join(AUDIT_KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(key) => {
            key.parse().map(Some).map_err(|fault| format!("{} {fault}, or restore it", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

/// Generates a password.
pub(crate) fn password() -> Result<String, String> {
    random_secret(PASSWORD_BYTES).map_err(|error| error.chain())
}

/// Writes a file atomically, with mode 0600.
fn write_for_owner(path: &Path, text: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(draft, path)
}
