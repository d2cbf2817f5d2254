//! Exports: jobs that write a file, the file of a job, and codes that are streamed.

mod doc;
mod file;
mod request;

use chrono::{DateTime, Utc};
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::csv::Delimiter;
use cuponera_domain::export::{CsvRows, ExportKind, Filter, Format};
use cuponera_domain::id::{BookId, BusinessId, JobId};
use cuponera_domain::job::export::{Place, Snapshot};
use cuponera_domain::rejection::{FieldError, Rejection};
use cuponera_store::{Error, ExportRow, Exported, Result, Store};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use poem::{Body as RawBody, Request};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Binary;
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::codes::STATUSES;
use super::list::time;
use super::{JobView, Tag, word};
use crate::auth::caller::Caller;
use crate::http::body::Body;
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use file::FileAnswer;
use request::{ExportToSubmit, NewExportBody};

pub(super) use doc::operations;

pub(crate) struct Exports;

#[derive(ApiResponse)]
enum Streamed {
    /// A CSV file with the columns of an export of `CODES`.
    #[oai(status = 200, content_type = "text/csv; charset=utf-8")]
    Csv(
        Binary<RawBody>,
        /// `attachment` with the name of the file.
        #[oai(header = "Content-Disposition")]
        String,
    ),
}

#[expect(clippy::too_many_arguments, reason = "each query parameter is an argument")]
#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Exports")]
impl Exports {
    /// Export codes, assignments, redemptions or events to a file
    ///
    /// Responds immediately with a job; `GET /jobs/{id}/file` returns its file. `CODES` and `ASSIGNMENTS` have each row that existed
    /// when the export was requested exactly once, with the values that it had when it was read, between `readFrom` and `readTo` of
    /// the result. `REDEMPTIONS` and `EVENTS` are exactly those that existed when the export was requested. Without `couponBookId`
    /// the export is of all books of the business.
    #[oai(path = "/exports", method = "post", operation_id = "createExport")]
    async fn create(
        &self,
        caller: Caller,
        body: Body<ExportToSubmit, NewExportBody>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<JobView, 202>, Problem> {
        let ExportToSubmit(export) = body.value;
        caller.must_have_book_of_list(export.book)?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let actor = caller.principal.to_string();
        let submit = async move { store.submit_export(stored, business, &actor, export).await };
        let answer = caller.app.run(submit).await?;
        Ok(Reply::of(answer, JobView::from)?.at(|job| format!("/api/v1/jobs/{}", job.id)))
    }

    /// Get the file of an export
    ///
    /// The file is kept for 7 days. One range of bytes can be requested, so a download that was interrupted can be continued. If the
    /// files of the installation are in S3, the response is a redirect to a link that is valid for 15 minutes, unless `redirect` is
    /// `false`.
    #[oai(path = "/jobs/:id/file", method = "get", operation_id = "getExportFile")]
    async fn file(
        &self,
        caller: Caller,
        request: &Request,
        /// The job of the export.
        id: Path<Uuid>,
        /// `false`: send the file even if it is in S3.
        redirect: Query<Option<bool>>,
        /// `bytes=` and one range: the bytes to send.
        #[oai(name = "Range")]
        _range: Header<Option<String>>,
        /// The `ETag` of a file: the range is sent only if the file is still this one, otherwise the whole file.
        #[oai(name = "If-Range")]
        _if_range: Header<Option<String>>,
        /// The `ETag` of a file that the client has: 304 if it is still this one.
        #[oai(name = "If-None-Match")]
        _if_none_match: Header<Option<String>>,
    ) -> Result<FileAnswer, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        file::answer(&caller, request.headers(), JobId(id.0), redirect.0.unwrap_or(true)).await
    }

    /// Export the codes of a book at once
    ///
    /// The response begins immediately and is read from the database while it is sent. Each code that existed at the request is sent
    /// exactly once, with the values that it has when it is read. For large books `POST /exports` makes a file whose download can be
    /// continued.
    ///
    /// The response pauses while no code matches the filter. If an import of the book runs or failed, its codes come last, after a search in
    /// all codes of the business: retry a failed import, or retry and cancel it, before the export of a large book, or use `POST /exports`.
    #[oai(path = "/coupon-codes/book/:bookId/export", method = "get", operation_id = "exportCodes")]
    async fn codes(
        &self,
        caller: Caller,
        /// The book.
        #[oai(name = "bookId")]
        book: Path<Uuid>,
        /// `AVAILABLE`, `ASSIGNED`, `LOCKED`, `REDEEMED` or `VOID`.
        status: Query<Option<String>>,
        /// Only codes that were created from this time on.
        from: Query<Option<DateTime<Utc>>>,
        /// Only codes that were created before this time.
        to: Query<Option<DateTime<Utc>>>,
        /// `true`: begin with a byte order mark, which some spreadsheets need to recognize UTF-8.
        bom: Query<Option<bool>>,
        /// `,` (if absent), `;`, `tab` or `|`.
        delimiter: Query<Option<String>>,
        /// `true`: text that begins like a formula stays as it is.
        raw: Query<Option<bool>>,
        /// A URL with `{code}`: adds a column `link`.
        #[oai(name = "linkTemplate")]
        link_template: Query<Option<String>>,
    ) -> Result<Streamed, Problem> {
        let book = BookId(book.0);
        caller.must_have_book(book)?;
        let filter = Filter {
            status: word("status", status.0, CouponStatus::parse, STATUSES)?,
            from: time("from", from.0)?,
            to: time("to", to.0)?,
        };
        let format = Format {
            bom: bom.0.unwrap_or(false),
            delimiter: word("delimiter", delimiter.0, |text| text.parse().ok(), Delimiter::EXPECTED)?
                .unwrap_or_default(),
            raw: raw.0.unwrap_or(false),
            link_template: link_template.0,
        };
        must_make_sense(cuponera_domain::export::faults(ExportKind::Codes, &filter, &format))?;
        let place = caller.app.store.first_code_of_book(caller.business(), book).await?;
        let pages = codes_csv(caller.store(), caller.business(), filter, format, place);
        let pages = pages.map_err(|error: Error| std::io::Error::other(error.chain()));
        let disposition = format!("attachment; filename=\"codes-{book}.csv\"");
        Ok(Streamed::Csv(Binary(RawBody::from_bytes_stream(pages)), disposition))
    }
}

fn must_make_sense(faults: Vec<FieldError>) -> Result<()> {
    if faults.is_empty() { Ok(()) } else { Err(Rejection::Invalid { faults }.into()) }
}

/// The codes from a place on, a page at a time. No connection is held while a page is sent to the client.
fn codes_csv(
    store: Store,
    business: BusinessId,
    filter: Filter,
    format: Format,
    place: Place,
) -> impl Stream<Item = Result<bytes::Bytes>> + Send {
    let mut header = CsvRows::new(ExportKind::Codes, format.clone());
    header.header();
    let header = stream::once(async { Ok(bytes::Bytes::from(header.into_bytes())) });
    let pages = stream::try_unfold(Some(place), move |place| {
        let (store, format) = (store.clone(), format.clone());
        async move {
            let Some(place) = place else { return Ok(None) };
            // Only redemptions and events have a snapshot.
            let snapshot = Snapshot { epoch: 0, transactions: String::new() };
            let what = Exported {
                business,
                kind: ExportKind::Codes,
                book: None,
                filter: &filter,
                snapshot: &snapshot,
            };
            let page = store.export_page(&what, None, place).await?;
            let mut csv = CsvRows::new(ExportKind::Codes, format);
            for row in &page.rows {
                if let ExportRow::Coupon(coupon) = row {
                    csv.coupon(coupon);
                }
            }
            Ok(Some((bytes::Bytes::from(csv.into_bytes()), page.next)))
        }
    });
    // An empty piece would end a chunked body.
    header.chain(pages.try_filter(|piece| std::future::ready(!piece.is_empty())))
}
