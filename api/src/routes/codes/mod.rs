//! The operations that create codes, alone or from patterns, and list them.

mod doc;
mod request;
mod view;

use chrono::{DateTime, Utc};
use cuponera_domain::coupon::code::Code;
use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::coupon::space::CodeSpace;
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::{BookId, JobId};
use cuponera_domain::rejection::Rejection;
use cuponera_platform::credential::random_secret;
use cuponera_store::{CodeFilter, NewSharedCode};
use cuponera_store::{Error, Result};
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use uuid::Uuid;

use super::coupons::CouponView;
use super::list::{sealed, sealed_cursor, time_and_rest, time_range};
use super::{JobView, List, Tag, limit, plain, word};
use crate::auth::caller::Caller;
use crate::http::body::Body;
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use request::{Generation, NewCode};
use view::{Capacity, CodeView};

pub(super) use doc::operations;

/// The default pattern: 60 bits.
const DEFAULT_PATTERN: &str = "{XXXXXXXXXXXX}";
/// Number of samples in the response of `capacity`.
const SAMPLES: u64 = 5;
pub(super) const STATUSES: &str = "AVAILABLE, ASSIGNED, LOCKED, REDEEMED, VOID";

pub(crate) struct Codes;

#[expect(clippy::too_many_arguments, reason = "each query parameter is an argument")]
#[OpenApi(prefix_path = "/api/v1/coupon-codes", tag = "Tag::CouponCodes")]
impl Codes {
    /// Get the capacity of a pattern
    #[oai(path = "/capacity", method = "get", operation_id = "getCapacity")]
    async fn capacity(
        &self,
        caller: Caller,
        /// The book for which codes would be generated.
        #[oai(name = "couponBookId")]
        book: Query<Uuid>,
        /// `{XXXXXXXXXXXX}` if absent.
        pattern: Query<Option<String>>,
    ) -> Result<Json<Capacity>, Problem> {
        caller.must_have_book(BookId(book.0))?;
        caller.app.store.get_book(caller.business(), BookId(book.0)).await?;
        let pattern = parse_pattern(pattern.0.as_deref())?;
        let used = caller
            .app
            .store
            .find_space(caller.business(), &pattern.canonical())
            .await?
            .map_or(0, |space| space.used);
        let shown = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(Json(Capacity {
            codes: shown(pattern.capacity()),
            used,
            remaining: shown(pattern.capacity().saturating_sub(used.into())),
            chance_of_hit: pattern.chance_of_a_hit(used.into()),
            samples: samples(pattern.clone()).await?,
            pattern: pattern.canonical(),
        }))
    }

    /// Create a code of a SHARED book
    ///
    /// Many users may redeem the code, within its limits. 409 `code_exists` if the business has the code. Books of other kinds get codes by
    /// generation and upload.
    #[oai(path = "/", method = "post", operation_id = "createCode")]
    async fn create(
        &self,
        caller: Caller,
        body: Body<NewSharedCode, NewCode>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<CouponView, 201>, Problem> {
        caller.must_have_book(body.value.book)?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let (store, business, stored, new) = (caller.store(), caller.business(), held.stored(), body.value);
        let location = format!("/api/v1/coupons/{}", new.code);
        let create = async move { store.create_shared_code(stored, business, &new).await };
        let answer = caller.app.run(create).await?;
        Ok(Reply::of(answer, CouponView::from)?.at(|_| location))
    }

    /// Generate codes from a pattern
    ///
    /// Responds immediately with a job. The codes cannot be guessed, are distinct, and are exactly as many as
    /// requested. If the pattern has too few codes left, none is generated, and `remaining` is the number that is
    /// left. Codes of a `SHARED` book get the limits of the request.
    #[oai(path = "/generate", method = "post", operation_id = "generateCodes")]
    async fn generate(
        &self,
        caller: Caller,
        body: Body<Generation>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<JobView, 202>, Problem> {
        caller.must_have_book(BookId(body.value.coupon_book_id))?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let pattern = parse_pattern(body.value.pattern.as_deref())?;
        let quantity = u64::try_from(body.value.quantity).map_err(Error::internal)?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let (actor, book) = (caller.principal.to_string(), BookId(body.value.coupon_book_id));
        let limits = body.value.limits();
        let submit = async move {
            store
                .submit_limited_generation(stored, business, &actor, book, &pattern, quantity, limits)
                .await
        };
        let answer = caller.app.run(submit).await?;
        Ok(Reply::of(answer, JobView::from)?.at(|job| format!("/api/v1/jobs/{}", job.id)))
    }

    /// List a book's codes
    ///
    /// In the order of the codes' positions in the book; with `userId` in the order of assignment, otherwise with `prefix` in the order of
    /// the codes. All filters can be combined. `total` is present if there is no filter. A page may be short or empty before the end of
    /// the list: only `nextCursor` shows whether there are more.
    #[oai(path = "/book/:bookId", method = "get", operation_id = "listCodes")]
    async fn list(
        &self,
        caller: Caller,
        /// The book.
        #[oai(name = "bookId")]
        book: Path<Uuid>,
        /// `AVAILABLE`, `ASSIGNED`, `LOCKED`, `REDEEMED` or `VOID`.
        status: Query<Option<String>>,
        /// The beginning of the codes.
        prefix: Query<Option<String>>,
        /// Only codes that this user holds or has redeemed.
        #[oai(name = "userId")]
        user: Query<Option<String>>,
        /// Only codes that this job of the book generated or imported.
        #[oai(name = "jobId")]
        job: Query<Option<Uuid>>,
        /// Only codes that were assigned to their holder from this time on.
        #[oai(name = "assignedFrom")]
        assigned_from: Query<Option<DateTime<Utc>>>,
        /// Only codes that were assigned to their holder before this time.
        #[oai(name = "assignedTo")]
        assigned_to: Query<Option<DateTime<Utc>>>,
        /// Only codes whose last redemption was at this time or later.
        #[oai(name = "redeemedFrom")]
        redeemed_from: Query<Option<DateTime<Utc>>>,
        /// Only codes whose last redemption was before this time.
        #[oai(name = "redeemedTo")]
        redeemed_to: Query<Option<DateTime<Utc>>>,
        /// `nextCursor` of the previous page.
        #[oai(name = "cursor")]
        after: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<CodeView>>, Problem> {
        caller.must_have_book(BookId(book.0))?;
        let book = caller.app.store.get_book(caller.business(), BookId(book.0)).await?;
        let user = user.0.map(|user| caller.user(Some(user))).transpose()?;
        let (after_assigned_at, after) =
            sealed_cursor(&caller, after.0, |text| place(text, user.is_some()))?.unzip();
        let filter = CodeFilter {
            status: word("status", status.0, CouponStatus::parse, STATUSES)?,
            prefix: self::prefix("prefix", prefix.0)?,
            user,
            job: job.0.map(JobId),
            assigned: time_range(("assignedFrom", assigned_from.0), ("assignedTo", assigned_to.0))?,
            redeemed: time_range(("redeemedFrom", redeemed_from.0), ("redeemedTo", redeemed_to.0))?,
            after,
            after_assigned_at: after_assigned_at.flatten(),
        };
        let mut page = caller.app.store.list_codes(&book, &filter, self::limit(limit.0)?).await?;
        page.total = filter.is_whole_book().then(|| book.counts.all());
        if filter.examines_all_books() {
            page = sealed(&caller, page)?;
        }
        Ok(Json(List::of(page, CodeView::from)))
    }
}

/// Parses the cursor of a list of codes: a code, in lists of a user after the time of its assignment.
fn place(text: &str, is_of_user: bool) -> Option<(Option<DateTime<Utc>>, String)> {
    let (at, code) = if is_of_user {
        let (at, code) = time_and_rest(text)?;
        (Some(at), code)
    } else {
        (None, text)
    };
    Some((at, Code::parse(code).ok()?.into_string()))
}

/// Parses the beginning of codes, as codes are stored; none if it is blank.
pub(super) fn prefix(name: &str, text: Option<String>) -> Result<Option<String>> {
    let prefix = plain(name, text)?.map(|prefix| prefix.trim().to_uppercase());
    Ok(prefix.filter(|prefix| !prefix.is_empty()))
}

fn parse_pattern(text: Option<&str>) -> Result<Pattern> {
    Pattern::parse(text.unwrap_or(DEFAULT_PATTERN))
        .map_err(|error| Rejection::invalid("pattern", error.to_string()).into())
}

/// Codes of a permutation whose key is generated for this response and then discarded.
async fn samples(pattern: Pattern) -> Result<Vec<String>> {
    let mut key = [0; 32];
    key.copy_from_slice(&random_secret(16)?.as_bytes()[..32]);
    let count = u64::try_from(pattern.capacity()).unwrap_or(u64::MAX).min(SAMPLES);
    let made = tokio::task::spawn_blocking(move || CodeSpace::new(pattern, &key).codes(0..count));
    let codes = made.await.map_err(Error::internal)?.map_err(Error::internal)?;
    Ok(codes.iter().map(str::to_owned).collect())
}
