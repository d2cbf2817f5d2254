//! Runs pgbench and psql, the programs of the yardsticks, on the installation's database.

use std::process::Stdio;

use tokio::process::Command;

use crate::Result;
use crate::installation::Installation;

/// Number of pgbench clients.
pub(crate) const CLIENTS: u64 = 32;

/// Runs a statement `count` times from 32 clients, each time with another coupon. In the statement `:n` is
/// the coupon's number, starting at `first`; `:business` and `:book` are its business and book. Returns
/// statements per second.
pub(crate) async fn pgbench(
    installation: &Installation,
    statement: &str,
    book: &str,
    first: u64,
    count: u64,
) -> Result<f64> {
    let per_client = count / CLIENTS;
    let script = installation.file("statement.sql");
    let numbering = format!("\\set n {first} + :client_id * {per_client} + :i\n\\set i :i + 1\n");
    std::fs::write(&script, format!("{numbering}{statement};\n"))?;
    let (clients, transactions) = (CLIENTS.to_string(), per_client.to_string());
    let mut pgbench = Command::new("pgbench");
    pgbench.args(["--no-vacuum", "--protocol=prepared", "--jobs=2", "--define=i=0"]);
    pgbench.args(["--client", &clients, "--transactions", &transactions]);
    pgbench.arg(format!("--define=business={}", installation.business)).arg(format!("--define=book={book}"));
    pgbench.arg("--file").arg(&script).arg(&installation.database_url).stdin(Stdio::null());
    let done =
        pgbench.output().await.map_err(|error| format!("pgbench is needed for the yardstick: {error}"))?;
    let said = String::from_utf8_lossy(&done.stdout);
    let complete = format!("number of transactions actually processed: {0}/{0}", per_client * CLIENTS);
    if !done.status.success() || !said.contains(&complete) {
        return Err(format!("pgbench failed: {said}{}", String::from_utf8_lossy(&done.stderr)).into());
    }
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.ok_or_else(|| format!("pgbench printed no rate: {said}").into())
}

/// Runs a psql command.
pub(crate) async fn psql(installation: &Installation, command: &str) -> Result<()> {
    let mut psql = Command::new("psql");
    psql.arg(&installation.database_url).args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]);
    psql.args(["--command", command]);
    let done = psql.status().await.map_err(|error| format!("psql is needed for the yardstick: {error}"))?;
    if done.success() { Ok(()) } else { Err(format!("psql failed: {command}").into()) }
}
