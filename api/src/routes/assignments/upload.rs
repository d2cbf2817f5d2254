//! The upload of assignments: existing codes of a book for the users that a file names.

use cuponera_domain::csv::Content;
use cuponera_domain::id::BookId;
use futures::FutureExt;
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Query};
use uuid::Uuid;

use crate::auth::caller::Caller;
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use crate::http::request_permit;
use crate::routes::uploads::{Parameters, Texts, UploadBody, finish_codes, receive, submit_parts};
use crate::routes::{JobView, Tag};

pub(crate) struct AssignmentUploads;

#[OpenApi(prefix_path = "/api/v1/assignments", tag = "Tag::Assignments")]
impl AssignmentUploads {
    /// Assign existing codes to users by a CSV file
    ///
    /// Each row has a code of the book and a user. The format is detected as in an import of codes; without a header, the two columns of
    /// the file are the code and the user. A row assigns its code, or counts as succeeded if the user holds the code already; otherwise it
    /// is rejected, and `GET /jobs/{id}/errors` has the reason. Of several rows with one code the first counts. As for
    /// `POST /assignments/{code}`, the book must be `ACTIVE`, started and not expired: otherwise the response is 409, and a job that finds
    /// the book changed fails and can be retried.
    ///
    /// In a form each parameter may be a field instead; `delimiter`, `header`, `codeColumn` and `userColumn` must come before the file.
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the operation")]
    #[oai(path = "/upload", method = "post", operation_id = "uploadAssignments")]
    async fn upload(
        &self,
        caller: Caller,
        /// The book of the codes; in a form it may be a field instead.
        #[oai(name = "couponBookId")]
        book: Query<Option<Uuid>>,
        /// Only count the rows; assign nothing.
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
        let texts = Texts { delimiter: delimiter.0, code_column: code_column.0, user_column: user_column.0 };
        let mut parameters = Parameters::of_codes(Content::Assignments, book.0, dry_run.0, header.0, texts)?;
        if let Some(book) = parameters.book {
            caller.must_have_book(BookId(book))?;
        }
        let _slot = request_permit::take(&caller.app.uploads, &caller.claimant)?;
        let held = HeldKey::take(&caller, Uuid::nil())?;
        // A key may have a stored response, whatever the book's status is now.
        if let (Some(book), None) = (parameters.book, &caller.key) {
            caller.app.store.check_book_assignable(caller.business(), BookId(book)).await?;
        }
        let mut intake = receive(&caller, body, &mut parameters).await?;
        let (stored, import) = finish_codes(&caller, &held, &mut intake, &parameters).await?;
        let (store, business, actor) = (caller.store(), caller.business(), caller.principal.to_string());
        let change = async move { store.submit_assignments(stored, business, &actor, import).await };
        submit_parts(&caller, intake, change.boxed()).await
    }
}
