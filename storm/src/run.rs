//! A run: start, storm, wait until all work is done, repeat requests, check.

use std::path::Path;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use sqlx::query_scalar;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clients::{self, ApiClient};
use crate::evidence::Evidence;
use crate::followers::Followers;
use crate::history::Entry;
use crate::installation::{Installation, wait_until_ready};
use crate::oracles::ORACLES;
use crate::plan::{Plan, STORM, Strike};
use crate::receivers::Receivers;
use crate::report::{Finding, Report, SizeReport};
use crate::size::Size;
use crate::world::World;
use crate::{Error, Result};

/// Maximum time for all jobs to end after the faults: the rescue of a lost message, on a machine that runs several storms at once.
const REST: Duration = Duration::from_secs(20);
/// The same for jobs created by repeated requests.
const LATE_REST: Duration = Duration::from_secs(5);
/// Time for a fault to recover.
const RECOVERY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// Timeout of a repeated request, and the maximum number of attempts.
const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_REPETITIONS: usize = 20;
/// Number of answered requests to repeat.
const REPEATED: usize = 200;
/// Number of clients that repeat requests.
const REPEATERS: usize = 16;

/// Runs the plan with the programs of a folder, on all sizes in parallel.
pub async fn storm(plan: &Plan, programs: &Path) -> Result<Report> {
    let begun = Instant::now();
    // Absolute, because the programs run in other folders.
    let programs = &programs
        .canonicalize()
        .map_err(|error| format!("the programs are not in {}: {error}", programs.display()))?;
    let plan = &Plan {
        previous: plan.previous.as_ref().map(|folder| folder.canonicalize()).transpose()?,
        ..plan.clone()
    };
    let sizes = try_join_all(plan.sizes.iter().map(|size| storm_one(plan, *size, programs))).await?;
    Ok(Report { seed: plan.seed, sizes, took: begun.elapsed() })
}

async fn storm_one(plan: &Plan, size: Size, programs: &Path) -> Result<SizeReport> {
    let started = Instant::now();
    let installation = Installation::start(size, programs, plan).await?;
    let done = storm_installation(plan, size, &installation, started).await;
    installation.stop().await?;
    done
}

async fn storm_installation(
    plan: &Plan,
    size: Size,
    installation: &Installation,
    started: Instant,
) -> Result<SizeReport> {
    let mut phases = Vec::new();
    let mut ended = |phase| phases.push((phase, started.elapsed()));
    let receivers = Receivers::start().await;
    let world = World::make(&installation.apis, &receivers.urls()).await?;
    let api_client = ApiClient::to(&installation.apis, &world)?;
    let strikes = plan.strikes(size);
    let followers = Followers::start(&installation.apis, &world)?;
    ended("start");
    let begun = Instant::now();
    let mut random = plan.random(size, 1);
    let load = clients::run(&api_client, plan.clients, &mut random, begun + STORM);
    let (mut history, recoveries) = tokio::join!(load, strike(installation, &strikes, begun));
    ended("storm");
    let unrecovered: Vec<String> =
        recoveries.into_iter().filter_map(|done| done.err().map(|error| error.to_string())).collect();
    let rest_ends = Instant::now() + REST;
    if let Err(error) = rest(installation, rest_ends).await {
        let logs: Vec<String> = installation.logs().map(|(name, log)| format!("{name}:\n{log}")).collect();
        return Err(format!("{error}; {strikes:?}; {unrecovered:?}\n{}", logs.join("\n")).into());
    }
    ended("rest");
    let repeated = repeat(&api_client, &history, &mut random).await;
    history.extend(repeated);
    // A repeated request whose answer was lost may have created a job just now.
    until_no_job_is_open(installation, rest_ends.max(Instant::now() + LATE_REST)).await?;
    ended("repetition");
    let findings =
        check(installation, (&world, &followers, &receivers), &history, (&strikes, &unrecovered)).await?;
    ended("checks");
    let is_violated = findings.iter().any(|finding| !finding.violations.is_empty());
    let logs = installation.logs().filter(|_| is_violated);
    let logs = logs.map(|(name, log)| (format!("{} {name}", size.name()), log)).collect();
    let edited_statements =
        installation.fleet.as_ref().map_or(0, |services| services.postgres_proxy.edited_statements());
    let faults = strikes.iter().map(|strike| (strike.after, strike.fault.name)).collect();
    let operations = SizeReport::operations_of(&history);
    let refusals = SizeReport::refusals_of(&history);
    Ok(SizeReport { size, operations, refusals, faults, findings, phases, edited_statements, logs })
}

/// Injects all faults at their times and waits until all have recovered.
async fn strike(installation: &Installation, strikes: &[Strike], begun: Instant) -> Vec<Result<()>> {
    join_all(strikes.iter().map(|Strike { after, fault, seed }| async move {
        sleep_until(begun + *after).await;
        let struck = (fault.strike)(installation, StdRng::seed_from_u64(*seed));
        let done = timeout(RECOVERY, struck).await;
        let done = done.unwrap_or_else(|_| Err(format!("no recovery within {RECOVERY:?}").into()));
        done.map_err(|error| Error::from(format!("{}: {error}", fault.name)))
    }))
    .await
}

/// Waits until all APIs are ready and no job is open.
async fn rest(installation: &Installation, end: Instant) -> Result<()> {
    restart_ended_programs(installation).await?;
    wait_until_ready(&installation.apis).await?;
    until_no_job_is_open(installation, end).await
}

/// Waits until no job is open, at most until `end`. The oracle reports jobs that are still open.
async fn until_no_job_is_open(installation: &Installation, end: Instant) -> Result<()> {
    let mut database = installation.connect().await?;
    let open = "select count(*) from job where status in ('QUEUED', 'RUNNING')";
    while Instant::now() < end {
        let open: i64 = query_scalar(open).fetch_one(&mut database).await?;
        if open == 0 {
            break;
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// Restarts programs that ended by themselves, as a supervisor would: a start may fail while the database
/// is unavailable. All services are available now, so one restart is enough.
async fn restart_ended_programs(installation: &Installation) -> Result<()> {
    for program in &installation.programs {
        let mut program = program.exclusive().await;
        if program.pid().is_err() {
            program.restart()?;
        }
    }
    Ok(())
}

/// Repeats requests under their keys: all unanswered ones until they are answered, and a sample of the
/// answered ones.
async fn repeat(api_client: &ApiClient<'_>, history: &[Entry], random: &mut StdRng) -> Vec<Entry> {
    let with_key: Vec<&Entry> = history.iter().filter(|entry| entry.ask.key.is_some()).collect();
    let last_of_each = with_key
        .iter()
        .enumerate()
        .filter(|(place, entry)| with_key.get(place + 1).is_none_or(|next| next.ask.key != entry.ask.key));
    let (answered, open): (Vec<&Entry>, Vec<&Entry>) =
        last_of_each.map(|(_, entry)| *entry).partition(|entry| entry.verdict().is_some());
    let chosen: Vec<&Entry> = answered.sample(random, REPEATED).copied().chain(open).collect();
    let repeaters = (0..REPEATERS).map(|repeater| {
        let own = chosen.iter().skip(repeater).step_by(REPEATERS);
        async move {
            let mut entries = Vec::new();
            for entry in own {
                for _ in 0..MAX_REPETITIONS {
                    let again = api_client.ask(entry.operation, &entry.ask, TIMEOUT).await;
                    let is_done = again.verdict().is_some();
                    entries.push(again);
                    if is_done {
                        break;
                    }
                    sleep(POLL).await;
                }
            }
            entries
        }
    });
    join_all(repeaters).await.concat()
}

async fn check(
    installation: &Installation,
    world: (&World, &Followers, &Receivers),
    history: &[Entry],
    faults: (&[Strike], &[String]),
) -> Result<Vec<Finding>> {
    let mut database = installation.connect().await?;
    let evidence = Evidence::read(installation, world, history, faults, &mut database).await?;
    let mut findings = Vec::new();
    for oracle in ORACLES {
        let verdict = (oracle.check)(&evidence, &mut database).await?;
        findings.push(Finding {
            oracle: oracle.name,
            checks: verdict.checks,
            violations: verdict.violations,
        });
    }
    Ok(findings)
}
