//! Generation, from submit to SUCCEEDED, against `psql \copy` of the same codes into the same table.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::installation::Installation;
use crate::{Result, median};

const COLUMNS: &str = "business_id, book_id, job_id, position, code";
/// The codes in random order at ascending positions: how a file of them comes.
const ROWS: &str = "select business_id, book_id, job_id, row_number() over (order by random()) - 1 as position, code \
                    from coupon order by position";

pub(crate) async fn measure(installation: &Installation, codes: u64, rounds: usize) -> Result<Value> {
    let (mut generated, mut copied, mut ratios, mut peaks) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        empty(installation).await?;
        installation.forget_peak_memory()?;
        let book = installation.book().await?;
        let start = Instant::now();
        installation.generate(&book, codes).await?;
        let generation = start.elapsed().as_secs_f64();
        peaks.push(installation.peak_memory_mib()?);
        let copy = copy_back(installation).await?;
        eprintln!(
            "round {}: generated in {generation:.2} s, copied in {copy:.2} s: ratio {:.2}",
            round + 1,
            copy / generation
        );
        generated.push(generation);
        copied.push(copy);
        ratios.push(copy / generation);
    }
    Ok(json!({
        "what": "generate, from submit to SUCCEEDED",
        "yardstick": "psql \\copy of the same codes into the same table",
        "ratio": median(ratios),
        "seconds": median(generated),
        "yardstickSeconds": median(copied),
        "peakMemoryMib": peaks.iter().max(),
    }))
}

/// Copies the codes out, empties the table, and copies them in again: the seconds of the latter.
async fn copy_back(installation: &Installation) -> Result<f64> {
    let file = installation.file("codes.csv");
    let file = file.to_str().ok_or("the temporary folder has a strange name")?;
    psql(installation, &format!("\\copy ({ROWS}) to '{file}'")).await?;
    empty(installation).await?;
    let start = Instant::now();
    psql(installation, &format!("\\copy coupon ({COLUMNS}) from '{file}'")).await?;
    let seconds = start.elapsed().as_secs_f64();
    std::fs::remove_file(file)?;
    Ok(seconds)
}

/// Empties the table, so that both start from the same, with no checkpoint due.
async fn empty(installation: &Installation) -> Result<()> {
    sqlx::query("truncate coupon").execute(&installation.pool).await?;
    sqlx::query("checkpoint").execute(&installation.pool).await?;
    Ok(())
}

async fn psql(installation: &Installation, command: &str) -> Result<()> {
    let mut psql = Command::new("psql");
    psql.arg(&installation.database_url).args([
        "--no-psqlrc",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "--command",
        command,
    ]);
    let done = psql.status().await.map_err(|error| format!("psql is needed for the yardstick: {error}"))?;
    if done.success() { Ok(()) } else { Err(format!("psql failed: {command}").into()) }
}
