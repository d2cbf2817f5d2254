//! Checks folders: whether they are writable and private, and how much disk space is free.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytesize::ByteSize;
use cuponera_platform::config::Settings;
use cuponera_platform::files::FilesAddress;
use rustix::fs::{Access, access, statvfs};

use super::report::Finding;

/// Less free space is a fault: Postgres alone writes this much WAL in advance.
const MIN_SPACE_BYTES: u64 = 256 * 1024 * 1024;
const COMFORTABLE_SPACE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// The size of the signature's hash.
const MIN_SECRET_BYTES: usize = cuponera_platform::credential::MIN_JWT_SECRET_BYTES;

/// Checks the data folder and the secrets in it.
pub(super) fn data_folder(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "data folder";
    let folder = &settings.data_dir;
    let mut findings = vec![writable(CHECK, folder, "CUPONERA_DATA_DIR")];
    // Only a warning, because it may be intended: `up` creates the folder with mode 0700, but never changes an existing
    // one.
    if let Some(mode) = mode(folder).filter(|mode| mode & 0o077 != 0) {
        let detail = format!("its mode is {mode:03o}: other users of this machine can read it");
        findings.push(Finding::warning(CHECK, detail, format!("chmod 700 {}", folder.display())));
    }
    for name in ["jwt.secret", "postgres.password", "audit.key"] {
        findings.extend(secret(&folder.join(name)));
    }
    findings
}

/// Checks the folder of uploads. `None` if uploads are in a bucket or the setting is invalid, which is reported
/// elsewhere.
pub(super) fn files_folder(settings: &Settings) -> Option<Finding> {
    let Ok(FilesAddress::Folder(folder)) = settings.files_address() else { return None };
    Some(writable("files folder", &folder, "CUPONERA_FILES_URL"))
}

/// Checks whether a folder is writable or can be created.
fn writable(check: &'static str, folder: &Path, setting: &str) -> Finding {
    let shown = folder.display();
    let fix = format!("make this user its owner (chown), or choose another with {setting}");
    // The parent of a relative path without folders is the current folder.
    let existing = folder.ancestors().find(|path| path.exists() || path.as_os_str().is_empty());
    let existing = existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Finding::fault(check, format!("{} is not a folder", existing.display()), fix);
    }
    if let Err(error) = access(existing, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        return Finding::fault(check, format!("{} is not writable: {error}", existing.display()), fix);
    }
    let state = if existing == folder { "" } else { ", which `up` will create" };
    let Ok(room) = statvfs(existing) else { return Finding::good(check, format!("{shown}{state}")) };
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let detail = format!("{shown}{state}; {} free", ByteSize(free));
    let fix = format!("free space on its disk, or choose another with {setting}");
    match free {
        0..MIN_SPACE_BYTES => Finding::fault(check, detail, fix),
        MIN_SPACE_BYTES..COMFORTABLE_SPACE_BYTES => Finding::warning(check, detail, fix),
        _ => Finding::good(check, detail),
    }
}

/// The fault of a secret's file, if any. A missing file is not a fault.
fn secret(path: &Path) -> Option<Finding> {
    const CHECK: &str = "secrets";
    let mode = mode(path)?;
    let shown = path.display();
    if mode & 0o077 != 0 {
        let detail = format!("{shown} has mode {mode:03o}: other users of this machine can read it");
        return Some(Finding::fault(CHECK, detail, format!("chmod 600 {shown}")));
    }
    match fs::read_to_string(path) {
        Ok(secret) if secret.trim().len() >= MIN_SECRET_BYTES => None,
        Ok(_) if path.ends_with("jwt.secret") => {
            let fix = "delete it; `up` then generates a new one and clients must refresh their tokens";
            Some(Finding::fault(CHECK, format!("{shown} is too short"), fix))
        }
        Ok(secret) if !secret.trim().is_empty() => None,
        Ok(_) => Some(Finding::fault(CHECK, format!("{shown} is empty"), "restore it from a backup")),
        Err(error) => Some(Finding::fault(
            CHECK,
            format!("{shown} cannot be read: {error}"),
            "make this user its owner (chown)",
        )),
    }
}

/// The permission bits of a file or folder, if it exists.
fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o777)
}
