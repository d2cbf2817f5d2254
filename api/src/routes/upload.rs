//! Uploading codes: the body is cut into parts as it comes in, and never held whole.

mod intake;
mod pace;

use cuponera_core::error::Refusal;
use cuponera_core::id::BookId;
use cuponera_core::store::Answer;
use futures::StreamExt;
use poem::http::StatusCode;
use poem::web::Multipart;
use poem::{Body, FromRequest, Request, RequestBody};
use poem_openapi::param::{Header, Query};
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, OpenApi};
use sha2::Digest;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::Tag;
use crate::body::half;
use crate::caller::{Caller, app};
use crate::edge::unsupported_type;
use crate::idempotency::HeldKey;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::view::JobView;
use intake::{IDLE_PATIENCE, Intake};
use pace::{Budget, Paced};

/// How much of a multipart file is read at once.
const READ_BYTES: usize = 64 * 1024;
/// The longest a small field of a form may be, in bytes.
const MAX_FIELD_BYTES: usize = 256;

/// The most bytes of a form that may come before, between and after its files: boundaries, headers, small fields.
const MAX_BYTES_BETWEEN_FILES: u64 = 1024 * 1024;

pub(crate) struct Upload;

/// A file on its way in.
pub(crate) enum UploadBody {
    /// The file is the body.
    Csv(Paced),
    /// The file is a field of a form; the budget bounds what stands between its files.
    Form(Multipart, Budget),
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
        let _place = caller.app.uploads.take(caller.principal.id).ok_or_else(Problem::overloaded)?;
        let held = HeldKey::take(&caller, Uuid::nil())?;
        let book = book.0.map(BookId);
        // Under a key there may be an answer already, whatever has become of the book since.
        if let (Some(book), None) = (book, &caller.key) {
            caller.app.store.check_book_open(caller.business(), book).await?;
        }
        let mut intake = Intake::new(&caller.app);
        let fields = match body {
            UploadBody::Csv(body) => {
                intake.take_all(body).await?;
                FormFields { has_file: true, ..FormFields::default() }
            }
            UploadBody::Form(form, budget) => read_form(form, &budget, &mut intake).await?,
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
    let (store, business, actor) = (caller.store(), caller.business(), caller.principal.to_string());
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
async fn read_form(mut form: Multipart, budget: &Budget, intake: &mut Intake) -> Result<FormFields, Problem> {
    let mut fields = FormFields::default();
    while let Some(field) = next_field(&mut form, budget).await? {
        match field.name().unwrap_or_default() {
            name @ "file" if fields.has_file => return Err(only_once(name)),
            "file" => {
                fields.has_file = true;
                budget.lift();
                intake.take_all(ReaderStream::with_capacity(field.into_async_read(), READ_BYTES)).await?;
            }
            name @ "couponBookId" if fields.book.is_some() => return Err(only_once(name)),
            name @ "dryRun" if fields.dry_run.is_some() => return Err(only_once(name)),
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

fn only_once(name: &str) -> Problem {
    Refusal::invalid(name, "must come only once").into()
}

/// The next field of a form, or its end. What stands between fields is held in memory, so it has to be short.
async fn next_field(form: &mut Multipart, budget: &Budget) -> Result<Option<poem::web::Field>, Problem> {
    budget.limit(MAX_BYTES_BETWEEN_FILES);
    timeout(IDLE_PATIENCE, form.next_field())
        .await
        .map_err(|_| Problem::request_timeout())?
        .map_err(|_| broken_body())
}

async fn small_text(field: poem::web::Field, name: &str) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let mut stream = ReaderStream::with_capacity(field.into_async_read(), MAX_FIELD_BYTES);
    let late = |_| Problem::request_timeout();
    while let Some(piece) = timeout(IDLE_PATIENCE, stream.next()).await.map_err(late)? {
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

/// Refuses by the length that is told, before anything is read. What is not told, or not true, is counted as it comes in.
fn refuse_what_is_too_large(request: &Request) -> Result<(), Problem> {
    let limit_bytes = app(request).upload_limit;
    let told = request.header("Content-Length").and_then(|length| length.parse::<u64>().ok());
    if told.is_some_and(|length| length > limit_bytes.saturating_add(MAX_BYTES_BETWEEN_FILES)) {
        return Err(Refusal::TooLarge { limit_bytes }.into());
    }
    Ok(())
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
        refuse_what_is_too_large(request)?;
        let media = request.content_type().and_then(|text| text.split(';').next()).unwrap_or_default();
        if media.trim().eq_ignore_ascii_case("text/csv") {
            return Ok(Self::Csv(Paced::new(body.take()?.into_bytes_stream())));
        }
        if media.trim().eq_ignore_ascii_case("multipart/form-data") {
            let (paced, budget) = Paced::piece_by_piece(body.take()?.into_bytes_stream());
            let mut body = RequestBody::new(Body::from_bytes_stream(paced));
            let form = <Multipart as FromRequest>::from_request(request, &mut body).await;
            let form = form.map_err(|_| broken_body())?;
            return Ok(Self::Form(form, budget));
        }
        Err(unsupported_type("multipart/form-data or text/csv").into())
    }
}
