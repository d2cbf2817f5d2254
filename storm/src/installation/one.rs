//! One machine: `cuponera up` with its private Postgres.

use std::path::Path;
use std::time::Duration;

use cuponera_testkit::free_address;
use rustix::process::{Pid, Signal, kill_process};

use super::program::{Program, finish};
use super::{EMAIL, Installation, NO_LIMIT, OTHER_EMAIL, PASSWORD, POLL, folder, wait_until_ready};
use crate::Result;

/// How long a Postgres that is told to end at once may take.
const POSTGRES_END: Duration = Duration::from_secs(10);

pub(super) async fn start(programs: &Path) -> Result<Installation> {
    let folder = folder()?;
    let address = free_address().to_string();
    let text =
        |path: &Path| path.to_str().map(str::to_owned).ok_or("the temporary folder has a strange name");
    let settings: Vec<(String, String)> = [
        ("CUPONERA_DATA_DIR", text(&folder.path().join("data"))?),
        ("CUPONERA_HTTP_ADDR", address.clone()),
        ("CUPONERA_ADMIN_EMAIL", EMAIL.to_owned()),
        ("CUPONERA_ADMIN_PASSWORD", PASSWORD.to_owned()),
        ("CUPONERA_LOG_FORMAT", "json".to_owned()),
        ("CUPONERA_RATE_LIMIT_USER", NO_LIMIT.to_owned()),
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
    Ok(Installation { programs: vec![up], apis, fleet: None, folder })
}

/// Ends the Postgres that a killed `up` leaves behind, before its folder goes.
pub(super) async fn stop_postgres(data_dir: &Path) -> Result<()> {
    let Ok(file) = std::fs::read_to_string(data_dir.join("postgres/postmaster.pid")) else { return Ok(()) };
    let pid = file.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or("Postgres does not say which process it is")?;
    if !is_postgres(pid) {
        return Ok(());
    }
    kill_process(pid, Signal::QUIT)?;
    let gone = async {
        while is_postgres(pid) {
            tokio::time::sleep(POLL).await;
        }
    };
    Ok(tokio::time::timeout(POSTGRES_END, gone).await?)
}

/// Whether this process is a private Postgres: numbers are given again.
fn is_postgres(pid: Pid) -> bool {
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command_line).contains("cluster_name=cuponera-")
}
