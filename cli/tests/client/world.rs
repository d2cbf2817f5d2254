//! A server that the running tests share, with an API key, and helpers to run the command and check its results.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Weak};

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::support::{Admin, Installation, PASSWORD, Process, cuponera};

/// The server of the running tests. It stops when the last of them ends.
static SHARED: Mutex<Weak<Shared>> = Mutex::const_new(Weak::new());

/// Dropped in this order: the process, then the folder with its Postgres.
struct Shared {
    process: Process,
    api_key: String,
    installation: Installation,
}

/// The server, with a folder and logins for one test.
pub(crate) struct World {
    shared: Arc<Shared>,
    folder: TempDir,
}

/// The result of a command.
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
        Self { shared: running, folder: TempDir::new().expect("creating a temporary folder failed") }
    }

    /// The URL of the server, from the banner.
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

    /// The command without an API key: it needs a login.
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

    /// Runs the command under `--json`; it must succeed.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let ran = self.run(&[words, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        ran.json()
    }

    /// Creates an active book with a unique name. Returns its name and id.
    pub(crate) fn book(&self, options: &[&str]) -> (String, String) {
        let name = format!("Book {:x}", rand::random::<u64>());
        let made = self.json(&[&["books", "create", &name], options].concat());
        self.json(&["books", "activate", &name]);
        (name, made["id"].as_str().expect("an id").to_owned())
    }

    /// Generates `count` codes in a book.
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
    /// Standard output, which must be one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the exit status, and that standard error contains these words.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not printed: {self:?}");
        }
    }

    /// Checks that the command succeeded, and that standard output contains these words.
    #[track_caller]
    pub(crate) fn prints(&self, words: &[&str]) {
        assert_eq!(self.code, 0, "{self:?}");
        for word in words {
            assert!(self.stdout.contains(word), "{word:?} is not printed: {self:?}");
        }
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    finish(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starting cuponera failed"))
}

/// Runs a command with this standard input.
pub(crate) fn run_reading(command: &mut Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starting cuponera failed");
    let mut stdin = child.stdin.take().expect("a pipe");
    // The command may fail before it reads everything; its result shows why.
    let _ = stdin.write_all(input);
    drop(stdin);
    finish(child)
}

/// Waits for a command to end.
pub(crate) fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().expect("waiting failed");
    let text = |bytes| String::from_utf8(bytes).expect("its output is not UTF-8");
    let code = output.status.code().unwrap_or(-1);
    Ran { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    let found = std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    found.permissions().mode() & 0o777
}
