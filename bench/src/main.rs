//! Measures what the documents claim. Each figure is a ratio to a yardstick taken in the same run, on the same database
//! and rows, in alternating rounds: a lone time says more of the machine than of the program.

mod assignment;
mod generation;
mod installation;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use installation::Installation;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures a fresh installation of the program.
#[derive(Debug, Parser)]
#[command(name = "cuponera-bench")]
struct Bench {
    /// The program to measure.
    #[arg(long, default_value = "target/release/cuponera")]
    program: PathBuf,
    /// How many codes are made and copied.
    #[arg(long, default_value_t = 1_000_000)]
    codes: u64,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Bench::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cuponera-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(bench: &Bench) -> Result<()> {
    let installation = Installation::start(&bench.program).await?;
    let measured = measure(bench, &installation).await;
    installation.stop().await?;
    println!("{}", serde_json::to_string_pretty(&measured?)?);
    Ok(())
}

async fn measure(bench: &Bench, installation: &Installation) -> Result<serde_json::Value> {
    let generation = generation::measure(installation, bench.codes, bench.rounds).await?;
    let assignment = assignment::measure(installation, bench.codes, bench.rounds).await?;
    Ok(serde_json::json!({ "codes": bench.codes, "generation": generation, "assignment": assignment }))
}

/// The middle one of some figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
