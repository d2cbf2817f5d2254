//! The operations that assign codes to users.

mod doc;
mod request;
mod upload;
mod view;

use cuponera_domain::coupon::code::Code;
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::BookId;
use cuponera_store::Result;
use cuponera_store::{AssignNamed, AssignRandom, Call, HeldFilter, Revoke};
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use uuid::Uuid;

use super::codes::STATUSES;
use super::coupons::{CouponView, call, normalized};
use super::list::{sealed, sealed_cursor, time_and_rest};
use super::undo::UndoRequest;
use super::{List, Tag, limit, word};
use crate::auth::caller::Caller;
use crate::http::body::Body;
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use request::{NamedAssignment, RandomAssignment};
use view::{AssignmentView, RevokedView};

pub(super) use doc::operations;
pub(crate) use upload::AssignmentUploads;

pub(crate) struct Assignments;

#[OpenApi(prefix_path = "/api/v1/assignments", tag = "Tag::Assignments")]
impl Assignments {
    /// Assign a random free code of a book to a user
    ///
    /// 409 `sold_out`, `user_limit_reached`, `book_not_active`, `book_not_started` or `book_expired` if none can be assigned. With a
    /// `recipientKey` a repeated request returns 200 and the code that was assigned first, whatever its status and that of the book;
    /// 409 `recipient_key_used` if it was assigned to another user, or was revoked.
    #[oai(path = "/random", method = "post", operation_id = "assignRandom")]
    async fn random(
        &self,
        caller: Caller,
        body: Body<RandomAssignment>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<AssignmentView, 201, 200>, Problem> {
        let user = caller.user(body.value.user_id)?;
        caller.must_have_book(BookId(body.value.coupon_book_id))?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let lane = user.clone();
        let call = Call {
            business: caller.business(),
            visibility: caller.visibility(),
            audit: caller.audit(),
            key: held.stored(),
            ask: AssignRandom {
                book: BookId(body.value.coupon_book_id),
                user,
                recipient_key: body.value.recipient_key,
            },
        };
        let answer = caller.app.assign_random.execute(&lane, &caller.claimant, call).await?;
        Ok(Reply::of(answer, AssignmentView::from)?.other_if(|assignment| assignment.repeated))
    }

    /// Assign a given code to a user
    ///
    /// 200 if the user already holds it, 409 `already_assigned` if another user does.
    #[oai(path = "/:code", method = "post", operation_id = "assignCode")]
    async fn named(
        &self,
        caller: Caller,
        /// The code.
        code: Path<String>,
        body: Body<NamedAssignment>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<AssignmentView, 201, 200>, Problem> {
        let code = normalized(&code.0)?;
        let user = caller.user(Some(body.value.user_id))?;
        caller.must_have_book_of_code(&code).await?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let lane = code.clone();
        let call = Call {
            business: caller.business(),
            visibility: caller.visibility(),
            audit: caller.audit(),
            key: held.stored(),
            ask: AssignNamed { code, user },
        };
        let answer = caller.app.assign_named.execute(&lane, &caller.claimant, call).await?;
        Ok(Reply::of(answer, AssignmentView::from)?.other_if(|assignment| assignment.repeated))
    }

    /// Take a code back from its holder
    ///
    /// The code is free again, and so is its place in `maxCodesPerUser`. 409 `not_assigned` if no user holds it, `coupon_locked` if it
    /// is locked, `coupon_already_redeemed` if it was ever used: such a code can be voided.
    #[oai(path = "/:code/revoke", method = "post", operation_id = "revokeCode")]
    async fn revoke(
        &self,
        caller: Caller,
        /// The code.
        code: Path<String>,
        body: Body<UndoRequest>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<RevokedView>, Problem> {
        let code = normalized(&code.0)?;
        caller.must_have_book_of_code(&code).await?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let lane = code.clone();
        let UndoRequest { reason, user_id } = body.value;
        let ask = Revoke { code, user: user_id, assignment: None, reason };
        let answer = caller.app.revoke.execute(&lane, &caller.claimant, call(&caller, &held, ask)).await?;
        Reply::of(answer, RevokedView::from)
    }

    /// List a user's coupons, in the order of assignment
    ///
    /// With the `SHARED` codes that the user has redeemed or locked, at the time of the first of these; `user` has the user's uses.
    ///
    /// A page may be short or empty before the end of the list: only `nextCursor` shows whether there are more.
    #[oai(path = "/user/:userId", method = "get", operation_id = "listUserCoupons")]
    async fn of_user(
        &self,
        caller: Caller,
        /// The holder.
        #[oai(name = "userId")]
        user: Path<String>,
        /// Only coupons of this book.
        #[oai(name = "couponBookId")]
        book: Query<Option<Uuid>>,
        /// `ASSIGNED`, `LOCKED`, `REDEEMED` or `VOID`.
        status: Query<Option<String>>,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<CouponView>>, Problem> {
        let user = caller.user(Some(user.0))?;
        caller.must_have_book_of_list(book.0.map(BookId))?;
        let filter = HeldFilter {
            book: book.0.map(BookId),
            status: word("status", status.0, CouponStatus::parse, STATUSES)?,
            after: sealed_cursor(&caller, cursor.0, |text| {
                let (at, code) = time_and_rest(text)?;
                Some((at, Code::parse(code).ok()?.into_string()))
            })?,
        };
        let limit = self::limit(limit.0)?;
        let page = caller.app.store.list_held(caller.business(), &user, &filter, limit).await?;
        let visibility = caller.visibility();
        Ok(Json(List::of(sealed(&caller, page)?, |of_user| CouponView::from(of_user).seen_by(visibility))))
    }
}
