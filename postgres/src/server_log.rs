//! The log of the server: limited in size at each start, and searched for the last error.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// At this size a start renames the log and begins a new one.
const LOG_LIMIT_BYTES: u64 = 16 << 20;

/// Size of the log's end that is searched for an error.
const TAIL_BYTES: u64 = 64 << 10;

/// The log, from the position at which this start of the server began to write.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    from: u64,
}

impl Log {
    /// Opens the log for appending. Renames it first if it is too large.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Error> {
        let opened = rotate_large(&path).and_then(|()| {
            let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
            let from = file.metadata()?.len();
            Ok((file, from))
        });
        let (file, from) = opened.map_err(Error::folder("write", &path))?;
        Ok(Self { path, file, from })
    }

    /// For the standard output or error of a process.
    pub(crate) fn writer(&self) -> Result<File, Error> {
        self.file.try_clone().map_err(Error::folder("open", &self.path))
    }

    /// The text written since this log was opened, at most the last `TAIL_BYTES`.
    pub(crate) fn since_opened(&self) -> String {
        let mut text = Vec::new();
        let _ = self.read_since_opened(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    fn read_since_opened(&self, text: &mut Vec<u8>) -> io::Result<()> {
        let mut file = &self.file;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.from.max(end.saturating_sub(TAIL_BYTES))))?;
        file.take(TAIL_BYTES).read_to_end(text)?;
        Ok(())
    }
}

/// The most informative line about a failure: the last PANIC or FATAL line, else the last error, else the
/// last line.
pub(crate) fn error_line(text: &str) -> String {
    let last_with =
        |word: &str| text.lines().filter_map(|line| line.find(word).map(|at| &line[at..])).next_back();
    let error_line = last_with("PANIC:")
        .or_else(|| last_with("FATAL:"))
        .or_else(|| last_with("error:"))
        .or_else(|| text.lines().rfind(|line| !line.trim().is_empty()))
        .unwrap_or("it ended without a message");
    error_line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn rotate_large(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > LOG_LIMIT_BYTES => fs::rename(path, path.with_extension("log.1")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_is_the_last_fatal_line() {
        let text = "UTC [1] FATAL:  first\nUTC [1] FATAL:  could not  map\nUTC [1] LOG:  shut down\n";
        assert_eq!(error_line(text), "FATAL: could not map");
        assert_eq!(error_line("initdb: error: no\ninitdb: hint: try\n"), "error: no");
        assert_eq!(error_line("only this\n\n"), "only this");
        assert_eq!(error_line(""), "it ended without a message");
    }

    #[test]
    fn a_log_grown_too_large_is_put_aside_once() {
        let folder = std::env::temp_dir().join(format!("cuponera-log-{:016x}", rand::random::<u64>()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("postgres.log");
        let grow = |bytes| File::create(&path).unwrap().set_len(bytes).unwrap();
        grow(LOG_LIMIT_BYTES);
        assert_eq!(Log::open(path.clone()).unwrap().from, LOG_LIMIT_BYTES);
        for _ in 0..2 {
            grow(LOG_LIMIT_BYTES + 1);
            assert_eq!(Log::open(path.clone()).unwrap().from, 0);
            assert_eq!(fs::metadata(folder.join("postgres.log.1")).unwrap().len(), LOG_LIMIT_BYTES + 1);
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(folder).unwrap();
    }
}
