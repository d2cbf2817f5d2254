//! `cuponera archive`: moves the coupon events of old months to files, also while the installation runs.
//!
//! It changes the database and the file store directly. Each step is recorded or can be repeated, so the next run continues an interrupted one.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use cuponera_domain::audit::{AuditKey, Month};
use cuponera_domain::principal::AuditContext;
use cuponera_platform::config::Settings;
use cuponera_platform::files::Files;
use cuponera_platform::lifecycle;
use cuponera_store::{DetachRound, Pools, RecordedArchive, ScannedMonth, Store};
use serde_json::{Value, json};

use crate::admin::error_text;
use crate::client::ClientError;
use crate::client::print::{note, print};
use crate::database::Database;
use crate::up::LAST_WORDS;
use crate::{audit, secrets};

/// Connections for transactions, with a timeout for statements that read or change a month.
const POOLS: Pools = Pools { rest: 3, rest_statement: Duration::from_mins(10), ..Pools::MIN };
/// Pause between attempts to lock the log. Calls wait 50 ms at most during an attempt.
const PAUSE: Duration = Duration::from_secs(1);
/// Minimum time between two lines about the progress.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) const HELP: &str = "\
Examples:
  cuponera archive --before 2027-01 --dry-run
  cuponera archive --before 2027-01 --yes
  cuponera archive --before 2027-01 --yes --json

It moves the events of codes, of all businesses, of each month before the named one (UTC) to a file of the file store, the oldest month first:
a file of JSON lines, archive/coupon_event_YYYY_MM-….jsonl in the folder or the bucket of CUPONERA_FILES_URL. Each line is the sealed form of an
event, in which user, actor, address and user agent are digests. Then the partition of the month is dropped. The current month and the month
before it are not archived.

Histories, lists, exports and streams of events do not have archived events any more. Codes, redemptions and statistics keep their values.
`cuponera audit verify` compares the files with the seals, and without a file verifies that exactly the recorded events were archived. Keep a
copy of the files: nothing else has these events. It cannot be undone.

A month is archived if all its events are sealed and as they were sealed, and nothing needs them any more: webhooks, exports, distributions
that can be taken back. Otherwise the command names the reason. Calls and jobs continue. If it is interrupted, run it again.

Exit status:
  0    all months before the named one are archived
  1    an error, or a month cannot be archived yet
  2    a usage error";

/// What is archived.
#[derive(Debug, Args)]
// The subcommand has a group of this name.
#[group(skip)]
pub(crate) struct Archive {
    /// Archive the months before this one, for example 2027-01; it may be the previous month at the latest
    #[arg(long, value_name = "YYYY-MM")]
    before: Month,
    /// Archive: it cannot be undone
    #[arg(long, required_unless_present = "dry_run")]
    yes: bool,
    /// Show the months with their numbers of events, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Archives the months, prints the result, and returns the exit status.
pub(crate) fn run(settings: Settings, what: Archive) -> Result<ExitCode, String> {
    let checked = settings.check();
    let text = lifecycle::run(settings, checked, |settings| async move {
        lifecycle::unless_stopped(LAST_WORDS, Box::pin(archive(&settings, &what))).await
    })?;
    Ok(print(&text).map_or_else(ClientError::report, |()| ExitCode::SUCCESS))
}

async fn archive(settings: &Settings, what: &Archive) -> Result<String, String> {
    if settings.database_url.is_none() {
        secrets::open_data_folder(&settings.data_dir)?;
    }
    let database = Database::open_or_join(settings).await?;
    let store = database.connect_with_schema(POOLS).await?.acting_as(AuditContext::of_program("cli"));
    let done = Box::pin(archive_in(&store, settings, what)).await;
    store.close().await;
    let closed = database.close().await;
    done.and_then(|text| closed.map(|()| text))
}

async fn archive_in(store: &Store, settings: &Settings, what: &Archive) -> Result<String, String> {
    let latest = store.current_month().await.map_err(error_text)?.previous();
    if what.before > latest {
        return Err(format!(
            "--before: the current month and the month before it are not archived: {latest} is the latest"
        ));
    }
    if what.dry_run {
        return preview(store, what).await;
    }
    let key = audit::key(settings)?;
    let has_key = store.has_key_of_seals(key.as_ref()).await.map_err(error_text)?;
    let Some(key) = key.filter(|_| has_key) else {
        return Err("the key of the seals is missing, or is another one: set CUPONERA_AUDIT_KEY".to_owned());
    };
    let files = lifecycle::open_files(settings).await?;
    // Before the first change: its admin event needs a position after those of a restored database.
    store.begin_epoch_if_restored().await.map_err(error_text)?;
    let Some(lock) = store.lock_archives().await.map_err(error_text)? else {
        return Err(
            "another archive, an erasure, or a verification of the audit chain is running: try again later"
                .to_owned(),
        );
    };
    let mut work = Work { store, files: &files, key: &key, last_note: Instant::now(), archived: Vec::new() };
    let done = work.archive_before(what.before).await;
    lock.release().await.map_err(error_text)?;
    let archived = work.archived;
    match done {
        Ok(()) => Ok(if what.json { json_of(&archived) } else { words_of(&archived) }),
        Err(fault) if archived.is_empty() => Err(fault),
        Err(fault) => {
            let months: Vec<String> = archived.iter().map(|archive| archive.month.to_string()).collect();
            Err(format!("{fault}\narchived before that: {}", months.join(" ")))
        }
    }
}

/// The months before the named one that are in the log.
async fn months_before(store: &Store, before: Month) -> Result<Vec<Month>, String> {
    let months = store.event_months().await.map_err(error_text)?;
    Ok(months.into_iter().filter(|month| *month < before).collect())
}

struct Work<'a> {
    store: &'a Store,
    files: &'a Files,
    key: &'a AuditKey,
    last_note: Instant,
    archived: Vec<RecordedArchive>,
}

impl Work<'_> {
    async fn archive_before(&mut self, before: Month) -> Result<(), String> {
        while let Some(open) = self.store.find_open_archive().await.map_err(error_text)? {
            note(&format!("continuing the archive of {}, which was interrupted", open.month));
            self.finish(open).await?;
        }
        for month in months_before(self.store, before).await? {
            if let Some(obstacle) = self.store.archive_obstacle(month).await.map_err(error_text)? {
                return Err(format!("{month} cannot be archived yet: {obstacle}"));
            }
            note(&format!("{month}: comparing the events with their seals"));
            let scanned = self
                .store
                .scan_month(month, self.key, async |_| Ok(()))
                .await
                .map_err(|error| error.chain())?;
            let Some(scanned) = scanned else {
                self.drop_empty(month).await?;
                continue;
            };
            self.write(&scanned).await?;
            self.store.record_archive(&scanned, self.key).await.map_err(error_text)?;
            while let Some(recorded) = self.store.find_open_archive().await.map_err(error_text)? {
                self.finish(recorded).await?;
            }
        }
        Ok(())
    }

    async fn drop_empty(&mut self, month: Month) -> Result<(), String> {
        note(&format!("{month}: no events"));
        while !self.store.drop_empty_month(month).await.map_err(error_text)? {
            self.wait("the log is in use").await;
        }
        Ok(())
    }

    /// Writes the file of a month, if it does not exist. Reads the month again: the first reading gave its name.
    async fn write(&self, scanned: &ScannedMonth) -> Result<(), String> {
        let (month, name) = (scanned.month, scanned.file_name());
        let bytes = u64::try_from(scanned.bytes).unwrap_or(0);
        if self.files.length(&name).await.map_err(error_text)? == Some(bytes) {
            return Ok(());
        }
        note(&format!("{month}: writing {} events ({bytes} bytes) to {name}", scanned.events));
        let mut writer = self.files.begin(&name).await.map_err(error_text)?;
        let written = self.store.scan_month(month, self.key, async |piece| writer.write(piece).await).await;
        match written {
            Ok(Some(again)) if again == *scanned => writer.finish().await.map_err(error_text),
            Ok(_) => {
                writer.abort().await;
                Err(format!("the events of {month} were changed meanwhile: run the command again"))
            }
            Err(error) => {
                writer.abort().await;
                Err(error.chain())
            }
        }
    }

    /// Takes the events of a recorded archive out of the log, and completes the archive.
    async fn finish(&mut self, archive: RecordedArchive) -> Result<(), String> {
        let month = archive.month;
        let mut is_detached = archive.is_detached;
        while !is_detached {
            self.store.seal_archive(self.key).await.map_err(error_text)?;
            match self.store.detach_month(month).await.map_err(error_text)? {
                DetachRound::Detached => is_detached = true,
                DetachRound::Unsealed => {
                    self.wait("an open transaction delays the seal of the archive").await;
                }
                DetachRound::Locked => self.wait("the log is in use").await,
                DetachRound::Exporting => {
                    return Err(format!(
                        "an export of events may read {month}: wait until it has ended, and run the command again"
                    ));
                }
            }
        }
        while !self.store.complete_archive(month).await.map_err(error_text)? {
            self.wait("the partition is in use").await;
        }
        self.archived.push(archive);
        Ok(())
    }

    async fn wait(&mut self, reason: &str) {
        if self.last_note.elapsed() >= NOTE_INTERVAL {
            self.last_note = Instant::now();
            note(&format!("waiting: {reason}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn preview(store: &Store, what: &Archive) -> Result<String, String> {
    let mut months = Vec::new();
    for month in months_before(store, what.before).await? {
        let events = store.count_events_of(month).await.map_err(error_text)?;
        let obstacle = store.archive_obstacle(month).await.map_err(error_text)?;
        months.push((month, events, obstacle.map(|obstacle| obstacle.to_string())));
    }
    if what.json {
        let months: Vec<Value> = months
            .iter()
            .map(|(month, events, obstacle)| json!({"month": month.to_string(), "events": events, "obstacle": obstacle}))
            .collect();
        return Ok(json!({"months": months}).to_string());
    }
    let mut text = String::new();
    for (month, events, obstacle) in &months {
        let obstacle = obstacle.as_ref().map(|obstacle| format!(": {obstacle}")).unwrap_or_default();
        let _ = writeln!(text, "  {month}  {events} events{obstacle}");
    }
    if months.is_empty() {
        text.push_str("there is no month to archive\n");
    }
    Ok(text)
}

fn words_of(archived: &[RecordedArchive]) -> String {
    let mut text = String::new();
    for RecordedArchive { month, file, events, bytes, .. } in archived {
        let _ = writeln!(text, "  {month}  {events} events, {bytes} bytes: {file}");
    }
    if archived.is_empty() {
        text.push_str("there was no month to archive\n");
    }
    text
}

fn json_of(archived: &[RecordedArchive]) -> String {
    let months: Vec<Value> = archived
        .iter()
        .map(|RecordedArchive { month, file, events, bytes, .. }| {
            json!({"month": month.to_string(), "file": file, "events": events, "bytes": bytes})
        })
        .collect();
    json!({"archived": months}).to_string()
}
