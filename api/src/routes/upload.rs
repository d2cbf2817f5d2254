//! Uploading codes: the body is cut into parts as it comes in, and never held whole.

use std::time::Duration;

use bytes::Bytes;
use cuponera_core::csv::{CutError, Cutter, Limits};
use cuponera_core::error::{Error, Refusal, Result};
use cuponera_core::files::Files;
use cuponera_core::id::{BookId, JobId};
use cuponera_core::store::{Answer, NewImport, PartFile};
use futures::{Stream, StreamExt};
use poem::http::StatusCode;
use poem::web::Multipart;
use poem::{Body, FromRequest, Request, RequestBody};
use poem_openapi::param::{Header, Query};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, OpenApi};
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::Tag;
use crate::app::App;
use crate::body::half;
use crate::caller::Caller;
use crate::edge::unsupported_type;
use crate::idempotency::HeldKey;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::view::JobView;

/// How much of a multipart file is read at once.
const READ_BYTES: usize = 64 * 1024;
/// The longest a small field of a form may be, in bytes.
const MAX_FIELD_BYTES: usize = 256;
/// The most bytes that the names of a file's metadata columns may have together: each row repeats them.
const MAX_COLUMN_NAME_BYTES: usize = 1_024;

/// How long an upload may be silent: a client that is gone must not hold its key for ever.
const IDLE_PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Upload;

/// A file on its way in.
pub(crate) enum UploadBody {
    /// The file is the body.
    Csv(Body),
    /// The file is a field of a form.
    Form(Multipart),
}

/// What a form says beside its file.
#[derive(Debug, Default)]
struct FormFields {
    book: Option<BookId>,
    dry_run: Option<bool>,
    has_file: bool,
}

#[OpenApi(prefix_path = "/api/v1/coupon-codes", tag = "Tag::CouponCodes")]
impl Upload {
    /// Upload codes as CSV
    ///
    /// The column named `code`, or the first one, is the code; `userId` assigns it; other named columns become metadata.
    /// UTF-8, comma or semicolon, any line ends. Duplicates and invalid rows are counted and listed by
    /// `GET /jobs/{id}/errors`. A file that cannot be read at all is 422 with the line, and nothing is kept.
    #[oai(path = "/upload", method = "post", operation_id = "uploadCodes")]
    async fn upload(
        &self,
        caller: Caller,
        /// The book the codes are for; in a form it may be a field instead.
        #[oai(name = "couponBookId")]
        book: Query<Option<Uuid>>,
        /// Only count: nothing is written.
        #[oai(name = "dryRun")]
        dry_run: Query<Option<bool>>,
        /// Answers the same again to the same key and request.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
        body: UploadBody,
    ) -> Result<Reply<JobView, 202>, Problem> {
        caller.must_be_trusted()?;
        let held = HeldKey::take(&caller, Uuid::nil())?;
        let book = book.0.map(BookId);
        // Under a key there may be an answer already, whatever has become of the book since.
        if let (Some(book), None) = (book, &caller.key) {
            caller.app.store.check_book_open(caller.business(), book).await?;
        }
        let mut intake = Intake::new(&caller.app);
        let fields = match body {
            UploadBody::Csv(body) => {
                intake.take_all(body.into_bytes_stream()).await?;
                FormFields { has_file: true, ..FormFields::default() }
            }
            UploadBody::Form(form) => read_form(form, &mut intake).await?,
        };
        let book = fields.book.or(book);
        let (Some(book), true) = (book, fields.has_file) else {
            let field = if fields.has_file { "couponBookId" } else { "file" };
            return Err(Refusal::invalid(field, "is required").into());
        };
        let dry_run = fields.dry_run.or(dry_run.0).unwrap_or(false);
        submit(&caller, &held, intake, book, dry_run).await
    }
}

/// Writes the job once all parts are stored.
async fn submit(
    caller: &Caller,
    held: &HeldKey,
    mut intake: Intake,
    book: BookId,
    dry_run: bool,
) -> Result<Reply<JobView, 202>, Problem> {
    intake.hasher.update(book.0.as_bytes());
    intake.hasher.update([u8::from(dry_run)]);
    let stored = held.with_fingerprint(half(intake.hasher.clone()));
    let import = intake.finish(book, dry_run).await?;
    let id = import.id;
    let (store, business, actor) =
        (caller.app.store.clone(), caller.business(), caller.principal.to_string());
    // The parts go with the change, not with the request: a client that goes away now must not take them along.
    let submit = async move {
        let answer = store.submit_import(stored, business, &actor, import).await;
        match &answer {
            Ok(Answer { outcome: Ok(job), .. }) if job.id == id => intake.keep(),
            Ok(_) => {}
            // Whether it was committed is not known; the sweep asks the database later.
            Err(_) => intake.keep(),
        }
        answer
    };
    let answer = caller.app.run(submit).await?;
    Ok(Reply::of(answer, JobView::from)?.at(|job| format!("/api/v1/jobs/{}", job.id)))
}

/// Reads the fields of a form in whatever order they come.
async fn read_form(mut form: Multipart, intake: &mut Intake) -> Result<FormFields, Problem> {
    let mut fields = FormFields::default();
    while let Some(field) = timeout(IDLE_PATIENCE, form.next_field())
        .await
        .map_err(|_| broken_body())?
        .map_err(|_| broken_body())?
    {
        match field.name().unwrap_or_default() {
            "file" if fields.has_file => return Err(Refusal::invalid("file", "must come only once").into()),
            "file" => {
                fields.has_file = true;
                intake.take_all(ReaderStream::with_capacity(field.into_async_read(), READ_BYTES)).await?;
            }
            "couponBookId" => {
                let text = small_text(field, "couponBookId").await?;
                let book =
                    text.parse().map_err(|_| Refusal::invalid("couponBookId", "must be an id (a UUID)"))?;
                fields.book = Some(book);
            }
            "dryRun" => {
                let text = small_text(field, "dryRun").await?;
                let dry_run =
                    text.parse().map_err(|_| Refusal::invalid("dryRun", "must be true or false"))?;
                fields.dry_run = Some(dry_run);
            }
            other => {
                let name: String = other.chars().take(50).collect();
                return Err(
                    Refusal::invalid(&name, "is not known; known are: file, couponBookId, dryRun").into()
                );
            }
        }
    }
    Ok(fields)
}

async fn small_text(field: poem::web::Field, name: &str) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let mut stream = ReaderStream::with_capacity(field.into_async_read(), MAX_FIELD_BYTES);
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece.map_err(|_| broken_body())?);
        if bytes.len() > MAX_FIELD_BYTES {
            return Err(Refusal::invalid(name, "is too long").into());
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| Refusal::invalid(name, "must be text"))?;
    Ok(text.trim().to_owned())
}

fn broken_body() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", "the body ended early or is not a form")
}

/// An upload under way. Unless it is kept, its parts are deleted when it is dropped: also when the client goes away.
struct Intake {
    app: std::sync::Arc<App>,
    job: JobId,
    cutter: Option<Cutter>,
    parts: Vec<PartFile>,
    bytes: u64,
    hasher: Sha256,
    is_kept: bool,
}

impl Intake {
    fn new(app: &std::sync::Arc<App>) -> Self {
        Self {
            app: app.clone(),
            job: JobId::new(),
            cutter: Some(Cutter::new(Limits::default())),
            parts: Vec::new(),
            bytes: 0,
            hasher: Sha256::new(),
            is_kept: false,
        }
    }

    async fn take_all(
        &mut self,
        stream: impl Stream<Item = Result<Bytes, std::io::Error>> + Send,
    ) -> Result<(), Problem> {
        let mut stream = std::pin::pin!(stream);
        while let Some(piece) = timeout(IDLE_PATIENCE, stream.next()).await.map_err(|_| broken_body())? {
            self.take(&piece.map_err(|_| broken_body())?).await?;
        }
        Ok(())
    }

    async fn take(&mut self, piece: &[u8]) -> Result<()> {
        self.bytes += piece.len() as u64;
        if self.bytes > self.app.upload_limit {
            return Err(Refusal::TooLarge { limit_bytes: self.app.upload_limit }.into());
        }
        self.hasher.update(piece);
        let Some(cutter) = &mut self.cutter else {
            return Err(Error::internal("the upload was already finished"));
        };
        cutter.push(piece).map_err(|error| bad_file(&error))?;
        while let Some(part) = self.cutter.as_mut().and_then(Cutter::take_part) {
            self.store(part.bytes, part.first_line).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, book: BookId, dry_run: bool) -> Result<NewImport> {
        let cutter = self.cutter.take().ok_or_else(|| Error::internal("the upload was already finished"))?;
        let cut = cutter.finish().map_err(|error| bad_file(&error))?;
        let names: usize = cut.summary.columns.metadata.iter().map(|column| column.name.len()).sum();
        if names > MAX_COLUMN_NAME_BYTES {
            return Err(Refusal::invalid("file", "has column names of more than 1024 bytes together").into());
        }
        for part in cut.parts {
            self.store(part.bytes, part.first_line).await?;
        }
        Ok(NewImport {
            id: self.job,
            book,
            columns: cut.summary.columns,
            delimiter: cut.summary.delimiter,
            dry_run,
            parts: std::mem::take(&mut self.parts),
            rows: cut.summary.records,
            lines: cut.summary.lines,
        })
    }

    async fn store(&mut self, bytes: Bytes, first_line: u64) -> Result<()> {
        let file = Files::part_name(self.job, self.parts.len());
        self.app.files.put(&file, bytes).await?;
        self.parts.push(PartFile { file, first_line });
        Ok(())
    }

    /// The job refers to the parts now.
    fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (files, job) = (self.app.files.clone(), self.job);
        self.app.run_behind(async move {
            if let Err(error) = files.delete_upload(job).await {
                tracing::warn!(error = error.chain(), %job, "the parts of a refused upload stay for the sweep");
            }
        });
    }
}

fn bad_file(error: &CutError) -> Error {
    Refusal::BadFile { fault: error.code().to_owned(), detail: error.to_string(), line: error.line() }.into()
}

impl<'a> ApiExtractor<'a> for UploadBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(_: &mut Registry) {}

    fn request_meta() -> Option<MetaRequest> {
        let file = || {
            MetaSchemaRef::Inline(Box::new(MetaSchema {
                format: Some("binary"),
                ..MetaSchema::new("string")
            }))
        };
        let form = MetaSchema {
            properties: vec![
                ("file", file()),
                ("couponBookId", <Uuid as Type>::schema_ref()),
                ("dryRun", <bool as Type>::schema_ref()),
            ],
            required: vec!["file"],
            ..MetaSchema::new("object")
        };
        Some(MetaRequest {
            description: Some("The file as the body, or as the field `file` of a form."),
            content: vec![
                MetaMediaType {
                    content_type: "multipart/form-data",
                    schema: MetaSchemaRef::Inline(Box::new(form)),
                },
                MetaMediaType { content_type: "text/csv", schema: file() },
            ],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let media = request.content_type().and_then(|text| text.split(';').next()).unwrap_or_default();
        if media.trim().eq_ignore_ascii_case("text/csv") {
            return Ok(Self::Csv(body.take()?));
        }
        if media.trim().eq_ignore_ascii_case("multipart/form-data") {
            let form =
                <Multipart as FromRequest>::from_request(request, body).await.map_err(|_| broken_body())?;
            return Ok(Self::Form(form));
        }
        Err(unsupported_type("multipart/form-data or text/csv").into())
    }
}
