//! A fresh installation of one size, started from the real programs, with what a fault can do to it.

mod fleet;
mod one;
mod program;

use std::path::{Path, PathBuf};
use std::time::Duration;

use cuponera_postgres::PrivatePostgres;
use cuponera_testkit::{Adversary, Redis, TestBucket};
use rand::RngExt;
use rand::rngs::StdRng;
use sqlx::{Connection, PgConnection, query};
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::plan::Plan;
use crate::wire::Wire;
use crate::{Error, Result};

pub(crate) use program::Program;

pub(crate) const EMAIL: &str = "admin@example.com";
pub(crate) const OTHER_EMAIL: &str = "other@example.com";
pub(crate) const PASSWORD: &str = "correct horse battery";
/// End users of a storm ask more often than people do.
const NO_LIMIT: &str = "1000000";
/// How often a start is looked at.
const POLL: Duration = Duration::from_millis(10);
/// A start that takes longer has failed. The programs themselves wait less for what they need.
const START: Duration = Duration::from_secs(20);

/// A deployment size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// `cuponera up` with its private Postgres.
    One,
    /// Two `cuponera-api` and two `cuponera-worker`, with Postgres, Redis, SQS and S3.
    Fleet,
}

impl Size {
    /// Both.
    pub const ALL: [Self; 2] = [Self::One, Self::Fleet];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Fleet => "fleet",
        }
    }
}

/// A running installation. Fields are dropped in this order: the programs before what they use.
pub(crate) struct Installation {
    pub(crate) programs: Vec<Program>,
    /// `host:port` of each API.
    pub(crate) apis: Vec<String>,
    pub(crate) fleet: Option<Services>,
    _left: Option<one::LeftPostgres>,
    folder: TempDir,
}

/// What a fleet has besides its programs.
pub(crate) struct Services {
    pub(crate) wire: Wire,
    pub(crate) queue: Adversary,
    pub(crate) bucket: TestBucket,
    pub(crate) redis: Mutex<Redis>,
    postgres: PrivatePostgres,
}

impl Installation {
    /// Starts one from the programs of a folder, with two businesses in it.
    pub(crate) async fn start(size: Size, programs: &Path, plan: &Plan) -> Result<Self> {
        match size {
            Size::One => one::start(programs).await,
            Size::Fleet => fleet::start(programs, plan).await,
        }
    }

    /// A connection of the storm's own, past all faults. A restart of the server ends it. It waits for no lock for long: a frozen
    /// program may hold any.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        let mut connection = PgConnection::connect(&self.url()?).await?;
        query("set lock_timeout = '300ms'").execute(&mut connection).await?;
        Ok(connection)
    }

    /// The URL of the programs' database, past all faults.
    pub(crate) fn url(&self) -> Result<String> {
        let server = match &self.fleet {
            Some(services) => services.postgres.url().to_owned(),
            None => cuponera_postgres::find_running(&self.data_dir())?.ok_or("no Postgres runs")?,
        };
        of_database(&server)
    }

    /// A program by lot.
    pub(crate) fn any_program(&self, random: &mut StdRng) -> &Program {
        &self.programs[random.random_range(0..self.programs.len())]
    }

    /// What a fleet has besides its programs; faults that need it strike no other size.
    pub(crate) fn services(&self) -> Result<&Services> {
        Ok(self.fleet.as_ref().ok_or("one machine has no such service")?)
    }

    /// The folder of uploaded files; none if they lie in a bucket.
    pub(crate) fn uploads(&self) -> Option<PathBuf> {
        self.fleet.is_none().then(|| self.data_dir().join("files/uploads"))
    }

    /// What the programs wrote to their logs, by program.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (&str, String)> {
        self.programs.iter().map(|program| (program.name.as_str(), program.log()))
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Ends everything.
    pub(crate) async fn stop(self) -> Result<()> {
        for program in &self.programs {
            program.kill().await?;
        }
        if let Some(services) = self.fleet {
            services.postgres.stop().await?;
        }
        Ok(())
    }
}

/// Waits until each API is ready to serve.
pub(crate) async fn wait_until_ready(apis: &[String]) -> Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let all_ready = async {
        for api in apis {
            loop {
                let ready = http.get(format!("http://{api}/health/ready")).send().await;
                if ready.is_ok_and(|answer| answer.status().is_success()) {
                    break;
                }
                tokio::time::sleep(POLL).await;
            }
        }
    };
    let in_time = tokio::time::timeout(START, all_ready).await;
    in_time.map_err(|_| Error::from(format!("an API was not ready within {START:?}")))
}

/// A folder for everything of an installation, with the Postgres of this repository in it if it was fetched.
fn folder() -> Result<TempDir> {
    let folder = TempDir::new()?;
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.postgres");
    std::os::unix::fs::symlink(fetched, folder.path().join(".postgres"))?;
    Ok(folder)
}

/// The URL of the programs' database on a server whose maintenance database has this URL.
fn of_database(server: &str) -> Result<String> {
    let server = server.strip_suffix("/postgres").ok_or("the server has a strange address")?;
    Ok(format!("{server}/cuponera"))
}
