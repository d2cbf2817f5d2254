//! The upload of codes. The body is cut into parts as it arrives; it is never held in memory as a whole.

mod doc;
mod intake;
mod pace;
mod parameters;
mod repeats;

use std::collections::HashSet;

use cuponera_domain::csv::ReadOptions;
use cuponera_domain::id::BookId;
use cuponera_domain::principal::Permission;
use cuponera_domain::rejection::Rejection;
use cuponera_store::CallResult;
use cuponera_store::Error;
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

pub(super) use parameters::Parameters;

pub(super) use doc::operations;
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
        let mut parameters = Parameters { book: book.0, dry_run: dry_run.0, ..Parameters::default() };
        parameters.reading.header = header.0;
        for (name, value) in
            [("delimiter", delimiter.0), ("codeColumn", code_column.0), ("userColumn", user_column.0)]
        {
            parameters.set(name, &value.unwrap_or_default())?;
        }
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

/// Submits the job when all parts are stored.
async fn submit(
    caller: &Caller,
    held: &HeldKey,
    mut intake: Intake,
    parameters: Parameters,
) -> Result<Reply<JobView, 202>, Problem> {
    let book = parameters.book.ok_or_else(|| Rejection::invalid("couponBookId", "is required"))?;
    caller.must_have_book(BookId(book))?;
    let dry_run = parameters.dry_run.unwrap_or(false);
    intake.hasher.update(book.as_bytes());
    intake.hasher.update([u8::from(dry_run)]);
    // Without these parameters the fingerprint is that of versions before them.
    if parameters.reading != ReadOptions::default() {
        intake.hasher.update(serde_json::to_vec(&parameters.reading).map_err(Error::internal)?);
    }
    let stored = held.with_fingerprint(half(intake.hasher.clone()));
    let import = intake.finish(BookId(book), dry_run).await?;
    let id = import.id;
    let (store, business, actor) = (caller.store(), caller.business(), caller.principal.to_string());
    // The task owns the parts, so that a disconnect of the client does not delete them.
    let submit = async move {
        let answer = store.submit_import(stored, business, &actor, import).await;
        match &answer {
            Ok(CallResult { outcome: Ok(job), .. }) if job.id == id => intake.keep(),
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
                ("delimiter", <String as Type>::schema_ref()),
                ("header", <bool as Type>::schema_ref()),
                ("codeColumn", <String as Type>::schema_ref()),
                ("userColumn", <String as Type>::schema_ref()),
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
