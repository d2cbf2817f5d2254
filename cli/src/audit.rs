//! `cuponera audit`: verifies and exports the chain of seals over the event logs, also while the installation runs.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use cuponera_domain::audit::AuditKey;
use cuponera_domain::id::BookId;
use cuponera_platform::config::Settings;
use cuponera_platform::files::Files;
use cuponera_platform::lifecycle;
use cuponera_store::{ArchiveContent, Pools, Store, Verification, VerifyOptions};
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde_json::json;

use crate::client::print::{note, output_error, print};
use crate::client::{ClientError, WithServer, audit, plain};
use crate::database::Database;
use crate::secrets;
use crate::up::LAST_WORDS;

/// The exit status if there are findings.
const FINDINGS: u8 = 5;
/// Maximum size of a line of an anchor: a seal has about 700 bytes.
const MAX_LINE_BYTES: u64 = 4_096;

const VERIFY_HELP: &str = "\
Examples:
  cuponera audit verify
  cuponera audit verify --anchor /mnt/elsewhere/seals.jsonl
  cuponera audit verify --from 4711 --json

It recomputes the hashes of all sealed events, the chain and its HMACs, and prints a line for each difference. It reads the logs once, and
the installation continues to run. The key is CUPONERA_AUDIT_KEY, otherwise that of the data folder. The result of a verification of the
whole chain is shown by GET /api/v1/audit. Events that are not sealed yet are counted and are no findings. Archived events are compared in their
files (`cuponera archive`), which are read from the file store; an absent file is a finding. With --without-files no file is read, and archived
events are only proved to be archived.

Only an anchor (cuponera audit export) that is kept elsewhere shows that the last seals were removed together with their events, or that the
chain was rewritten with the key.

Exit status:
  0    no findings
  1    an error
  2    a usage error
  5    findings";

const EXPORT_HELP: &str = "\
Examples:
  cuponera audit export --out seals.jsonl
  cuponera audit export | ssh elsewhere 'cat > seals.jsonl'

Each line is a seal with its HMAC, as JSON. It contains hashes and no events. Keep it where nobody with access to the database can change it,
and give it to `cuponera audit verify --anchor`.";

/// The subcommands of `audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Compare the sealed events with the event logs
    #[command(after_long_help = VERIFY_HELP)]
    Verify {
        /// The first seal to verify; those before it are not read
        #[arg(long, value_name = "SEAL", value_parser = clap::value_parser!(i64).range(1..))]
        from: Option<i64>,
        /// Compare only the events of codes of this book; that all events exist, and the seals, are verified as well
        #[arg(long, value_name = "ID")]
        book: Option<uuid::Uuid>,
        /// An earlier export, to compare the seals with
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
        /// Do not read the files of archived events, for example where their bucket cannot be reached
        #[arg(long)]
        without_files: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Write the seals to a file, to keep it elsewhere
    #[command(after_long_help = EXPORT_HELP)]
    Export {
        /// The file; standard output if absent. An existing file is replaced when the export is complete
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Show how many events are sealed, and the last verification, as an ADMIN of a server
    Status(WithServer<audit::Status>),
}

/// Runs the subcommand, prints its result, and returns the exit status.
pub(crate) fn run(verb: AuditVerb) -> Result<ExitCode, String> {
    match verb {
        AuditVerb::Verify { from, book, anchor, without_files, json, settings } => {
            let part = Part { from, book: book.map(BookId), anchor, without_files };
            verify(*settings, part, json)
        }
        AuditVerb::Export { out, settings } => export(*settings, out),
        AuditVerb::Status(to) => Ok(to.run()),
    }
}

/// What is verified.
struct Part {
    from: Option<i64>,
    book: Option<BookId>,
    anchor: Option<PathBuf>,
    without_files: bool,
}

fn verify(settings: Settings, part: Part, as_json: bool) -> Result<ExitCode, String> {
    let checked = settings.check();
    let verification = lifecycle::run(settings, checked, |settings| async move {
        let work =
            Box::pin(with_store(&settings, async |store: &Store| verify_part(store, &settings, &part).await));
        lifecycle::unless_stopped(LAST_WORDS, work).await
    })?;
    let status = if verification.found == 0 { ExitCode::SUCCESS } else { ExitCode::from(FINDINGS) };
    let text = if as_json { json_of(&verification) } else { words_of(&verification) };
    Ok(print(&text).map_or_else(ClientError::report, |()| status))
}

async fn verify_part(store: &Store, settings: &Settings, part: &Part) -> Result<Verification, String> {
    let key = key(settings)?;
    let error_text = |error: cuponera_store::Error| error.chain();
    if key.is_none() && store.audit_status().await.map_err(error_text)?.seals > 0 {
        return Err("the key of the seals is missing: set CUPONERA_AUDIT_KEY".to_owned());
    }
    let mut anchor = part.anchor.as_deref().map(Anchor::open).transpose()?;
    let has_archives = store.has_archives().await.map_err(error_text)?;
    let is_without_files = has_archives && part.without_files;
    if has_archives && !is_without_files && settings.database_url.is_some() && settings.files_url.is_none() {
        return Err(
            "CUPONERA_FILES_URL is not set: name the file store with the archived events, or use --without-files"
                .to_owned(),
        );
    }
    let files =
        if has_archives && !is_without_files { Some(lifecycle::open_files(settings).await?) } else { None };
    let open = files.map(|files| move |name: String| open_archive(files.clone(), name).boxed());
    let options = VerifyOptions {
        key: key.as_ref(),
        from: part.from,
        book: part.book,
        anchor: anchor.as_mut().map(|lines| lines as _),
        open_archive: open.as_ref().map(|open| open as _),
    };
    let verification = store.verify_audit(options).await.map_err(error_text)?;
    if part.from.is_none() && part.book.is_none() && !is_without_files {
        store.record_verification(&verification).await.map_err(error_text)?;
    }
    Ok(verification)
}

/// The content of the file of an archive; `None` if the file store does not have it.
async fn open_archive(files: Files, name: String) -> cuponera_store::Result<Option<ArchiveContent>> {
    let content = files.find(&name).await?;
    Ok(content.map(|content| content.map_ok(|piece| piece.to_vec()).boxed()))
}

fn export(settings: Settings, out: Option<PathBuf>) -> Result<ExitCode, String> {
    let checked = settings.check();
    let exported = lifecycle::run(settings, checked, |settings| async move {
        let work = Box::pin(with_store(&settings, async |store: &Store| match &out {
            Some(path) => write_to_file(store, path).await,
            None => write_to(store, &mut io::stdout()).await,
        }));
        lifecycle::unless_stopped(LAST_WORDS, work).await
    })?;
    match exported {
        Ok(seals) => {
            note(&format!("seals exported: {seals}"));
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Ok(output_error(&error).report()),
    }
}

/// The number of exported seals, or the error of the output.
type Exported = Result<i64, io::Error>;

async fn write_to_file(store: &Store, path: &Path) -> Result<Exported, String> {
    let fault = |error: io::Error| format!("{} cannot be written: {error}", path.display());
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let mut file = BufWriter::new(File::create(&draft).map_err(fault)?);
    let seals = write_to(store, &mut file).await?.map_err(fault)?;
    file.get_ref().sync_all().and_then(|()| fs::rename(&draft, path)).map_err(fault)?;
    Ok(Ok(seals))
}

async fn write_to(store: &Store, out: &mut impl Write) -> Result<Exported, String> {
    let (mut next, mut seals) = (1, 0);
    loop {
        let page = store.export_seals(next).await.map_err(|error| error.chain())?;
        let Some((last, _)) = page.last() else { return Ok(out.flush().map(|()| seals)) };
        next = last + 1;
        for (_, line) in &page {
            if let Err(error) = writeln!(out, "{line}") {
                return Ok(Err(error));
            }
            seals += 1;
        }
    }
}

/// Opens the database, with the schema of this version, and closes it after the work.
async fn with_store<T>(
    settings: &Settings,
    work: impl AsyncFnOnce(&Store) -> Result<T, String>,
) -> Result<T, String> {
    if settings.database_url.is_none() {
        secrets::open_data_folder(&settings.data_dir)?;
    }
    let database = Database::open_or_join(settings).await?;
    let store = database.connect_with_schema(Pools::MIN).await?;
    let done = work(&store).await;
    store.close().await;
    let closed = database.close().await;
    done.and_then(|done| closed.map(|()| done))
}

/// The key of the settings, otherwise that of the data folder.
pub(crate) fn key(settings: &Settings) -> Result<Option<AuditKey>, String> {
    match settings.audit_key()? {
        Some(key) => Ok(Some(key)),
        None => secrets::stored_audit_key(&settings.data_dir),
    }
}

/// The lines of an anchor.
struct Anchor {
    file: BufReader<File>,
}

impl Anchor {
    fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Ok(Self { file: BufReader::new(file) })
    }
}

impl Iterator for Anchor {
    type Item = io::Result<String>;

    fn next(&mut self) -> Option<io::Result<String>> {
        let mut line = String::new();
        match self.file.by_ref().take(MAX_LINE_BYTES).read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(Ok(line)),
            Err(error) => Some(Err(error)),
        }
    }
}

fn words_of(verification: &Verification) -> String {
    let mut text = String::new();
    for finding in &verification.findings {
        let _ = writeln!(text, "{}", plain(&finding.to_string()));
    }
    let Verification { seals, events, archived, unsealed, found, .. } = verification;
    let _ = writeln!(
        text,
        "seals: {seals}, events: {events}, archived: {archived}, not sealed yet: {unsealed}, findings: {found}"
    );
    text
}

fn json_of(verification: &Verification) -> String {
    let Verification { seals, last_seal, events, archived, unsealed, findings, found } = verification;
    let result = json!({
        "seals": seals, "lastSeal": last_seal, "events": events, "archived": archived, "unsealed": unsealed, "found": found, "findings": findings,
    });
    result.to_string()
}
