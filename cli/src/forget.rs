//! `cuponera forget`: erases a user of a business, also while the installation runs.
//!
//! It changes the database and the stored files directly. An interrupted erasure continues with the next run.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use cuponera_domain::audit::AuditKey;
use cuponera_domain::id::{BusinessId, JobId};
use cuponera_domain::principal::{AuditContext, parse_user_id};
use cuponera_platform::config::Settings;
use cuponera_platform::files::{Files, FoundIn};
use cuponera_platform::lifecycle;
use cuponera_store::{
    Business, Erased, Erasure, ErasurePreview, ErasureProgress, ErasureStart, Pools, Store,
};
use serde_json::json;

use crate::admin::{error_text, find_business};
use crate::client::ClientError;
use crate::client::print::{note, print};
use crate::database::Database;
use crate::up::LAST_WORDS;
use crate::{audit, secrets};

/// Connections for transactions, with a timeout for statements that read many rows.
const POOLS: Pools = Pools { rest: 3, rest_statement: Duration::from_mins(10), ..Pools::MIN };
/// Minimum time between two lines about the progress.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) const HELP: &str = "\
Examples:
  cuponera forget --user ana@shop.test --dry-run
  cuponera forget --user ana@shop.test --yes
  cuponera forget --business 'Second shop' --user 4711 --yes --json

A random pseudonym (erased-…) takes the place of the id in coupons, redemptions, quotas, events, pools, jobs, reports, stored answers and
webhook deliveries. The account with its email and its logins is deleted; if it belongs to other businesses, only its membership is.
Stored uploads and exports that contain the id are deleted. The salts of the user's sealed events are deleted, and an admin event
records the erasure: `cuponera audit verify` remains without findings.

Metadata, reasons, references, names and descriptions are not searched. Backups, exported files and logs of programs keep the id. It cannot be
undone. Calls with the id that begin after the erasure concern a new user.

It waits for no job: while imports, distributions, take-backs or exports of the business run, it changes nothing. Calls and other jobs continue.
A user that only rejected rows, reports or files name is unknown: erase such an id with --force.
If it is interrupted, run it again: it continues with the same pseudonym.

Exit status:
  0    the user is erased
  1    an error, or the business has no such user
  2    a usage error";

/// What is erased.
#[derive(Debug, Args)]
// The subcommand has a group of this name.
#[group(skip)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(crate) struct Forget {
    /// The id of the user, as calls name it
    #[arg(long, value_name = "ID")]
    user: String,
    /// The business, by its id or its name; not needed if there is only one
    #[arg(long, value_name = "ID|NAME")]
    business: Option<String>,
    /// Erase: it cannot be undone
    #[arg(long, required_unless_present = "dry_run")]
    yes: bool,
    /// Show what is stored about the user, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Search everything, even if no coupon, account, quota or pool has the id
    #[arg(long, conflicts_with = "dry_run")]
    force: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Erases the user, prints the result, and returns the exit status.
pub(crate) fn run(settings: Settings, what: Forget) -> Result<ExitCode, String> {
    let checked = settings.check();
    let text = lifecycle::run(settings, checked, |settings| async move {
        lifecycle::unless_stopped(LAST_WORDS, Box::pin(forget(&settings, &what))).await
    })?;
    Ok(print(&text).map_or_else(ClientError::report, |()| ExitCode::SUCCESS))
}

async fn forget(settings: &Settings, what: &Forget) -> Result<String, String> {
    let user = parse_user_id(&what.user).map_err(|fault| format!("--user: {fault}"))?;
    if settings.database_url.is_none() {
        secrets::open_data_folder(&settings.data_dir)?;
    }
    let database = Database::open_or_join(settings).await?;
    let store = database.connect_with_schema(POOLS).await?.acting_as(AuditContext::of_program("cli"));
    let done = Box::pin(forget_in(&store, settings, what, user)).await;
    store.close().await;
    let closed = database.close().await;
    done.and_then(|text| closed.map(|()| text))
}

async fn forget_in(store: &Store, settings: &Settings, what: &Forget, user: &str) -> Result<String, String> {
    let business = business_of(store, what.business.as_deref()).await?;
    let id = BusinessId(business.id);
    let unknown = || {
        format!(
            "{} has no user {user:?}. Rejected rows, reports and files are not searched for that: to erase the id there, use --force",
            business.name
        )
    };
    if what.dry_run {
        let preview = store.preview_erasure(id, user).await.map_err(error_text)?.ok_or_else(unknown)?;
        return Ok(if what.json { json_of_preview(&preview) } else { words_of_preview(&preview) });
    }
    let key = audit::key(settings)?;
    if !store.has_key_of_seals(key.as_ref()).await.map_err(error_text)? {
        return Err("the key of the seals is missing, or is another one: set CUPONERA_AUDIT_KEY".to_owned());
    }
    let files = lifecycle::open_files(settings).await?;
    // Before the first change: its admin event needs a position after those of a restored database.
    store.begin_epoch_if_restored().await.map_err(error_text)?;
    let erasure = match store.begin_erasure(id, user, what.force).await.map_err(error_text)? {
        ErasureStart::Begun(erasure) => *erasure,
        ErasureStart::UnknownUser => return Err(unknown()),
        ErasureStart::JobsOpen(jobs) => return Err(jobs_open(&jobs)),
        ErasureStart::Locked => {
            return Err(
                "another erasure, an archive, or a verification of the audit chain is running: try again later".to_owned(),
            );
        }
        ErasureStart::ArchiveOpen => {
            return Err(
                "an archive of events was interrupted: run `cuponera archive` again first, or give it up with `cuponera archive --abandon`"
                    .to_owned(),
            );
        }
    };
    if erasure.is_continued() {
        note("continuing an erasure that was interrupted");
    }
    let (erased, files) = erase(store, &files, id, erasure, key.as_ref()).await?;
    Ok(if what.json { json_of(&erased, &files) } else { words_of(&erased, &files) })
}

async fn business_of(store: &Store, id_or_name: Option<&str>) -> Result<Business, String> {
    if let Some(id_or_name) = id_or_name {
        return find_business(store, id_or_name).await;
    }
    let mut all = store.list_businesses(None).await.map_err(error_text)?;
    match (all.pop(), all.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err("there is no business".to_owned()),
        (Some(_), _) => Err("there are several businesses: name one with --business".to_owned()),
    }
}

fn jobs_open(jobs: &[JobId]) -> String {
    let ids: Vec<String> = jobs.iter().map(ToString::to_string).collect();
    format!(
        "these jobs may write the id of the user: wait until they have ended, or cancel them, and run the command again: {}",
        ids.join(" ")
    )
}

/// Erases the rows, then the files. Jobs that began meanwhile may have read the id before it was erased.
async fn erase(
    store: &Store,
    files: &Files,
    business: BusinessId,
    erasure: Erasure,
    key: Option<&AuditKey>,
) -> Result<(Erased, DeletedFiles), String> {
    let mut last_note = Instant::now();
    let report = |progress| {
        if last_note.elapsed() >= NOTE_INTERVAL {
            last_note = Instant::now();
            note(&words_of_progress(progress));
        }
    };
    store.erase_rows(&erasure, key, report).await.map_err(error_text)?;
    let open = store.open_jobs_of_users(business).await.map_err(error_text)?;
    if !open.is_empty() {
        return Err(jobs_open(&open));
    }
    let deleted = delete_files(store, files, business, &erasure.texts()).await?;
    let erased = store.finish_erasure(erasure).await.map_err(error_text)?;
    Ok((erased, deleted))
}

/// The jobs whose files contained the id.
#[derive(Default)]
struct DeletedFiles {
    uploads: Vec<JobId>,
    exports: Vec<JobId>,
    /// Jobs that cannot be retried without their files: their details are deleted, as at the end of their retention period.
    discarded: Vec<JobId>,
}

async fn delete_files(
    store: &Store,
    files: &Files,
    business: BusinessId,
    texts: &[String],
) -> Result<DeletedFiles, String> {
    let mut deleted = DeletedFiles::default();
    for job in store.jobs_with_files(business).await.map_err(error_text)? {
        let found = files.search(job, texts).await.map_err(error_text)?;
        if found == FoundIn::default() {
            continue;
        }
        let needed = store.jobs_that_need_files(&[job]).await.map_err(error_text)?;
        if found.errors || !needed.is_empty() {
            if !store.mark_job_to_discard(job).await.map_err(error_text)? {
                // It was retried meanwhile.
                return Err(jobs_open(&[job]));
            }
            delete_all_files(store, files, job).await.map_err(error_text)?;
            deleted.discarded.push(job);
        } else if found.export {
            files.delete_export(job).await.map_err(error_text)?;
            store.forget_export(job).await.map_err(error_text)?;
            deleted.exports.push(job);
        } else {
            files.delete_upload(job).await.map_err(error_text)?;
            store.free_upload(job).await.map_err(error_text)?;
            deleted.uploads.push(job);
        }
    }
    Ok(deleted)
}

/// Deletes the files and the details of a job that is marked.
async fn delete_all_files(store: &Store, files: &Files, job: JobId) -> cuponera_store::Result<()> {
    files.delete_upload(job).await?;
    files.delete_errors(job).await?;
    files.delete_export(job).await?;
    store.discard_job(job).await
}

fn words_of_progress(ErasureProgress { pass, rows, events, is_waiting }: ErasureProgress) -> String {
    let waits = if is_waiting { ", waiting for earlier transactions" } else { "" };
    format!("pass {pass}: {rows} rows and {events} events changed{waits}")
}

fn words_of(erased: &Erased, files: &DeletedFiles) -> String {
    let Erased { pseudonym, events, coupons, coupons_with_metadata, had_account } = erased;
    let mut text = format!("  Pseudonym  {pseudonym}\n  Events     {events}\n  Coupons    {coupons}\n");
    if *coupons_with_metadata > 0 {
        let _ = writeln!(
            text,
            "  Metadata   {coupons_with_metadata} of the coupons have metadata, which was not searched"
        );
    }
    if *had_account {
        text.push_str("  Account    erased\n");
    }
    for (what, jobs) in [
        ("the upload was deleted", &files.uploads),
        ("the export was deleted", &files.exports),
        ("its files, chunks and rejected rows were deleted", &files.discarded),
    ] {
        for job in jobs {
            let _ = writeln!(text, "  Job        {job}: {what}");
        }
    }
    text
}

fn json_of(erased: &Erased, files: &DeletedFiles) -> String {
    let Erased { pseudonym, events, coupons, coupons_with_metadata, had_account } = erased;
    let DeletedFiles { uploads, exports, discarded } = files;
    json!({
        "pseudonym": pseudonym, "events": events, "coupons": coupons, "couponsWithMetadata": coupons_with_metadata,
        "hadAccount": had_account, "deletedUploads": uploads, "deletedExports": exports, "discardedJobs": discarded,
    })
    .to_string()
}

fn words_of_preview(preview: &ErasurePreview) -> String {
    let ErasurePreview { coupons, coupons_with_metadata, has_account, is_shared, is_begun } = preview;
    let account = match (has_account, is_shared) {
        (false, _) => "none",
        (true, false) => "would be deleted",
        (true, true) => "would leave this business",
    };
    let begun = if *is_begun { "  An erasure of the user was interrupted\n" } else { "" };
    format!(
        "  Coupons    {coupons}, of which {coupons_with_metadata} have metadata, which is not searched\n  Account    {account}\n{begun}"
    )
}

fn json_of_preview(preview: &ErasurePreview) -> String {
    let ErasurePreview { coupons, coupons_with_metadata, has_account, is_shared, is_begun } = preview;
    json!({
        "coupons": coupons, "couponsWithMetadata": coupons_with_metadata, "hasAccount": has_account, "isShared": is_shared,
        "isBegun": is_begun,
    })
    .to_string()
}
