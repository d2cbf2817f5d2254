//! A server that runs while any test needs it, a business with an API key, and the command with its results.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::support::{Admin, Installation, PASSWORD, Process, cuponera};

/// The server of the tests that run now. The last one to end takes it down.
static SHARED: Mutex<Weak<Shared>> = Mutex::const_new(Weak::new());

/// Ended in this order: the process, then the folder that its Postgres is in.
struct Shared {
    process: Process,
    api_key: String,
    installation: Installation,
}

/// A test's view of the server: a folder and logins of its own.
pub(crate) struct World {
    shared: Arc<Shared>,
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) async fn new() -> Self {
        let mut shared = SHARED.lock().await;
        let running = match shared.upgrade() {
            Some(running) => running,
            None => Arc::new(start().await),
        };
        *shared = Arc::downgrade(&running);
        Self { shared: running, folder: TempDir::new().expect("there is no place for temporary files") }
    }

    /// The server's URL, as the banner has it.
    pub(crate) fn url(&self) -> String {
        self.shared.process.banner("API").expect("the banner has no address").replace("/api/v1", "")
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.shared.installation.data_dir()
    }

    pub(crate) async fn admin(&self) -> Admin {
        self.shared.process.log_in(PASSWORD).await
    }

    /// A path in the test's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), text).expect("writing failed");
        self.path(name)
    }

    /// The command with the API key.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.stranger(words);
        command.env("CUPONERA_API_KEY", &self.shared.api_key);
        command
    }

    /// The command of somebody who has to log in.
    pub(crate) fn stranger(&self, words: &[&str]) -> Command {
        let mut command = cuponera();
        command.args(words).current_dir(self.folder.path());
        command.env("CUPONERA_URL", self.url()).env("XDG_CONFIG_HOME", self.path("config"));
        command
    }

    /// Runs the command with the API key.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        run(&mut self.command(words))
    }

    /// Runs it under `--json`; it must do what it is asked to.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let ran = self.run(&[words, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        ran.json()
    }

    /// An active book of a name that no other test has, and its id.
    pub(crate) fn book(&self, options: &[&str]) -> (String, String) {
        let name = format!("Book {:x}", rand::random::<u64>());
        let made = self.json(&[&["books", "create", &name], options].concat());
        self.json(&["books", "activate", &name]);
        (name, made["id"].as_str().expect("an id").to_owned())
    }

    /// So many codes of a book.
    pub(crate) fn codes(&self, book: &str, count: usize) -> Vec<String> {
        self.json(&["generate", "--book", book, "--quantity", &count.to_string()]);
        let page = self.json(&["codes", "list", "--book", book, "--limit", "500"]);
        let codes = page["data"].as_array().expect("a list").iter();
        codes.map(|item| item["code"].as_str().expect("a code").to_owned()).collect()
    }
}

async fn start() -> Shared {
    let installation = Installation::new();
    let process = installation.up().await;
    let admin = process.log_in(PASSWORD).await;
    let order = json!({"name": "tests", "role": "ADMIN"});
    let made = admin.json(admin.request(Method::POST, "api-keys").json(&order), 201).await;
    let api_key = made["key"].as_str().expect("a key").to_owned();
    Shared { process, api_key, installation }
}

impl Ran {
    /// Standard output as the one document it must be.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It ended with this status and said these words on standard error.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not said: {self:?}");
        }
    }

    /// It did what it was asked to and said these words on standard output.
    #[track_caller]
    pub(crate) fn said(&self, words: &[&str]) {
        assert_eq!(self.code, 0, "{self:?}");
        for word in words {
            assert!(self.stdout.contains(word), "{word:?} is not said: {self:?}");
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("cuponera cannot be run"))
}

/// Runs a command that reads this.
pub(crate) fn run_reading(command: &mut Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("cuponera cannot be run");
    let mut stdin = child.stdin.take().expect("a pipe");
    // One that does not read to the end has its reasons, which it says.
    let _ = stdin.write_all(input);
    drop(stdin);
    finish(child)
}

/// Waits for a command to end.
pub(crate) fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().expect("waiting failed");
    let text = |bytes| String::from_utf8(bytes).expect("it printed what is no text");
    let code = output.status.code().unwrap_or(-1);
    Ran { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// What a file's mode allows whom.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let found = std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    found.permissions().mode() & 0o777
}
