//! Uploading codes: the body is cut into parts as it comes in, and never held whole.

mod intake;
mod pace;
mod parameters;
mod repeats;

use std::collections::HashSet;

use cuponera_core::csv::ReadOptions;
use cuponera_core::error::{Error, Refusal};
use cuponera_core::id::BookId;
use cuponera_core::principal::Permission;
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
use crate::credentials::Lifetime;
use crate::edge::unsupported_type;
use crate::idempotency::HeldKey;
use crate::place;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::view::JobView;
use intake::{IDLE_PATIENCE, Intake};
use pace::{Budget, Paced};
pub(super) use parameters::Parameters;

pub(crate) use repeats::MAX_CODES_KEPT;

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

#[OpenApi(prefix_path = "/api/v1/coupon-codes", tag = "Tag::CouponCodes")]
impl Upload {
    /// Upload codes as CSV
    ///
    /// One code on each line, or a header with a column of codes and perhaps one of users, who are assigned the codes; other
    /// named columns become metadata. UTF-8; comma, semicolon, tab or pipe; any line ends. The file decides how it is read,
    /// and the parameters decide where it leaves that open (422 `unclear_header`). Duplicates and invalid rows are counted
    /// and listed by `GET /jobs/{id}/errors`. A file that cannot be read at all is 422 with the line, and nothing is kept.
    ///
    /// In a form each parameter may be a field instead; `delimiter`, `header`, `codeColumn` and `userColumn` come before the
    /// file.
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the operation")]
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
        /// What separates the cells: `,` `;` `|` or a tab; also `comma`, `semicolon`, `pipe`, `tab`. The file decides if absent.
        delimiter: Query<Option<String>>,
        /// Whether the file has a header. The file decides if absent.
        header: Query<Option<bool>>,
        /// The column of codes: its name in the header, or its number from 1. The file decides if absent.
        #[oai(name = "codeColumn")]
        code_column: Query<Option<String>>,
        /// The column of users, in the same way.
        #[oai(name = "userColumn")]
        user_column: Query<Option<String>>,
        /// Answers the same again to the same key and request.
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
        let _slot = place::take(&caller.app.uploads, &caller.claimant)?;
        let held = HeldKey::take(&caller, Uuid::nil())?;
        // Under a key there may be an answer already, whatever has become of the book since.
        if let (Some(book), None) = (parameters.book, &caller.key) {
            caller.app.store.check_book_open(caller.business(), BookId(book)).await?;
        }
        let intake = receive(&caller, body, &mut parameters).await?;
        submit(&caller, &held, intake, parameters).await
    }
}

/// Stores a file as it comes in; the fields of a form are added to the parameters.
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
    caller.must_still_hold().await?;
    Ok(intake.ok_or_else(|| Refusal::invalid("file", "is required"))?)
}

/// Writes the job once all parts are stored.
async fn submit(
    caller: &Caller,
    held: &HeldKey,
    mut intake: Intake,
    parameters: Parameters,
) -> Result<Reply<JobView, 202>, Problem> {
    let book = parameters.book.ok_or_else(|| Refusal::invalid("couponBookId", "is required"))?;
    caller.must_have_book(BookId(book))?;
    let dry_run = parameters.dry_run.unwrap_or(false);
    intake.hasher.update(book.as_bytes());
    intake.hasher.update([u8::from(dry_run)]);
    // Without such parameters a request is the same as in versions that had none.
    if parameters.reading != ReadOptions::default() {
        intake.hasher.update(serde_json::to_vec(&parameters.reading).map_err(Error::internal)?);
    }
    let stored = held.with_fingerprint(half(intake.hasher.clone()));
    let import = intake.finish(BookId(book), dry_run).await?;
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

/// Reads the fields of a form in whatever order they come, and the file, if there is one.
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
            return Err(Refusal::invalid(&name, format!("is not known; known are: file, {known}")).into());
        }
        let text = small_text(field, &name).await?;
        let before = parameters.reading.clone();
        parameters.set(&name, &text)?;
        if intake.is_some() && parameters.reading != before {
            return Err(Refusal::invalid(&name, "must come before the file in the form").into());
        }
        if !seen.insert(name.clone()) {
            return Err(only_once(&name));
        }
    }
    Ok(intake)
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
