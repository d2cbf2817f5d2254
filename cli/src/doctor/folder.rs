//! Folders: whether they can be written to, who else can look into them, and how much room is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytesize::ByteSize;
use cuponera_core::config::Settings;
use cuponera_core::files::FilesAddress;
use rustix::fs::{Access, access, statvfs};

use super::report::Finding;

/// Postgres alone writes this much of its log ahead.
const LEAST_SPACE_BYTES: u64 = 256 * 1024 * 1024;
const COMFORTABLE_SPACE_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// As many as the signature's hash.
const LEAST_SECRET_BYTES: usize = cuponera_core::credential::MIN_JWT_SECRET_BYTES;

/// The data folder, and the secrets in it.
pub(super) fn data_folder(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "data folder";
    let folder = &settings.data_dir;
    let mut findings = vec![writable(CHECK, folder, "CUPONERA_DATA_DIR")];
    // An operator may mean it so: `up` makes the folder for its owner alone, and never changes one that exists.
    if let Some(mode) = mode(folder).filter(|mode| mode & 0o077 != 0) {
        let detail = format!("its mode is {mode:03o}: others on this machine can look into it");
        findings.push(Finding::warning(CHECK, detail, format!("chmod 700 {}", folder.display())));
    }
    for name in ["jwt.secret", "postgres.password"] {
        findings.extend(secret(&folder.join(name)));
    }
    findings
}

/// The folder of uploads; nothing if they are in a bucket, or if the settings are wrong, which is said elsewhere.
pub(super) fn files_folder(settings: &Settings) -> Option<Finding> {
    let Ok(FilesAddress::Folder(folder)) = settings.files_address() else { return None };
    Some(writable("files folder", &folder, "CUPONERA_FILES_URL"))
}

/// Whether a folder can be written to, or made.
fn writable(check: &'static str, folder: &Path, setting: &str) -> Finding {
    let shown = folder.display();
    let fix = format!("give it to this user (chown), or choose another with {setting}");
    // A relative path without a folder before it stands in the current one.
    let existing = folder.ancestors().find(|path| path.exists() || path.as_os_str().is_empty());
    let existing = existing.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Finding::fault(check, format!("{} is not a folder", existing.display()), fix);
    }
    if let Err(error) = access(existing, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        return Finding::fault(check, format!("{} cannot be written to: {error}", existing.display()), fix);
    }
    let state = if existing == folder { "" } else { ", which `up` will make" };
    let Ok(room) = statvfs(existing) else { return Finding::good(check, format!("{shown}{state}")) };
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    let detail = format!("{shown}{state}; {} free", ByteSize(free));
    let fix = format!("make room on its disk, or choose another with {setting}");
    match free {
        0..LEAST_SPACE_BYTES => Finding::fault(check, detail, fix),
        LEAST_SPACE_BYTES..COMFORTABLE_SPACE_BYTES => Finding::warning(check, detail, fix),
        _ => Finding::good(check, detail),
    }
}

/// What is wrong with a secret's file, if there is one.
fn secret(path: &Path) -> Option<Finding> {
    const CHECK: &str = "secrets";
    let mode = mode(path)?;
    let shown = path.display();
    if mode & 0o077 != 0 {
        let detail = format!("{shown} has mode {mode:03o}: others on this machine can read it");
        return Some(Finding::fault(CHECK, detail, format!("chmod 600 {shown}")));
    }
    match fs::read_to_string(path) {
        Ok(secret) if secret.trim().len() >= LEAST_SECRET_BYTES => None,
        Ok(_) if path.ends_with("jwt.secret") => {
            let fix = "delete it and `up` makes a new one; everybody then has to log in again";
            Some(Finding::fault(CHECK, format!("{shown} is too short"), fix))
        }
        Ok(secret) if !secret.trim().is_empty() => None,
        Ok(_) => Some(Finding::fault(CHECK, format!("{shown} is empty"), "restore it from a backup")),
        Err(error) => Some(Finding::fault(
            CHECK,
            format!("{shown} cannot be read: {error}"),
            "give it to this user (chown)",
        )),
    }
}

/// Who may do what with a file or folder, if it is there.
fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o777)
}
