//! `cuponera archive`: moves the coupon events of old months to files, also while the installation runs.
//!
//! It changes the database and the file store directly. Each step is recorded or can be repeated, so the next run continues an interrupted one.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use cuponera_domain::audit::{AuditKey, FileDigest, Hash, Month};
use cuponera_domain::principal::AuditContext;
use cuponera_platform::config::Settings;
use cuponera_platform::files::Files;
use cuponera_platform::lifecycle;
use cuponera_store::{ArchiveLock, DetachRound, Pools, RecordedArchive, ScannedMonth, Store};
use futures::TryStreamExt;
use serde_json::{Value, json};

use crate::admin::error_text;
use crate::client::ClientError;
use crate::client::plain;
use crate::client::print::{note, print};
use crate::database::Database;
use crate::up::LAST_WORDS;
use crate::{audit, secrets};

/// Connections for transactions, with a timeout for statements that read or change a month.
const POOLS: Pools = Pools { rest: 3, rest_statement: Duration::from_mins(10), ..Pools::MIN };
/// The first pause between attempts to lock the log; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(32);

pub(crate) const HELP: &str = "\
Examples:
  cuponera archive --before 2027-01 --dry-run
  cuponera archive --before 2027-01 --yes
  cuponera archive --before 2027-01 --yes --json
  cuponera archive --abandon

It moves the events of codes, of all businesses, of each month before the named one (UTC) to a file of the file store, the oldest month first:
a file of JSON lines, archive/coupon_event_YYYY_MM-….jsonl in the folder or the bucket of CUPONERA_FILES_URL. Each line is the sealed form of an
event, in which user, actor, address and user agent are digests: nobody can tell any more of which user an archived event is. Then the
partition of the month is dropped. The current month and the month before it are not archived.

Histories, lists, exports and streams of events do not have archived events any more. Codes, redemptions and statistics keep their values.
`cuponera audit verify` compares the files with the seals. Keep a copy of the files: nothing else has these events. It cannot be undone.

A month is archived if all its events are sealed and as they were sealed, and nothing needs them any more: webhooks, exports, distributions
that can be taken back. Otherwise the command names the reason. The file is read again and compared before the events leave the database.
Calls and jobs continue. If it is interrupted, run it again; --abandon gives up an interrupted month whose events are still in the
database, for example if the key or the file store is lost.

Exit status:
  0    all months before the named one are archived
  1    an error, or a month cannot be archived yet
  2    a usage error";

/// What is archived.
#[derive(Debug, Args)]
// The subcommand has a group of this name.
#[group(skip)]
#[expect(clippy::struct_excessive_bools, reason = "each flag of the command line is a field")]
pub(crate) struct Archive {
    /// Archive the months before this one, for example 2027-01; it may be the previous month at the latest
    #[arg(long, value_name = "YYYY-MM", required_unless_present = "abandon")]
    before: Option<Month>,
    /// Archive: it cannot be undone
    #[arg(long, required_unless_present_any = ["dry_run", "abandon"])]
    yes: bool,
    /// Show the months with their numbers of events, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Give up an interrupted archive whose events are still in the database
    #[arg(long, conflicts_with_all = ["before", "yes", "dry_run", "json"])]
    abandon: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Archives the months, prints the result, and returns the exit status.
pub(crate) fn run(settings: Settings, what: Archive) -> Result<ExitCode, String> {
    let checked = settings.check();
    let done = lifecycle::run(settings, checked, |settings| async move {
        lifecycle::unless_stopped(LAST_WORDS, Box::pin(archive(&settings, &what))).await
    })?;
    // Also before an error: what is archived cannot be undone.
    let printed = print(&done.text).map_or_else(ClientError::report, |()| ExitCode::SUCCESS);
    done.fault.map_or(Ok(printed), Err)
}

/// The text for standard output, and why not everything was done.
struct Done {
    text: String,
    fault: Option<String>,
}

impl From<String> for Done {
    fn from(text: String) -> Self {
        Self { text, fault: None }
    }
}

async fn archive(settings: &Settings, what: &Archive) -> Result<Done, String> {
    if settings.database_url.is_none() {
        secrets::open_data_folder(&settings.data_dir)?;
    }
    let database = Database::open_or_join(settings).await?;
    let store = database.connect_with_schema(POOLS).await?.acting_as(AuditContext::of_program("cli"));
    let done = Box::pin(archive_in(&store, settings, what)).await;
    store.close().await;
    let closed = database.close().await;
    done.and_then(|done| closed.map(|()| done))
}

async fn archive_in(store: &Store, settings: &Settings, what: &Archive) -> Result<Done, String> {
    let Some(before) = what.before else { return abandon(store).await.map(Done::from) };
    let latest = store.current_month().await.map_err(error_text)?.previous();
    if before > latest {
        return Err(format!(
            "--before: the current month and the month before it are not archived: {latest} is the latest"
        ));
    }
    let ready = open(store, settings).await;
    if what.dry_run {
        let text = preview(store, before, what.json).await?;
        if let Err(fault) = ready {
            note(&format!("not possible yet: {fault}"));
        }
        return Ok(text.into());
    }
    let (key, files) = ready?;
    // Before the first change: its admin event needs a position after those of a restored database.
    store.begin_epoch_if_restored().await.map_err(error_text)?;
    let lock = lock(store).await?;
    let mut work = Work { store, files: &files, key: &key, lock, archived: Vec::new() };
    let fault = work.archive_before(before).await.err();
    release(work.lock).await;
    let text = if what.json { json_of(&work.archived) } else { words_of(&work.archived) };
    // Without a result there is only the error.
    let text = if fault.is_some() && work.archived.is_empty() { String::new() } else { text };
    Ok(Done { text, fault })
}

/// The key of the seals and the file store. The folder of a program that is not the installation may be deleted with it.
async fn open(store: &Store, settings: &Settings) -> Result<(AuditKey, Files), String> {
    if settings.database_url.is_some() && settings.files_url.is_none() {
        return Err(
            "CUPONERA_FILES_URL is not set: name the folder or the bucket that keeps the only copy of the events"
                .to_owned(),
        );
    }
    let key = audit::key(settings)?;
    let has_key = store.has_key_of_seals(key.as_ref()).await.map_err(error_text)?;
    let Some(key) = key.filter(|_| has_key) else {
        return Err("the key of the seals is missing, or is another one: set CUPONERA_AUDIT_KEY".to_owned());
    };
    Ok((key, lifecycle::open_files(settings).await?))
}

async fn lock(store: &Store) -> Result<ArchiveLock, String> {
    let lock = store.lock_archives().await.map_err(error_text)?;
    let lock = lock.ok_or(
        "another archive, an erasure, or a verification of the audit chain is running: try again later",
    )?;
    if store.has_open_erasures().await.map_err(error_text)? {
        release(lock).await;
        return Err("an erasure was interrupted: run `cuponera forget` again first".to_owned());
    }
    Ok(lock)
}

async fn release(lock: ArchiveLock) {
    if let Err(error) = lock.release().await {
        note(&format!("the connection that held the lock was lost: {}", error.chain()));
    }
}

/// Gives up an interrupted archive.
async fn abandon(store: &Store) -> Result<String, String> {
    store.begin_epoch_if_restored().await.map_err(error_text)?;
    let mut lock = lock(store).await?;
    let abandoned = abandon_open(store, &mut lock).await;
    release(lock).await;
    abandoned
}

async fn abandon_open(store: &Store, lock: &mut ArchiveLock) -> Result<String, String> {
    let Some(open) = store.find_open_archive().await.map_err(error_text)? else {
        return Ok("no archive was interrupted\n".to_owned());
    };
    if open.is_detached {
        return Err(format!(
            "the events of {} have left the log already: run `cuponera archive --before {} --yes` to complete the archive",
            open.month,
            open.month.next()
        ));
    }
    store.abandon_archive(lock, open.month).await.map_err(error_text)?;
    Ok(format!("the archive of {} is given up; {} is not needed any more\n", open.month, open.file))
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
    lock: ArchiveLock,
    archived: Vec<RecordedArchive>,
}

impl Work<'_> {
    async fn archive_before(&mut self, before: Month) -> Result<(), String> {
        while let Some(open) = self.store.find_open_archive().await.map_err(error_text)? {
            if open.month >= before {
                return Err(later_interrupted(open.month));
            }
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
            self.store.record_archive(&mut self.lock, &scanned, self.key).await.map_err(error_text)?;
            while let Some(recorded) = self.store.find_open_archive().await.map_err(error_text)? {
                self.finish(recorded).await?;
            }
        }
        Ok(())
    }

    async fn drop_empty(&mut self, month: Month) -> Result<(), String> {
        note(&format!("{month}: no events"));
        let mut pause = FIRST_PAUSE;
        loop {
            if self.store.find_log_reader(month).await.map_err(error_text)?.is_none()
                && self.store.drop_empty_month(month).await.map_err(error_text)?
            {
                return Ok(());
            }
            self.wait_for_readers(month, &mut pause).await?;
        }
    }

    /// Writes the file of a month, if the file store does not have it. Reads the month again: the first reading gave its name.
    async fn write(&self, scanned: &ScannedMonth) -> Result<(), String> {
        let (month, name, bytes) = (scanned.month, scanned.file_name(), scanned.bytes);
        if self.has_file(&name, bytes, &scanned.sha256).await? {
            return Ok(());
        }
        note(&format!("{month}: writing {} events ({bytes} bytes) to {name}", scanned.events));
        let length = u64::try_from(bytes).unwrap_or(0);
        let mut writer = self.files.begin(&name, length).await.map_err(error_text)?;
        let written = self.store.scan_month(month, self.key, async |piece| writer.write(piece).await).await;
        match written {
            Ok(Some(again)) if again == *scanned => writer.finish().await.map_err(error_text)?,
            Ok(_) => {
                writer.abort().await;
                return Err(format!("the events of {month} were changed meanwhile: run the command again"));
            }
            Err(error) => {
                writer.abort().await;
                return Err(error.chain());
            }
        }
        if self.has_file(&name, bytes, &scanned.sha256).await? {
            return Ok(());
        }
        Err(format!("{name} cannot be read as it was written: check the file store of CUPONERA_FILES_URL"))
    }

    /// Whether the file store has a file with this content. Reads it.
    async fn has_file(&self, name: &str, bytes: i64, sha256: &Hash) -> Result<bool, String> {
        let Some(mut content) = self.files.find(name).await.map_err(error_text)? else { return Ok(false) };
        let mut digest = FileDigest::default();
        while let Some(piece) = content.try_next().await.map_err(error_text)? {
            digest.add(&piece);
        }
        Ok(digest.finish() == (bytes, *sha256))
    }

    /// Takes the events of a recorded archive out of the log, and completes the archive.
    async fn finish(&mut self, archive: RecordedArchive) -> Result<(), String> {
        if !self.has_file(&archive.file, archive.bytes, &archive.sha256).await? {
            self.restore_file(&archive).await?;
        }
        let month = archive.month;
        if !archive.is_detached {
            self.detach(month).await?;
        }
        let mut pause = FIRST_PAUSE;
        while !self.store.complete_archive(&mut self.lock, month).await.map_err(error_text)? {
            self.wait_for_readers(month, &mut pause).await?;
        }
        note(&format!("{month}: archived"));
        self.archived.push(archive);
        Ok(())
    }

    /// Writes the file of a recorded archive again, while the events are in the log.
    async fn restore_file(&self, archive: &RecordedArchive) -> Result<(), String> {
        let RecordedArchive { month, file, .. } = archive;
        if archive.is_detached {
            return Err(format!(
                "{file} is not in the file store as it was recorded, and the events of {month} have left the log: put a copy of the \
                 file there, and run the command again; unless it was dropped, the table {} has its events",
                month.partition()
            ));
        }
        let scanned = self.store.scan_month(*month, self.key, async |_| Ok(())).await;
        match scanned.map_err(|error| error.chain())? {
            Some(scanned) if scanned.sha256 == archive.sha256 => self.write(&scanned).await,
            _ => Err(format!(
                "the events of {month} are not those that were recorded: give the archive up with `cuponera archive --abandon`"
            )),
        }
    }

    async fn detach(&mut self, month: Month) -> Result<(), String> {
        let mut pause = FIRST_PAUSE;
        loop {
            self.store.seal_archive(self.key).await.map_err(error_text)?;
            if self.store.find_log_reader(month).await.map_err(error_text)?.is_some() {
                self.wait_for_readers(month, &mut pause).await?;
                continue;
            }
            match self.store.detach_month(&mut self.lock, month).await.map_err(error_text)? {
                DetachRound::Detached => return Ok(()),
                DetachRound::Unsealed => {
                    wait("an open transaction delays the seal of the archive", &mut pause).await;
                }
                DetachRound::Locked => self.wait_for_readers(month, &mut pause).await?,
                DetachRound::Exporting => {
                    let obstacle = self.store.archive_obstacle(month).await.map_err(error_text)?;
                    let why = obstacle.map_or_else(String::new, |obstacle| format!(": {obstacle}"));
                    return Err(format!(
                        "{month} is recorded and cannot leave the log yet{why}\nno user can be erased until the archive is complete: run the \
                         command again then, or give the archive up with `cuponera archive --abandon`"
                    ));
                }
                DetachRound::Later => {
                    self.store.abandon_archive(&mut self.lock, month).await.map_err(error_text)?;
                    return Err(format!(
                        "events of {month} were added after it was recorded, so the record was given up: run the command again"
                    ));
                }
            }
        }
    }

    async fn wait_for_readers(&self, month: Month, pause: &mut Duration) -> Result<(), String> {
        let reader = self.store.find_log_reader(month).await.map_err(error_text)?;
        let reason = reader.map_or_else(
            || "the log is in use".to_owned(),
            |reader| {
                format!(
                    "process {} ({}) reads the log since {}",
                    reader.pid,
                    plain(&reader.application),
                    reader.since.format("%Y-%m-%d %H:%M:%S UTC")
                )
            },
        );
        wait(&reason, pause).await;
        Ok(())
    }
}

/// Why nothing is done if the archive of a month that is not before the named one was interrupted.
fn later_interrupted(month: Month) -> String {
    format!(
        "the archive of {month} was interrupted: complete it with --before {}, or give it up with `cuponera archive --abandon`",
        month.next()
    )
}

async fn wait(reason: &str, pause: &mut Duration) {
    if *pause > FIRST_PAUSE {
        note(&format!("waiting: {reason}"));
    }
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(LONGEST_PAUSE);
}

async fn preview(store: &Store, before: Month, as_json: bool) -> Result<String, String> {
    let open = store.find_open_archive().await.map_err(error_text)?.map(|open| open.month);
    let mut months = Vec::new();
    for month in months_before(store, before).await?.into_iter().filter(|month| Some(*month) != open) {
        let events = store.count_events_of(month).await.map_err(error_text)?;
        let obstacle = store.archive_obstacle(month).await.map_err(error_text)?;
        months.push((month, events, obstacle.map(|obstacle| obstacle.to_string())));
    }
    if as_json {
        let months: Vec<Value> = months
            .iter()
            .map(|(month, events, obstacle)| json!({"month": month.to_string(), "events": events, "obstacle": obstacle}))
            .collect();
        return Ok(json!({"months": months, "interrupted": open.map(|month| month.to_string())}).to_string());
    }
    let mut text = String::new();
    match open {
        Some(month) if month >= before => {
            let _ = writeln!(text, "{}", later_interrupted(month));
        }
        Some(month) => {
            let _ = writeln!(text, "the archive of {month} was interrupted and is completed first");
        }
        None => {}
    }
    for (month, events, obstacle) in &months {
        let obstacle = obstacle.as_ref().map(|obstacle| format!(": {obstacle}")).unwrap_or_default();
        let _ = writeln!(text, "  {month}  {events} events{obstacle}");
    }
    if months.is_empty() && open.is_none() {
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
