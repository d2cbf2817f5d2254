//! A new installation of one size that runs the real programs, and the access that faults need.

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
use crate::postgres_proxy::PostgresProxy;
use crate::size::Size;
use crate::{Error, Result};

pub(crate) use program::Program;

pub(crate) const EMAIL: &str = "admin@example.com";
pub(crate) const OTHER_EMAIL: &str = "other@example.com";
pub(crate) const PASSWORD: &str = "correct horse battery";
/// End users in a storm send more requests than real users.
const NO_LIMIT: &str = "1000000";
/// The network of the receivers of webhooks.
const WEBHOOK_NETWORK: &str = "127.0.0.0/8";
/// Interval for polling a start.
const POLL: Duration = Duration::from_millis(10);
/// A longer start has failed. The programs' own timeouts for their services are shorter.
const START: Duration = Duration::from_secs(20);

/// A running installation. Fields are dropped in this order: the programs before the services that they
/// use.
pub(crate) struct Installation {
    pub(crate) programs: Vec<Program>,
    /// `host:port` of each API.
    pub(crate) apis: Vec<String>,
    pub(crate) fleet: Option<Services>,
    _left: Option<one::LeftPostgres>,
    folder: TempDir,
}

/// The services of a fleet.
pub(crate) struct Services {
    pub(crate) postgres_proxy: PostgresProxy,
    pub(crate) queue: Adversary,
    pub(crate) bucket: TestBucket,
    pub(crate) redis: Mutex<Redis>,
    postgres: PrivatePostgres,
}

impl Installation {
    /// Starts an installation with the programs of a folder, and creates two businesses.
    pub(crate) async fn start(size: Size, programs: &Path, plan: &Plan) -> Result<Self> {
        match size {
            Size::One => one::start(programs).await,
            Size::Fleet => fleet::start(programs, plan).await,
        }
    }

    /// A direct connection that bypasses the faults, except a restart of the server. Its lock timeout is
    /// short, because a frozen program may hold any lock.
    pub(crate) async fn connect(&self) -> Result<PgConnection> {
        let mut connection = PgConnection::connect(&self.url()?).await?;
        query("set lock_timeout = '300ms'").execute(&mut connection).await?;
        Ok(connection)
    }

    /// The direct URL of the programs' database, which bypasses the faults.
    pub(crate) fn url(&self) -> Result<String> {
        let server = match &self.fleet {
            Some(services) => services.postgres.url().to_owned(),
            None => cuponera_postgres::find_running(&self.data_dir())?.ok_or("no Postgres runs")?,
        };
        of_database(&server)
    }

    /// A random program.
    pub(crate) fn any_program(&self, random: &mut StdRng) -> &Program {
        &self.programs[random.random_range(0..self.programs.len())]
    }

    /// The services of a fleet. Faults that need them strike no other size.
    pub(crate) fn services(&self) -> Result<&Services> {
        Ok(self.fleet.as_ref().ok_or("an installation on one machine has no such service")?)
    }

    /// The folder of uploaded files; `None` if they are in a bucket.
    pub(crate) fn uploads(&self) -> Option<PathBuf> {
        self.fleet.is_none().then(|| self.data_dir().join("files/uploads"))
    }

    /// The logs of the programs, with their names.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (&str, String)> {
        self.programs.iter().map(|program| (program.name.as_str(), program.log()))
    }

    /// The key of the seals over the event logs.
    pub(crate) fn audit_key(&self) -> Result<String> {
        match &self.fleet {
            Some(_) => Ok(fleet::AUDIT_KEY.to_owned()),
            None => Ok(std::fs::read_to_string(self.data_dir().join("audit.key"))?),
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Stops all programs and services.
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

/// Waits until all APIs are ready.
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

/// A folder for all files of an installation. It links to the Postgres of this repository, if installed.
fn folder() -> Result<TempDir> {
    let folder = TempDir::new()?;
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.postgres");
    std::os::unix::fs::symlink(fetched, folder.path().join(".postgres"))?;
    Ok(folder)
}

/// The URL of the programs' database, from the URL of the server's maintenance database.
fn of_database(server: &str) -> Result<String> {
    let server = server.strip_suffix("/postgres").ok_or("the server has an unexpected URL")?;
    Ok(format!("{server}/cuponera"))
}
