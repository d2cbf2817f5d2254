//! `cuponera-storm`: runs seeds, or checks whether a bug is caught.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use cuponera_storm::bugs::{self, BUGS, Bug};
use cuponera_storm::faults::{FAULTS, Fault};
use cuponera_storm::{Plan, Report, Result, Size, shrink, storm};
use tokio::signal::unix::{SignalKind, signal};

/// Number of seeds in which a bug must be caught.
const SEEDS_OF_A_BUG: u64 = 8;

/// Randomized fault injection against the real programs, in both deployment sizes.
///
/// Settings can be make variables: `make storm SEED=5 CLIENTS=20 FAULTS=kill,freeze SIZE=fleet`.
#[derive(Debug, Parser)]
#[command(name = "cuponera-storm")]
struct Arguments {
    /// A seed, or a range of seeds such as 1-100.
    #[arg(long, env = "SEED", value_parser = seeds)]
    seed: Option<Seeds>,
    /// Removes one guard from a fleet's statements and runs seeds until one notices; 1-8 if no seed is
    /// given. Exit code 0 if the bug is caught.
    #[arg(long, env = "BUG", value_parser = bug)]
    bug: Option<&'static Bug>,
    /// Checks all bugs, one after the other.
    #[arg(long, conflicts_with = "bug")]
    all_bugs: bool,
    /// Number of clients of each installation.
    #[arg(long, env = "CLIENTS", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    clients: u16,
    /// Uses these faults only, separated by commas; `none` for no fault.
    #[arg(long, env = "FAULTS", value_parser = faults)]
    faults: Option<Faults>,
    /// Tests one deployment size only: `one` or `fleet`.
    #[arg(long, env = "SIZE", value_parser = size, conflicts_with_all = ["bug", "all_bugs"])]
    size: Option<Size>,
    /// Reduces a failing run while it still fails. Any value except an empty one enables it.
    #[arg(long, env = "SHRINK", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    shrink: Option<String>,
    /// A folder with `cuponera-api` and `cuponera-worker` of another version, which half of a fleet runs.
    #[arg(long, env = "PREVIOUS", conflicts_with = "size")]
    previous: Option<PathBuf>,
    /// The folder of the programs.
    #[arg(long, default_value = "target/debug")]
    programs: PathBuf,
}

#[derive(Debug, Clone, Copy)]
struct Seeds {
    first: u64,
    last: u64,
}

#[derive(Debug, Clone)]
struct Faults(Vec<&'static Fault>);

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Dropping the future of the run stops its programs.
    let done = tokio::select! {
        done = run(&arguments) => done,
        () = stop_requested() => Err("interrupted".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cuponera-storm: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn stop_requested() {
    let terminate = signal(SignalKind::terminate());
    match terminate {
        Ok(mut terminate) => tokio::select! { _ = terminate.recv() => {}, _ = tokio::signal::ctrl_c() => {} },
        Err(_) => std::future::pending().await,
    }
}

/// Returns whether no seed has a violation, or all bugs are caught.
async fn run(arguments: &Arguments) -> Result<bool> {
    let bugs: Vec<&'static Bug> =
        if arguments.all_bugs { BUGS.iter().collect() } else { arguments.bug.into_iter().collect() };
    if bugs.is_empty() {
        return run_seeds(arguments).await;
    }
    let mut all_caught = true;
    for bug in bugs {
        all_caught &= run_until_caught(bug, arguments).await?;
    }
    Ok(all_caught)
}

async fn run_seeds(arguments: &Arguments) -> Result<bool> {
    let Seeds { first, last } = arguments.seed.unwrap_or(Seeds { first: 1, last: 1 });
    let mut failed = Vec::new();
    for seed in first..=last {
        let plan = arguments.plan(seed, None);
        let report = match storm(&plan, &arguments.programs).await {
            Ok(report) => report,
            Err(error) => {
                println!("seed {seed}: could not be run: {error}");
                failed.push(seed);
                continue;
            }
        };
        println!("{report}");
        if report.caught_by().is_some() {
            failed.push(seed);
            keep_logs(&report)?;
            println!("again:  {}", shrink::command(&plan));
            println!("smaller: {} SHRINK=1", shrink::command(&plan));
            if arguments.shrink.is_some() {
                let smallest = shrink::shrink(&plan, &arguments.programs, |step| println!("{step}")).await?;
                println!("smallest: {}", shrink::command(&smallest));
            }
        }
    }
    if first < last {
        println!("{} seeds, {} failed: {failed:?}", last - first + 1, failed.len());
    }
    Ok(failed.is_empty())
}

/// Runs seeds until one catches the bug.
async fn run_until_caught(bug: &'static Bug, arguments: &Arguments) -> Result<bool> {
    let Seeds { first, last } = arguments.seed.unwrap_or(Seeds { first: 1, last: SEEDS_OF_A_BUG });
    let files: BTreeSet<&str> = bug.files().collect();
    println!("bug {}: {} ({})", bug.name, bug.does, names(files.into_iter()));
    for seed in first..=last {
        let report = storm(&arguments.plan(seed, Some(bug)), &arguments.programs).await?;
        println!("{report}");
        if report.edited_statements() == 0 {
            return Err(format!("no sent statement contains the guard of {}", bug.name).into());
        }
        if let Some(oracle) = report.caught_by() {
            println!("caught {}: {oracle}", bug.name);
            return Ok(true);
        }
    }
    println!("missed {}", bug.name);
    Ok(false)
}

/// Copies the programs' logs to a folder that is kept after the run.
fn keep_logs(report: &Report) -> Result<()> {
    let folder = Path::new("target/storm").join(report.seed.to_string());
    std::fs::create_dir_all(&folder)?;
    for (name, log) in report.logs() {
        std::fs::write(folder.join(format!("{name}.log")), log)?;
    }
    println!("logs:   {}", folder.display());
    Ok(())
}

impl Arguments {
    fn plan(&self, seed: u64, bug: Option<&'static Bug>) -> Plan {
        let mut plan = Plan { clients: self.clients.into(), bug, ..Plan::of_seed(seed) };
        plan.faults = self.faults.clone().map(|Faults(faults)| faults);
        plan.previous.clone_from(&self.previous);
        if bug.is_some() || self.previous.is_some() {
            plan.sizes = vec![Size::Fleet];
        } else if let Some(size) = self.size {
            plan.sizes = vec![size];
        }
        plan
    }
}

fn seeds(text: &str) -> Result<Seeds, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let seed =
        |text: &str| text.parse::<u64>().map_err(|_| "must be a number or a range such as 1-100".to_owned());
    let (first, last) = (seed(first)?, seed(last)?);
    if first <= last { Ok(Seeds { first, last }) } else { Err("the first seed is after the last".to_owned()) }
}

fn bug(name: &str) -> Result<&'static Bug, String> {
    bugs::find(name)
        .ok_or_else(|| format!("unknown bug; the bugs are {}", names(BUGS.iter().map(|bug| bug.name))))
}

fn faults(text: &str) -> Result<Faults, String> {
    if text == "none" {
        return Ok(Faults(Vec::new()));
    }
    let find = |name: &str| FAULTS.iter().find(|fault| fault.name == name);
    let found: Result<Vec<_>, String> = text
        .split(',')
        .map(|name| {
            find(name).ok_or_else(|| {
                format!(
                    "unknown fault {name}; the faults are {}",
                    names(FAULTS.iter().map(|fault| fault.name))
                )
            })
        })
        .collect();
    found.map(Faults)
}

fn size(name: &str) -> Result<Size, String> {
    let found = Size::ALL.into_iter().find(|size| size.name() == name);
    found.ok_or_else(|| "must be `one` or `fleet`".to_owned())
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
