//! Bounds without a yardstick: peak memory of the worker and of the API, and start time.

use std::io::{BufWriter, Write};
use std::process::Stdio;
use std::time::Instant;

use tokio::process::Command;

use crate::Result;
use crate::context::Context;
use crate::installation::{Installation, Programs, free_address, wait_until_up};
use crate::row::{Round, Row, Unit};

pub(crate) const MEMORY_WORKER: Row = Row {
    name: "memory_worker",
    unit: Unit::Mebibytes,
    ours: "cuponera-worker on a job of 10,000,000 codes (quick: 1,000,000), peak resident memory",
    yardstick: "",
    floor: 256.0,
    aim: 128.0,
    measure: |context| Box::pin(measure_worker(context)),
};

pub(crate) const MEMORY_UPLOAD: Row = Row {
    name: "memory_upload",
    unit: Unit::Mebibytes,
    ours: "cuponera-api on an upload of 1 GiB (quick: 100 MiB), peak resident memory",
    yardstick: "",
    floor: 128.0,
    aim: 64.0,
    measure: |context| Box::pin(measure_upload(context)),
};

pub(crate) const START: Row = Row {
    name: "start",
    unit: Unit::Seconds,
    ours: "cuponera up to ready, with a private Postgres whose cluster exists",
    yardstick: "",
    floor: 5.0,
    aim: 2.0,
    measure: |context| Box::pin(measure_start(context)),
};

async fn measure_worker(context: &Context) -> Result<Vec<Round>> {
    let installation = Installation::start(&context.programs, Programs::Two).await?;
    let book = installation.book().await?;
    installation.forget_peak_memory()?;
    installation.generate(&book, context.sizes.memory_codes).await?;
    let ours = installation.peak_memory_of_worker()?;
    installation.expect_codes(&book, "AVAILABLE", context.sizes.memory_codes).await?;
    installation.stop().await?;
    Ok(vec![Round { ours, yardstick: None }])
}

async fn measure_upload(context: &Context) -> Result<Vec<Round>> {
    let installation = Installation::start(&context.programs, Programs::Two).await?;
    let book = installation.book().await?;
    let (file, rows) = write_upload(&installation, context.sizes.memory_upload_bytes)?;
    installation.forget_peak_memory()?;
    let job = installation.upload(&book, &file).await?;
    let ours = installation.peak_memory_of_api()?;
    if job["progress"]["total"].as_u64() != Some(rows) {
        return Err(format!("the upload had {rows} rows, but its job has another number: {job}").into());
    }
    installation.stop().await?;
    Ok(vec![Round { ours, yardstick: None }])
}

/// Writes a file of codes; returns its path and the number of codes.
fn write_upload(installation: &Installation, bytes: u64) -> Result<(std::path::PathBuf, u64)> {
    const ROW_BYTES: u64 = 32;
    let path = installation.file("large.csv");
    let mut file = BufWriter::new(std::fs::File::create(&path)?);
    writeln!(file, "code,note")?;
    let rows = bytes / ROW_BYTES;
    for row in 0..rows {
        writeln!(file, "LARGE-{row:012},a note here")?;
    }
    file.flush()?;
    Ok((path, rows))
}

async fn measure_start(context: &Context) -> Result<Vec<Round>> {
    let folder = context.installation.file("start");
    let client = reqwest::Client::new();
    let mut rounds = Vec::new();
    // The first start creates the cluster and is not counted.
    for _ in 0..=context.rounds {
        let address = free_address()?;
        let mut up = Command::new(context.programs.join("cuponera"));
        up.arg("up")
            .arg("--data-dir")
            .arg(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        up.env("CUPONERA_HTTP_ADDR", &address).env_remove("CUPONERA_DATABASE_URL");
        let begun = Instant::now();
        let mut program = up.spawn()?;
        wait_until_up(&client, &address).await?;
        rounds.push(Round { ours: begun.elapsed().as_secs_f64(), yardstick: None });
        let stopped = Command::new("kill")
            .arg(program.id().ok_or("the program has ended")?.to_string())
            .status()
            .await?;
        if !stopped.success() || !program.wait().await?.success() {
            return Err("cuponera up did not stop properly".into());
        }
    }
    Ok(rounds.split_off(1))
}
