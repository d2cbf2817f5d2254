//! Corrects the environment of a process once, before it is read.
//!
//! - `PG*` variables are removed: sqlx uses them for parts that a database URL omits, and some
//!   (`PGOPTIONS`, `PGSSLCERT`, `PGSSLKEY`) cannot be overridden.
//! - Empty settings are removed: clap, the AWS SDK and OpenTelemetry each treat an empty variable
//!   differently.
//! - `.env` adds the settings that are not set.
//!
//! A process cannot change its own environment without `unsafe`, so it executes its own program again, under the same
//! process id and with the same arguments. This happens only if there is something to change.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Prefixes of the settings of these programs, of the AWS SDK and of OpenTelemetry.
const SETTINGS: [&str; 3] = ["CUPONERA_", "AWS_", "OTEL_"];

/// Other variables that `.env` may set. Not all: the file is also searched in parent folders, where it may
/// belong to another program, and some variables (`LD_PRELOAD`) determine which code runs.
const ALSO_IN_FILE: [&str; 12] = [
    "PG_BIN",
    "RUST_BACKTRACE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "ALL_PROXY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Corrects the environment. Returns if it is already correct; does not return if the program is executed
/// again.
pub(super) fn correct_environment() -> Result<(), String> {
    let changes = Changes::between(env::vars_os(), read_file()?);
    if changes.is_empty() {
        return Ok(());
    }
    let names = changes.names();
    let error = changes.execute_again();
    Err(format!("cannot restart with a corrected environment ({names}): {error}. Unset these variables"))
}

/// Variables to remove from an environment and to add to it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    remove: Vec<OsString>,
    add: BTreeMap<String, String>,
}

impl Changes {
    /// If `.env` has several lines with the same name, the first counts.
    fn between(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        file: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let is_left_out =
            |name: &OsStr, value: &OsStr| is_libpq_variable(name) || (is_setting(name) && value.is_empty());
        let (removed, kept): (Vec<_>, Vec<_>) =
            environment.into_iter().partition(|(name, value)| is_left_out(name, value));
        let mut add = BTreeMap::new();
        for (name, value) in file {
            let may_be_set = is_setting(OsStr::new(&name)) || ALSO_IN_FILE.contains(&name.as_str());
            let is_set = kept.iter().any(|(kept, _)| *kept == *name);
            if may_be_set && !is_set && !value.is_empty() {
                add.entry(name).or_insert(value);
            }
        }
        Self { remove: removed.into_iter().map(|(name, _)| name).collect(), add }
    }

    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// For messages: names only, because values may be secrets.
    fn names(&self) -> String {
        let removed = self.remove.iter().map(|name| name.to_string_lossy().into_owned());
        removed.chain(self.add.keys().cloned()).collect::<Vec<_>>().join(", ")
    }

    /// Executes this program again in this process; returns only on failure, with the reason.
    fn execute_again(&self) -> io::Error {
        let program = match env::current_exe() {
            Ok(program) => program,
            Err(error) => return error,
        };
        let mut arguments = env::args_os();
        let mut command = Command::new(&program);
        command.arg0(arguments.next().unwrap_or(program.into_os_string())).args(arguments);
        for name in &self.remove {
            command.env_remove(name);
        }
        command.envs(&self.add).exec()
    }
}

/// Whether libpq reads this variable, and therefore sqlx. `PG_BIN`, which is ours, and `PG_COLOR` are not
/// among these.
fn is_libpq_variable(name: &OsStr) -> bool {
    name.as_bytes().strip_prefix(b"PG").and_then(|rest| rest.first()).is_some_and(u8::is_ascii_uppercase)
}

fn is_setting(name: &OsStr) -> bool {
    SETTINGS.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}

/// The lines of `.env` in the current folder or the nearest parent that has one.
fn read_file() -> Result<Vec<(String, String)>, String> {
    let Some(path) = find_file() else { return Ok(Vec::new()) };
    let text = fs::read_to_string(path).map_err(|error| format!(".env: {error}"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Result<Vec<_>, _> = dotenvy::from_read_iter(text.as_bytes()).collect();
    lines.map_err(|error| match error {
        // The error contains the line, which may be a secret.
        dotenvy::Error::LineParse(..) => {
            ".env: a line cannot be parsed: put quotes around a value with spaces".to_owned()
        }
        error => format!(".env: {error}"),
    })
}

fn find_file() -> Option<PathBuf> {
    let folder = env::current_dir().ok()?;
    folder.ancestors().map(|folder| folder.join(".env")).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(environment: &[(&str, &str)], file: &[(&str, &str)]) -> Changes {
        Changes::between(
            environment.iter().map(|(name, value)| (name.into(), value.into())),
            file.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    fn removed(environment: &[(&str, &str)]) -> Vec<OsString> {
        changes(environment, &[]).remove
    }

    fn added(environment: &[(&str, &str)], file: &[(&str, &str)]) -> Vec<(String, String)> {
        changes(environment, file).add.into_iter().collect()
    }

    #[test]
    fn variables_of_libpq_are_removed_and_no_others_that_begin_alike() {
        assert_eq!(removed(&[("PGHOST", "there"), ("PGOPTIONS", "")]), ["PGHOST", "PGOPTIONS"]);
        assert_eq!(removed(&[("PG_BIN", "/bin"), ("PG_COLOR", ""), ("PG", ""), ("XPGHOST", "")]), [""; 0]);
    }

    #[test]
    fn an_empty_setting_is_removed_and_another_empty_variable_is_not() {
        let empty = [("CUPONERA_LOG", ""), ("OTEL_SERVICE_NAME", ""), ("AWS_ENDPOINT_URL", "")];
        assert_eq!(removed(&empty), empty.map(|(name, _)| name));
        assert_eq!(removed(&[("CUPONERA_LOG", " "), ("LANG", ""), ("NO_PROXY", "")]), [""; 0]);
    }

    #[test]
    fn the_file_sets_what_is_not_set_or_empty() {
        let file = [("CUPONERA_LOG", "debug"), ("CUPONERA_LOG", "trace"), ("NO_PROXY", "*")];
        let both =
            [("CUPONERA_LOG", "debug"), ("NO_PROXY", "*")].map(|(name, value)| (name.into(), value.into()));
        assert_eq!(added(&[], &file), both);
        assert_eq!(added(&[("CUPONERA_LOG", "")], &file), both);
        assert_eq!(added(&[("CUPONERA_LOG", "warn"), ("NO_PROXY", "")], &file), []);
    }

    #[test]
    fn the_file_sets_nothing_empty_and_nothing_that_is_no_setting() {
        assert_eq!(added(&[], &[("CUPONERA_LOG", ""), ("PGHOST", "there"), ("LD_PRELOAD", "x.so")]), []);
    }

    #[test]
    fn an_environment_in_order_stays_so() {
        let environment = [("CUPONERA_LOG", "warn"), ("PATH", "/bin")];
        let file = [("CUPONERA_LOG", "debug"), ("OTEL_SERVICE_NAME", "")];
        assert!(changes(&environment, &file).is_empty(), "the program would execute itself endlessly");
    }
}
