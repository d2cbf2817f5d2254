//! One machine: `cuponera up` with its private Postgres.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cuponera_testkit::free_address;
use rustix::process::{Pid, Signal, kill_process};

use super::program::{Program, finish};
use super::{
    EMAIL, Installation, NO_LIMIT, OTHER_EMAIL, PASSWORD, POLL, WEBHOOK_NETWORK, folder, wait_until_ready,
};
use crate::Result;

/// Time for an immediate shutdown of Postgres.
const POSTGRES_END: Duration = Duration::from_secs(10);

pub(super) async fn start(programs: &Path) -> Result<Installation> {
    let folder = folder()?;
    let address = free_address().to_string();
    let text =
        |path: &Path| path.to_str().map(str::to_owned).ok_or("the path of the temporary folder is not UTF-8");
    let settings: Vec<(String, String)> = [
        ("CUPONERA_DATA_DIR", text(&folder.path().join("data"))?),
        ("CUPONERA_HTTP_ADDR", address.clone()),
        ("CUPONERA_ADMIN_EMAIL", EMAIL.to_owned()),
        ("CUPONERA_ADMIN_PASSWORD", PASSWORD.to_owned()),
        ("CUPONERA_LOG_FORMAT", "json".to_owned()),
        ("CUPONERA_RATE_LIMIT_USER", NO_LIMIT.to_owned()),
        ("CUPONERA_WEBHOOK_ALLOW", WEBHOOK_NETWORK.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let cuponera = programs.join("cuponera");
    let log = folder.path().join("up.log");
    let up = Program::start("cuponera up", cuponera.clone(), &["up"], settings.clone(), log.clone())?;
    let apis = vec![address];
    wait_until_ready(&apis).await?;
    let other = ["admin", "create-business", "Other", "--password-stdin", "--admin-email", OTHER_EMAIL];
    finish(cuponera, &other, &settings, PASSWORD, &log).await?;
    let left = Some(LeftPostgres { data_dir: folder.path().join("data") });
    Ok(Installation { programs: vec![up], apis, fleet: None, _left: left, folder })
}

/// The Postgres that a killed `up` leaves behind. Dropping it stops the server, before the folder is
/// removed.
pub(super) struct LeftPostgres {
    data_dir: PathBuf,
}

impl Drop for LeftPostgres {
    fn drop(&mut self) {
        let Ok(file) = std::fs::read_to_string(self.data_dir.join("postgres/postmaster.pid")) else { return };
        let pid = file.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|pid| is_postgres(*pid)) else { return };
        let _ = kill_process(pid, Signal::QUIT);
        let begun = Instant::now();
        while is_postgres(pid) && begun.elapsed() < POSTGRES_END {
            std::thread::sleep(POLL);
        }
    }
}

/// Whether this process is a private Postgres: process ids are reused.
fn is_postgres(pid: Pid) -> bool {
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command_line).contains("cluster_name=cuponera-")
}
