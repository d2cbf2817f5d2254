//! Measures the performance figures of the documents. Each figure is a ratio to a yardstick of the same
//! run, on the same database and rows, in alternating rounds: an absolute time depends more on the machine
//! than on the program.

mod context;
mod installation;
mod load;
mod page;
mod report;
mod row;
mod rows;
mod yardstick;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;

use context::{Context, Sizes};
use installation::{Installation, Programs};
use report::Figure;
use row::Row;
use rows::ROWS;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures new installations of the programs. Fails if a row is below its floor.
#[derive(Debug, Parser)]
#[command(name = "cuponera-bench")]
struct Bench {
    /// The folder of the programs to measure.
    #[arg(long, default_value = "target/release")]
    programs: PathBuf,
    /// Smaller sizes, for a quick check.
    #[arg(long)]
    quick: bool,
    /// Number of rounds of each row: by default 3, or 2 with --quick.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: Option<u8>,
    /// File for the figures as JSON. The HTML page with charts is written to the same folder.
    #[arg(long, default_value = "target/bench/latest.json")]
    out: PathBuf,
    /// Rows to measure; all if none is named.
    rows: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Bench::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cuponera-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures the rows; returns whether all reach their floors.
async fn run(bench: &Bench) -> Result<bool> {
    let rows = chosen(&bench.rows)?;
    let installation = Installation::start(&bench.programs, Programs::One).await?;
    let sizes = if bench.quick { Sizes::QUICK } else { Sizes::FULL };
    let rounds = usize::from(bench.rounds.unwrap_or(if bench.quick { 2 } else { 3 }));
    let context = Context { installation, programs: bench.programs.clone(), sizes, rounds };
    let measured = measure(&context, &rows).await;
    context.installation.stop().await?;
    let figures = measured?;
    write(bench, &figures)?;
    println!("{}", report::HEAD);
    for figure in &figures {
        println!("{}", figure.line(!bench.quick));
    }
    Ok(figures.iter().all(|figure| figure.is_ok(!bench.quick) || figure.is_not_yet))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Row>> {
    if let Some(unknown) = names.iter().find(|name| ROWS.iter().all(|row| row.name != **name)) {
        let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        return Err(format!("unknown row {unknown}; the rows are {}", known.join(", ")).into());
    }
    Ok(ROWS.iter().filter(|row| names.is_empty() || names.iter().any(|name| name == row.name)).collect())
}

async fn measure(context: &Context, rows: &[&Row]) -> Result<Vec<Figure>> {
    let committed = report::committed(report::COMMITTED)?;
    let mut figures = Vec::new();
    for row in rows {
        eprintln!("{} …", row.name);
        let limits = report::committed_of(&committed, row)?;
        let rounds = (row.measure)(context).await.map_err(|error| format!("{}: {error}", row.name))?;
        figures.push(Figure::of(row, limits, rounds));
    }
    Ok(figures)
}

/// Writes the JSON and the page.
fn write(bench: &Bench, figures: &[Figure]) -> Result<()> {
    if let Some(folder) = bench.out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let json: Vec<Value> = figures.iter().map(|figure| figure.json(!bench.quick)).collect();
    std::fs::write(&bench.out, serde_json::to_string_pretty(&json)?)?;
    let size = if bench.quick { "quick sizes, compared with the floors only" } else { "full sizes" };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let about = format!("Version {}, {size}, {cores} cores.", env!("CARGO_PKG_VERSION"));
    std::fs::write(bench.out.with_extension("html"), page::page(figures, !bench.quick, &about))?;
    Ok(())
}
