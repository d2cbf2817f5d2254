//! The operations on coupon books.

use chrono::{DateTime, Utc};
use cuponera_core::book::{
    Book, BookPatch, BookRules, BookStatus, Change, DEFAULT_LOCK_TTL_SECONDS, Discount, DiscountKind,
};
use cuponera_core::error::{Error, Refusal, Result};
use cuponera_core::id::BookId;
use cuponera_core::principal::Role;
use cuponera_core::store::Deletion;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Tag, cursor, limit, plain, word};
use crate::auth::caller::Caller;
use crate::http::body::{Body, Fields, FromFields};
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use crate::routes::view::{BookView, DiscountKindView, DiscountView, JobView, List};

const STATUSES: &str = "DRAFT, ACTIVE, PAUSED, CLOSED";

pub(crate) struct Books;

/// A new book.
#[derive(Debug, Clone, Object)]
#[oai(rename_all = "camelCase")]
struct NewBook {
    /// 1 to 200 characters after trimming.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    #[oai(validator(max_length = 5000))]
    description: Option<String>,
    /// The number of codes that a user may hold or have redeemed; no limit if absent.
    #[oai(validator(minimum(value = "1")))]
    max_codes_per_user: Option<i32>,
    /// The number of times that a code may be redeemed; 1 if absent.
    #[oai(validator(minimum(value = "1")))]
    max_redeems_per_user: Option<i32>,
    /// For information only.
    #[oai(validator(minimum(value = "0")))]
    total_codes_expected: Option<i64>,
    /// The time from which codes are assigned and redeemed; immediately if absent.
    starts_at: Option<DateTime<Utc>>,
    /// The time until which codes are assigned and redeemed. Must be in the future and after `startsAt`; no end if
    /// absent.
    expires_at: Option<DateTime<Utc>>,
    /// The duration of a lock whose request does not state one; 300 if absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "86400")))]
    lock_ttl_seconds: Option<i32>,
    /// Whether a redemption requires a lock that has not expired; false if absent.
    require_lock: Option<bool>,
    discount: Option<DiscountView>,
    /// Any object of up to 16 KiB.
    metadata: Option<Value>,
    /// The caller's own business; others are rejected.
    business_id: Option<Uuid>,
}

impl FromFields for NewBook {
    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.required("name");
        let book = Self {
            name: String::new(),
            description: fields.optional("description"),
            max_codes_per_user: fields.optional("maxCodesPerUser"),
            max_redeems_per_user: fields.optional("maxRedeemsPerUser"),
            total_codes_expected: fields.optional("totalCodesExpected"),
            starts_at: fields.optional("startsAt"),
            expires_at: fields.optional("expiresAt"),
            lock_ttl_seconds: fields.optional("lockTtlSeconds"),
            require_lock: fields.optional("requireLock"),
            discount: discount(fields),
            metadata: fields.optional::<Map<String, Value>>("metadata").map(Value::Object),
            business_id: fields.optional("businessId"),
        };
        // Faults of ranges are reported with the others; a missing name has its fault already.
        let said = Self { name: name.clone().unwrap_or_else(|| "-".into()), ..book };
        if let Err(Refusal::Invalid { faults }) = BookRules::from(said.clone()).check() {
            for fault in faults {
                fields.fault(&fault.field, fault.message);
            }
        }
        if said.expires_at.is_some_and(|end| end <= Utc::now()) {
            fields.likely_fault("expiresAt", "must be in the future");
        }
        Some(Self { name: name?, ..said })
    }
}

fn discount(fields: &mut Fields) -> Option<DiscountView> {
    let object = fields.optional::<Map<String, Value>>("discount")?;
    fields.nested("discount", object)
}

impl FromFields for DiscountView {
    fn read(fields: &mut Fields) -> Option<Self> {
        let kind = fields.required::<String>("type");
        let kind = kind.and_then(|kind| fields.word("type", &kind, discount_kind, "PERCENT, FIXED"));
        let (value, currency) = (fields.required("value"), fields.optional("currency"));
        Some(Self { kind: kind?, value: value?, currency })
    }
}

fn discount_kind(name: &str) -> Option<DiscountKindView> {
    match name {
        "PERCENT" => Some(DiscountKindView::Percent),
        "FIXED" => Some(DiscountKindView::Fixed),
        _ => None,
    }
}

impl From<DiscountView> for Discount {
    fn from(view: DiscountView) -> Self {
        let kind = match view.kind {
            DiscountKindView::Percent => DiscountKind::Percent,
            DiscountKindView::Fixed => DiscountKind::Fixed,
        };
        Self { kind, value: view.value, currency: view.currency }
    }
}

impl From<NewBook> for BookRules {
    fn from(new: NewBook) -> Self {
        Self {
            name: new.name,
            description: new.description,
            max_codes_per_user: new.max_codes_per_user,
            max_redeems_per_user: new.max_redeems_per_user.unwrap_or(1),
            total_codes_expected: new.total_codes_expected,
            starts_at: new.starts_at,
            expires_at: new.expires_at,
            lock_ttl_seconds: new.lock_ttl_seconds.unwrap_or(DEFAULT_LOCK_TTL_SECONDS),
            require_lock: new.require_lock.unwrap_or(false),
            discount: new.discount.map(Discount::from),
            metadata: new.metadata,
        }
    }
}

/// A change of a book. Absent fields keep their values; null clears a field that may be null.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct BookChange {
    /// `ACTIVE` activates the book, `PAUSED` pauses it, `CLOSED` ends it permanently.
    status: Option<String>,
    #[oai(validator(min_length = 1, max_length = 200))]
    name: Option<String>,
    #[oai(validator(max_length = 5000))]
    description: Option<String>,
    /// No limit if null.
    #[oai(validator(minimum(value = "1")))]
    max_codes_per_user: Option<i32>,
    /// Cannot be lowered once codes are assigned.
    #[oai(validator(minimum(value = "1")))]
    max_redeems_per_user: Option<i32>,
    #[oai(validator(minimum(value = "0")))]
    total_codes_expected: Option<i64>,
    starts_at: Option<DateTime<Utc>>,
    /// Must be after `startsAt`. A past time ends the book now.
    expires_at: Option<DateTime<Utc>>,
    #[oai(validator(minimum(value = "1"), maximum(value = "86400")))]
    lock_ttl_seconds: Option<i32>,
    require_lock: Option<bool>,
    discount: Option<DiscountView>,
    metadata: Option<Value>,
    #[oai(skip)]
    patch: Patch,
}

/// The change, as a type of core.
#[derive(Debug, Default)]
struct Patch(BookPatch);

impl FromFields for BookChange {
    fn read(fields: &mut Fields) -> Option<Self> {
        let status = match fields.change::<String>("status") {
            Change::Keep => Change::Keep,
            Change::Set(name) => {
                fields.word("status", &name, BookStatus::parse, STATUSES).map_or(Change::Keep, Change::Set)
            }
        };
        let discount = match fields.change_or_clear::<Map<String, Value>>("discount") {
            Change::Keep => Change::Keep,
            Change::Set(None) => Change::Set(None),
            Change::Set(Some(object)) => fields
                .nested::<DiscountView>("discount", object)
                .map_or(Change::Keep, |discount| Change::Set(Some(discount.into()))),
        };
        let metadata = match fields.change_or_clear::<Map<String, Value>>("metadata") {
            Change::Keep => Change::Keep,
            Change::Set(map) => Change::Set(map.map(Value::Object)),
        };
        let patch = BookPatch {
            status,
            name: fields.change("name"),
            description: fields.change_or_clear("description"),
            max_codes_per_user: fields.change_or_clear("maxCodesPerUser"),
            max_redeems_per_user: fields.change("maxRedeemsPerUser"),
            total_codes_expected: fields.change_or_clear("totalCodesExpected"),
            starts_at: fields.change_or_clear("startsAt"),
            expires_at: fields.change_or_clear("expiresAt"),
            lock_ttl_seconds: fields.change("lockTtlSeconds"),
            require_lock: fields.change("requireLock"),
            discount,
            metadata,
        };
        Some(Self::of(patch))
    }
}

impl BookChange {
    fn of(patch: BookPatch) -> Self {
        Self {
            status: None,
            name: None,
            description: None,
            max_codes_per_user: None,
            max_redeems_per_user: None,
            total_codes_expected: None,
            starts_at: None,
            expires_at: None,
            lock_ttl_seconds: None,
            require_lock: None,
            discount: None,
            metadata: None,
            patch: Patch(patch),
        }
    }
}

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
        body: Body<NewBook>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<BookView, 201>, Problem> {
        let held = HeldKey::take(&caller, body.fingerprint)?;
        if body.value.business_id.is_some_and(|business| business != caller.business().0) {
            return Err(Refusal::Forbidden { reason: "businessId is not the caller's".into() }.into());
        }
        let rules = BookRules::from(body.value);
        let (store, business, stored) = (caller.app.store.clone(), caller.business(), held.stored());
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
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<BookView>>, Problem> {
        let mut status = word("status", status.0, BookStatus::parse, STATUSES)?;
        if matches!(caller.principal.role, Role::User { .. }) {
            if status.is_some_and(|status| status != BookStatus::Active) {
                return Err(Refusal::Forbidden { reason: "a USER can only see ACTIVE books".into() }.into());
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
            return Err(Refusal::not_found("coupon book").into());
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
        body: Body<BookChange>,
    ) -> Result<Json<BookView>, Problem> {
        Ok(Json(change(&caller, BookId(id.0), body.value.patch.0).await?))
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
        body: Body<BookChange>,
    ) -> Result<Json<BookView>, Problem> {
        Ok(Json(change(&caller, BookId(id.0), body.value.patch.0).await?))
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

/// The book with the fields that this caller may see.
fn view(caller: &Caller, book: Book) -> BookView {
    match caller.principal.role {
        Role::Admin | Role::Service => book.into(),
        Role::User { .. } => BookView::from(book).for_user(),
    }
}

async fn change(caller: &Caller, id: BookId, patch: BookPatch) -> Result<BookView> {
    caller.must_have_book(id)?;
    let (store, business) = (caller.app.store.clone(), caller.business());
    let answer = caller.app.run(async move { store.update_book(None, business, id, patch).await }).await?;
    answer.outcome.map(BookView::from).map_err(Error::from)
}
