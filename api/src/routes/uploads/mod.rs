//! The upload of files of codes, users and assignments. The body is cut into parts as it arrives; it is never held in memory as a whole.

mod doc;
mod intake;
mod pace;
mod parameters;
mod repeats;

use std::collections::HashSet;

use cuponera_domain::csv::{Content, ReadOptions};
use cuponera_domain::id::BookId;
use cuponera_domain::job::Job;
use cuponera_domain::principal::Permission;
use cuponera_domain::rejection::Rejection;
use cuponera_store::{CallResult, Error, IdempotencyKey, NewImport};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
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

use super::{JobView, Tag};
use crate::auth::caller::{Caller, app};
use crate::auth::credentials::Lifetime;
use crate::http::body::half;
use crate::http::edge::unsupported_type;
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use crate::http::request_permit;
use intake::{IDLE_TIMEOUT, Intake};
use pace::{Budget, Paced};

pub(super) use parameters::{Parameters, Texts, names};

pub(super) use doc::{OF_THE_FILE, operations};
pub(crate) use repeats::MAX_CODES_KEPT;

/// Size of one read of a multipart file.
const READ_BYTES: usize = 64 * 1024;
/// Maximum size of a small field of a form, in bytes.
const MAX_FIELD_BYTES: usize = 256;

/// Maximum number of bytes of a form before, between and after its files: boundaries, headers, small fields.
const MAX_BYTES_BETWEEN_FILES: u64 = 1024 * 1024;

pub(crate) struct Upload;

/// The body of an upload.
pub(crate) enum UploadBody {
    /// The file is the body.
    Csv(Paced),
    /// The file is a field of a form. The budget limits the bytes between its files.
    Form(Multipart, Budget),
}

#[OpenApi(prefix_path = "/api/v1/coupon-codes", tag = "Tag::CouponCodes")]
impl Upload {
    /// Upload codes as CSV
    ///
    /// One code on each line, or a header with a column of codes and optionally a column of users that receive the codes;
    /// other named columns become metadata. UTF-8; comma, semicolon, tab or pipe; any line endings. The format is detected from
    /// the file; if that is not possible, the parameters determine it (422 `unclear_header`). Duplicates and invalid rows are
    /// counted and listed by `GET /jobs/{id}/errors`. A file that cannot be read is 422 with the line, and nothing is stored.
    ///
    /// In a `SHARED` book the columns `maxRedemptions`, `maxRedeemsPerUser`, `startsAt` and `expiresAt` are limits of the codes, and a row
    /// that names a user is rejected.
    ///
    /// In a form each parameter may be a field instead; `delimiter`, `header`, `codeColumn` and `userColumn` must come before
    /// the file.
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the operation")]
    #[oai(path = "/upload", method = "post", operation_id = "uploadCodes")]
    async fn upload(
        &self,
        caller: Caller,
        /// The book of the codes; in a form it may be a field instead.
        #[oai(name = "couponBookId")]
        book: Query<Option<Uuid>>,
        /// Only count the rows; write nothing.
        #[oai(name = "dryRun")]
        dry_run: Query<Option<bool>>,
        /// The separator of the cells: `,` `;` `|` or a tab; also `comma`, `semicolon`, `pipe`, `tab`. Detected if absent.
        delimiter: Query<Option<String>>,
        /// Whether the file has a header. Detected if absent.
        header: Query<Option<bool>>,
        /// The column of codes: its name in the header, or its number from 1. Detected if absent.
        #[oai(name = "codeColumn")]
        code_column: Query<Option<String>>,
        /// The column of users, in the same way.
        #[oai(name = "userColumn")]
        user_column: Query<Option<String>>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
        body: UploadBody,
    ) -> Result<Reply<JobView, 202>, Problem> {
        caller.must_have(Permission::CreateCodes)?;
        let texts = Texts { delimiter: delimiter.0, code_column: code_column.0, user_column: user_column.0 };
        let mut parameters = Parameters::of_codes(Content::Codes, book.0, dry_run.0, header.0, texts)?;
        if let Some(book) = parameters.book {
            caller.must_have_book(BookId(book))?;
        }
        let _slot = request_permit::take(&caller.app.uploads, &caller.claimant)?;
        let held = HeldKey::take(&caller, Uuid::nil())?;
        // A key may have a stored response, whatever the book's status is now.
        if let (Some(book), None) = (parameters.book, &caller.key) {
            caller.app.store.check_book_open(caller.business(), BookId(book)).await?;
        }
        let intake = receive(&caller, body, &mut parameters).await?;
        submit(&caller, &held, intake, parameters).await
    }
}

/// Stores a file as it arrives. The fields of a form are added to the parameters.
pub(super) async fn receive(
    caller: &Caller,
    body: UploadBody,
    parameters: &mut Parameters,
) -> Result<Intake, Problem> {
    let reading = async {
        match body {
            UploadBody::Csv(body) => {
                let mut intake = Intake::new(&caller.app, caller.business(), parameters.reading.clone());
                intake.take_all(body).await?;
                Ok(Some(intake))
            }
            UploadBody::Form(form, budget) => read_form(form, &budget, caller, parameters).await,
        }
    };
    let intake = tokio::select! {
        intake = reading => intake?,
        () = caller.ended(Lifetime::Login) => return Err(Problem::unauthorized()),
    };
    let intake = intake.ok_or_else(|| Rejection::invalid("file", "is required"))?;
    caller.must_still_hold().await?;
    Ok(intake)
}

/// Submits the job of an import when all parts are stored.
async fn submit(
    caller: &Caller,
    held: &HeldKey,
    mut intake: Intake,
    parameters: Parameters,
) -> Result<Reply<JobView, 202>, Problem> {
    let (stored, import) = finish_codes(caller, held, &mut intake, &parameters).await?;
    let (store, business, actor) = (caller.store(), caller.business(), caller.principal.to_string());
    let change = async move { store.submit_import(stored, business, &actor, import).await };
    submit_parts(caller, intake, change.boxed()).await
}

/// Completes an upload of codes, and the idempotency key with the content of the file and the parameters.
pub(super) async fn finish_codes(
    caller: &Caller,
    held: &HeldKey,
    intake: &mut Intake,
    parameters: &Parameters,
) -> Result<(Option<IdempotencyKey>, NewImport), Problem> {
    let book = parameters.book.ok_or_else(|| Rejection::invalid("couponBookId", "is required"))?;
    caller.must_have_book(BookId(book))?;
    let dry_run = parameters.dry_run.unwrap_or(false);
    intake.hasher.update(book.as_bytes());
    intake.hasher.update([u8::from(dry_run)]);
    let stored = stored_key(held, intake, &parameters.reading)?;
    Ok((stored, intake.finish(BookId(book), dry_run).await?))
}

/// The idempotency key, with a hash of what the intake has received and of how the file is to be read.
pub(super) fn stored_key(
    held: &HeldKey,
    intake: &mut Intake,
    reading: &ReadOptions,
) -> Result<Option<IdempotencyKey>, Error> {
    // Without these parameters the fingerprint is that of versions before them.
    if *reading != (ReadOptions { content: reading.content, ..ReadOptions::default() }) {
        intake.hasher.update(serde_json::to_vec(reading).map_err(Error::internal)?);
    }
    Ok(held.with_fingerprint(half(intake.hasher.clone())))
}

/// Submits the job of a file. The task owns the parts, so that a disconnect of the client does not delete them.
pub(super) async fn submit_parts(
    caller: &Caller,
    mut intake: Intake,
    change: BoxFuture<'static, cuponera_store::Result<CallResult<Job>>>,
) -> Result<Reply<JobView, 202>, Problem> {
    let submit = async move {
        let answer = change.await;
        match &answer {
            Ok(CallResult { outcome: Ok(job), .. }) if job.id == intake.job() => intake.keep(),
            Ok(_) => {}
            // The outcome of the commit is unknown; the sweep checks the database later.
            Err(_) => intake.keep(),
        }
        answer
    };
    let answer = caller.app.run(submit).await?;
    Ok(Reply::of(answer, JobView::from)?.at(|job| format!("/api/v1/jobs/{}", job.id)))
}

/// Reads the fields of a form in any order, and the file, if present.
async fn read_form(
    mut form: Multipart,
    budget: &Budget,
    caller: &Caller,
    parameters: &mut Parameters,
) -> Result<Option<Intake>, Problem> {
    let (mut intake, mut seen) = (None, HashSet::new());
    while let Some(field) = next_field(&mut form, budget).await? {
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            if intake.is_some() {
                return Err(only_once(&name));
            }
            let mut file = Intake::new(&caller.app, caller.business(), parameters.reading.clone());
            budget.lift();
            file.take_all(ReaderStream::with_capacity(field.into_async_read(), READ_BYTES)).await?;
            intake = Some(file);
            continue;
        }
        if !parameters.is_known(&name) {
            let name: String = name.chars().take(50).collect();
            let known = parameters.names().join(", ");
            return Err(Rejection::invalid(&name, format!("is not known; known are: file, {known}")).into());
        }
        let text = small_text(field, &name).await?;
        let before = parameters.reading.clone();
        parameters.set(&name, &text)?;
        if intake.is_some() && parameters.reading != before {
            return Err(Rejection::invalid(&name, "must come before the file in the form").into());
        }
        if !seen.insert(name.clone()) {
            return Err(only_once(&name));
        }
    }
    Ok(intake)
}

fn only_once(name: &str) -> Problem {
    Rejection::invalid(name, "must be given only once").into()
}

/// The next field of a form, if any. Bytes between fields are held in memory and therefore limited.
async fn next_field(form: &mut Multipart, budget: &Budget) -> Result<Option<poem::web::Field>, Problem> {
    budget.limit(MAX_BYTES_BETWEEN_FILES);
    timeout(IDLE_TIMEOUT, form.next_field())
        .await
        .map_err(|_| Problem::request_timeout())?
        .map_err(|_| broken_body())
}

async fn small_text(field: poem::web::Field, name: &str) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let mut stream = ReaderStream::with_capacity(field.into_async_read(), MAX_FIELD_BYTES);
    let late = |_| Problem::request_timeout();
    while let Some(piece) = timeout(IDLE_TIMEOUT, stream.next()).await.map_err(late)? {
        bytes.extend_from_slice(&piece.map_err(|_| broken_body())?);
        if bytes.len() > MAX_FIELD_BYTES {
            return Err(Rejection::invalid(name, "is too long").into());
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| Rejection::invalid(name, "must be text"))?;
    Ok(text.trim().to_owned())
}

fn broken_body() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", "the body ended early or is not a form")
}

/// Rejects a body by its Content-Length before it is read. The bytes that arrive are counted as well.
fn reject_too_large(request: &Request) -> Result<(), Problem> {
    let limit_bytes = app(request).upload_limit;
    let length = request.header("Content-Length").and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit_bytes.saturating_add(MAX_BYTES_BETWEEN_FILES)) {
        return Err(Rejection::TooLarge { limit_bytes }.into());
    }
    Ok(())
}

/// The schema of a file as the body or as a field.
pub(super) fn file_schema() -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema { format: Some("binary"), ..MetaSchema::new("string") }))
}

/// The schema of a form with a file and these parameters.
pub(super) fn form_schema(parameters: &[&'static str]) -> MetaSchemaRef {
    let schema = |name: &&'static str| match *name {
        "couponBookId" => (*name, <Uuid as Type>::schema_ref()),
        "dryRun" | "header" => (*name, <bool as Type>::schema_ref()),
        _ => (*name, <String as Type>::schema_ref()),
    };
    let properties = std::iter::once(("file", file_schema())).chain(parameters.iter().map(schema)).collect();
    let form = MetaSchema { properties, required: vec!["file"], ..MetaSchema::new("object") };
    MetaSchemaRef::Inline(Box::new(form))
}

impl<'a> ApiExtractor<'a> for UploadBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(_: &mut Registry) {}

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: Some("The file as the body, or as the field `file` of a form."),
            content: vec![
                MetaMediaType {
                    content_type: "multipart/form-data",
                    schema: form_schema(names(Content::Codes)),
                },
                MetaMediaType { content_type: "text/csv", schema: file_schema() },
            ],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        reject_too_large(request)?;
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
