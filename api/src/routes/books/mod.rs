//! The operations on coupon books.

mod doc;
mod request;
mod view;

use cuponera_domain::book::{Book, BookPatch, BookStatus};
use cuponera_domain::id::BookId;
use cuponera_domain::job::void_codes::Filter;
use cuponera_domain::principal::Role;
use cuponera_domain::rejection::Rejection;
use cuponera_store::{Deletion, VoidSelection};
use cuponera_store::{Error, Result};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::void::{BulkVoid, void_all};
use super::{JobView, List, Tag, cursor, limit, plain, word};
use crate::auth::caller::Caller;
use crate::http::body::{Body, OptionalBody};
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use request::{BookChange, BookToCreate, BookVoid, CloneRequest, NewBook};
use view::BookView;

pub(super) use doc::operations;
pub(super) use view::CountsView;

const STATUSES: &str = "DRAFT, ACTIVE, PAUSED, CLOSED";
const CODE_KINDS: &str = "UNIQUE, BEARER, SHARED";

pub(crate) struct Books;

#[derive(ApiResponse)]
enum Deleted {
    /// The book and its codes are deleted.
    #[oai(status = 204)]
    Gone,
    /// The book is closed, and the job deletes it.
    #[oai(status = 202)]
    Job(
        Json<Box<JobView>>,
        /// The path of the job.
        #[oai(header = "Location")]
        String,
    ),
}

#[OpenApi(prefix_path = "/api/v1/coupon-books", tag = "Tag::CouponBooks")]
impl Books {
    /// Create a book
    ///
    /// The book starts in status `DRAFT`: add codes, then set `status` to `ACTIVE`.
    #[oai(path = "/", method = "post", operation_id = "createCouponBook")]
    async fn create(
        &self,
        caller: Caller,
        body: Body<BookToCreate, NewBook>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<BookView, 201>, Problem> {
        let held = HeldKey::take(&caller, body.fingerprint)?;
        must_be_own(&caller, body.value.business_id)?;
        let rules = body.value.rules;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let answer = caller.app.run(async move { store.create_book(stored, business, &rules).await }).await?;
        Ok(Reply::of(answer, BookView::from)?.at(|book| format!("/api/v1/coupon-books/{}", book.id)))
    }

    /// List books, newest first
    ///
    /// A USER sees only active books, without `counts`, `generatedCount`, `totalCodesExpected` and `metadata`.
    /// `total` is absent if the business has more than 10,000 books. A page may be short or empty before the end of
    /// the list: only `nextCursor` shows whether there are more.
    #[oai(path = "/", method = "get", operation_id = "listCouponBooks")]
    async fn list(
        &self,
        caller: Caller,
        /// `DRAFT`, `ACTIVE`, `PAUSED` or `CLOSED`.
        status: Query<Option<String>>,
        /// Part of the name.
        q: Query<Option<String>>,
        /// The caller's business; 403 for another one.
        #[oai(name = "businessId")]
        business: Query<Option<Uuid>>,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<BookView>>, Problem> {
        must_be_own(&caller, business.0)?;
        let mut status = word("status", status.0, BookStatus::parse, STATUSES)?;
        if matches!(caller.principal.role, Role::User { .. }) {
            if status.is_some_and(|status| status != BookStatus::Active) {
                return Err(Rejection::Forbidden { reason: "a USER can only see ACTIVE books".into() }.into());
            }
            status = Some(BookStatus::Active);
        }
        let after = self::cursor(cursor.0, |text| text.parse::<BookId>().ok())?;
        let limit = self::limit(limit.0)?;
        let q = plain("q", q.0)?;
        let page = caller.app.store.list_books(caller.business(), status, q.as_deref(), after, limit).await?;
        Ok(Json(List::of(page, |book| view(&caller, book))))
    }

    /// Get a book
    ///
    /// A USER sees only active books, without `counts`, `generatedCount`, `totalCodesExpected` and `metadata`.
    #[oai(path = "/:id", method = "get", operation_id = "getCouponBook")]
    async fn get(
        &self,
        caller: Caller,
        /// The book.
        id: Path<Uuid>,
    ) -> Result<Json<BookView>, Problem> {
        caller.must_have_book(BookId(id.0))?;
        let book = caller.app.store.get_book(caller.business(), BookId(id.0)).await?;
        if matches!(caller.principal.role, Role::User { .. }) && book.status != BookStatus::Active {
            return Err(Rejection::not_found("coupon book").into());
        }
        Ok(Json(view(&caller, book)))
    }

    /// Change a book
    #[oai(path = "/:id", method = "patch", operation_id = "updateCouponBook")]
    async fn patch(
        &self,
        caller: Caller,
        /// The book.
        id: Path<Uuid>,
        body: Body<BookPatch, BookChange>,
    ) -> Result<Json<BookView>, Problem> {
        Ok(Json(change(&caller, BookId(id.0), body.value).await?))
    }

    /// Change a book
    ///
    /// The same as PATCH: absent fields keep their values.
    #[oai(path = "/:id", method = "put", operation_id = "replaceCouponBook")]
    async fn put(
        &self,
        caller: Caller,
        /// The book.
        id: Path<Uuid>,
        body: Body<BookPatch, BookChange>,
    ) -> Result<Json<BookView>, Problem> {
        Ok(Json(change(&caller, BookId(id.0), body.value).await?))
    }

    /// Create a book with the rules of another one
    ///
    /// The new book starts in status `DRAFT` and has no codes. `startsAt` and `expiresAt` are omitted if they have passed.
    #[oai(path = "/:id/clone", method = "post", operation_id = "cloneCouponBook")]
    async fn create_clone(
        &self,
        caller: Caller,
        /// The book.
        id: Path<Uuid>,
        body: OptionalBody<CloneRequest>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<BookView, 201>, Problem> {
        let body = body.0;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let clone = async move { store.clone_book(stored, business, BookId(id.0), body.value.name).await };
        let answer = caller.app.run(clone).await?;
        Ok(Reply::of(answer, BookView::from)?.at(|book| format!("/api/v1/coupon-books/{}", book.id)))
    }

    /// Void the codes of a book
    ///
    /// The job ends all codes of the book permanently that are not redeemed. With `dryRun` the response is 200 with the codes
    /// by status, and nothing changes.
    #[oai(path = "/:id/void", method = "post", operation_id = "voidCouponBook")]
    async fn void(
        &self,
        caller: Caller,
        /// The book.
        id: Path<Uuid>,
        body: Body<BookVoid>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<BulkVoid, Problem> {
        caller.must_have_book(BookId(id.0))?;
        let selection = VoidSelection::Book(BookId(id.0), Filter::default());
        void_all(&caller, body.fingerprint, selection, body.value.reason, body.value.dry_run).await
    }

    /// Delete a book and its codes
    ///
    /// Allowed only while no code of the book was ever assigned; otherwise the book is unchanged. A book of more than
    /// 10000 codes is closed and deleted by a job: the response is 202 with the job. A repeated call returns the same
    /// job while it is open. If the job is cancelled or fails, another call deletes the rest. If a code was being
    /// assigned while the book was closed, the job fails with `book_in_use`, and the book gets its previous status
    /// back.
    #[oai(path = "/:id", method = "delete", operation_id = "deleteCouponBook")]
    async fn delete(
        &self,
        caller: Caller,
        /// The book.
        id: Path<Uuid>,
    ) -> Result<Deleted, Problem> {
        caller.must_have_book(BookId(id.0))?;
        let (store, business, actor) = (caller.store(), caller.business(), caller.principal.to_string());
        let delete = async move { store.delete_book_if_unused(business, &actor, BookId(id.0)).await };
        Ok(match caller.app.run(delete).await? {
            Deletion::Done => Deleted::Gone,
            Deletion::Job(job) => {
                let location = format!("/api/v1/jobs/{}", job.id);
                Deleted::Job(Json(Box::new(JobView::from(*job))), location)
            }
        })
    }
}

/// Rejects the id of another business.
fn must_be_own(caller: &Caller, business: Option<Uuid>) -> Result<()> {
    if business.is_some_and(|business| business != caller.business().0) {
        return Err(Rejection::Forbidden { reason: "businessId is not the caller's".into() }.into());
    }
    Ok(())
}

/// The book with the fields that this caller may see.
fn view(caller: &Caller, book: Book) -> BookView {
    match caller.principal.role {
        Role::Admin | Role::Service => book.into(),
        Role::User { .. } => BookView::from(book).for_user(),
    }
}

async fn change(caller: &Caller, id: BookId, patch: BookPatch) -> Result<BookView> {
    caller.must_have_book(id)?;
    let (store, business) = (caller.store(), caller.business());
    let answer = caller.app.run(async move { store.update_book(None, business, id, patch).await }).await?;
    answer.outcome.map(BookView::from).map_err(Error::from)
}
