//! The operations that lock, redeem and show a coupon.

mod doc;
mod request;
mod view;

use cuponera_domain::coupon::code::Code;
use cuponera_domain::coupon::limits::CodePatch;
use cuponera_domain::id::LockId;
use cuponera_domain::principal::{Permission, Role};
use cuponera_domain::rejection::Rejection;
use cuponera_store::Result;
use cuponera_store::{Call, Lock, LockOwner, Redeem, Unlock, Visibility, Void};
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;

use super::codes::prefix;
use super::list::{sealed, sealed_cursor};
use super::undo::UndoRequest;
use super::{List, Tag, cursor, limit};
use crate::auth::caller::Caller;
use crate::http::body::{Body, OptionalBody};
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use request::{CodeChange, LockRequest, RedeemRequest, UnlockRequest, ValidateRequest};
use view::{EventView, LockView, RedemptionView, UnlockView, Validation, VoidView};

pub(super) use doc::{OF_THE_BOOK, OF_THE_HOLDER, operations};
pub(super) use view::{CouponView, limit_shown};

pub(crate) struct Coupons;

#[OpenApi(prefix_path = "/api/v1/coupons", tag = "Tag::Coupons")]
impl Coupons {
    /// Lock a code for its holder
    ///
    /// A repeated request renews the same lock. 409 `not_assigned`, `coupon_already_redeemed`, `coupon_void`,
    /// `book_not_active`; for a trusted caller also 409 `not_holder` or `coupon_locked` if another user holds it. A free code of a
    /// `BEARER` book is assigned to the user and locked, in one step; 409 `user_limit_reached` if the user has `maxCodesPerUser` codes.
    ///
    /// Of a `SHARED` code one use is locked for the user: 409 `redeem_limit_reached` if the user has made or locked all its uses,
    /// `coupon_locked` if the users have locked all uses that are left, until the first of these locks ends.
    #[oai(path = "/:code/lock", method = "post", operation_id = "lockCoupon")]
    async fn lock(
        &self,
        caller: Caller,
        /// The code.
        code: Path<String>,
        body: OptionalBody<LockRequest>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<LockView>, Problem> {
        let body = body.0;
        let user = caller.user(body.value.user_id)?;
        let code = normalized(&code.0)?;
        caller.must_have_book_of_code(&code).await?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let lane = code.clone();
        let call = call(&caller, &held, Lock { code, user, ttl_seconds: body.value.ttl_seconds });
        Reply::of(caller.app.lock.execute(&lane, &caller.claimant, call).await?, LockView::from)
    }

    /// Release a lock
    ///
    /// Releasing a code that is not locked succeeds.
    #[oai(path = "/:code/unlock", method = "post", operation_id = "unlockCoupon")]
    async fn unlock(
        &self,
        caller: Caller,
        /// The code.
        code: Path<String>,
        body: OptionalBody<UnlockRequest>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<UnlockView>, Problem> {
        let body = body.0;
        let owner = if body.value.force {
            caller.must_have(Permission::ForceUnlock)?;
            LockOwner::Anyone
        } else {
            LockOwner::User(caller.user(body.value.user_id)?)
        };
        let code = normalized(&code.0)?;
        caller.must_have_book_of_code(&code).await?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let lane = code.clone();
        let call = call(&caller, &held, Unlock { code, owner, lock: body.value.lock_id.map(LockId) });
        let answer = caller.app.unlock.execute(&lane, &caller.claimant, call).await?;
        Reply::of(answer, UnlockView::from)
    }

    /// Redeem a code once
    ///
    /// 409 `coupon_already_redeemed` after the last allowed redemption, `lock_required` if the book requires a lock, `lock_stale`
    /// if the coupon has another lock than the given one; 410 `lock_expired` if the given lock expired. With a `reference` a repeated request
    /// of the user returns the first redemption, with `replayed`; 409 `already_rolled_back` if that was rolled back, `reference_used` if
    /// another user made it.
    ///
    /// A free code of a `BEARER` book is assigned to the user and redeemed, in one step; 409 `user_limit_reached` if the user has
    /// `maxCodesPerUser` codes. A trusted caller may omit `userId` for a code of such a book: the holder of a free code is then
    /// `bearer:<code>`.
    ///
    /// A `SHARED` code is redeemed by many users: 409 `coupon_already_redeemed` if all its redemptions are made, `redeem_limit_reached` if
    /// those of the user are, `user_limit_reached` if the user uses `maxCodesPerUser` other codes of the book, `coupon_locked` if the users
    /// have locked all redemptions that are left.
    #[oai(path = "/:code/redeem", method = "post", operation_id = "redeemCoupon")]
    async fn redeem(
        &self,
        caller: Caller,
        /// The code.
        code: Path<String>,
        body: OptionalBody<RedeemRequest>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<RedemptionView>, Problem> {
        let body = body.0;
        let presenter = caller.presenter(body.value.user_id)?;
        let code = normalized(&code.0)?;
        caller.must_have_book_of_code(&code).await?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let lane = code.clone();
        let ask = Redeem {
            code,
            presenter,
            lock: body.value.lock_id.map(LockId),
            reference: body.value.reference,
            metadata: body.value.metadata,
        };
        let answer = caller.app.redeem.execute(&lane, &caller.claimant, call(&caller, &held, ask)).await?;
        Reply::of(answer, RedemptionView::from)
    }

    /// Check whether a code can be redeemed now
    ///
    /// Makes the same checks and returns the same problems as redeem, and changes nothing.
    #[oai(path = "/:code/validate", method = "post", operation_id = "validateCoupon")]
    async fn validate(
        &self,
        caller: Caller,
        /// The code.
        code: Path<String>,
        body: OptionalBody<ValidateRequest>,
    ) -> Result<Json<Validation>, Problem> {
        let body = body.0.value;
        let presenter = caller.presenter(body.user_id)?;
        let code = normalized(&code.0)?;
        caller.must_have_book_of_code(&code).await?;
        let ask = Redeem {
            code: code.clone(),
            presenter,
            lock: body.lock_id.map(LockId),
            reference: None,
            metadata: None,
        };
        let call = Call {
            business: caller.business(),
            visibility: caller.visibility(),
            audit: caller.audit(),
            key: None,
            ask,
        };
        caller.app.store.validate(&call).await?;
        let coupon = caller.app.store.get_coupon(caller.business(), &code).await?;
        let coupon = CouponView::from(coupon).seen_by(caller.visibility());
        Ok(Json(Validation { valid: true, coupon }))
    }

    /// End a code permanently
    ///
    /// A live lock ends too, and the code no longer counts for `maxCodesPerUser`. Voiding a void code succeeds; 409
    /// `coupon_already_redeemed` if all its uses are made.
    #[oai(path = "/:code/void", method = "post", operation_id = "voidCoupon")]
    async fn void(
        &self,
        caller: Caller,
        /// The code.
        code: Path<String>,
        body: Body<UndoRequest>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<VoidView>, Problem> {
        let code = normalized(&code.0)?;
        caller.must_have_book_of_code(&code).await?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let lane = code.clone();
        let UndoRequest { reason, user_id } = body.value;
        let ask = Void { code, user: user_id, only: None, reason };
        let answer = caller.app.void.execute(&lane, &caller.claimant, call(&caller, &held, ask)).await?;
        Reply::of(answer, |voided| VoidView { code: voided.code, status: "VOID".into() })
    }

    /// Get a coupon
    ///
    /// A USER gets its own coupons, the codes of `SHARED` books and the free codes of `BEARER` books.
    #[oai(path = "/:code", method = "get", operation_id = "getCoupon")]
    async fn get(
        &self,
        caller: Caller,
        /// The code.
        code: Path<String>,
        /// Adds the uses of a `SHARED` code by this user. A USER may name only itself.
        #[oai(name = "userId")]
        user: Query<Option<String>>,
    ) -> Result<Json<CouponView>, Problem> {
        let code = normalized(&code.0)?;
        let user = user.0.map(|user| caller.user(Some(user))).transpose()?;
        caller.must_have_book_of_code(&code).await?;
        let (store, business) = (&caller.app.store, caller.business());
        let coupon = store.get_coupon(business, &code).await?;
        let is_visible = is_own(&caller, coupon.holder.as_deref()) || coupon.is_visible_to_all();
        if caller.visibility() == Visibility::OwnOnly && !is_visible {
            return Err(Rejection::not_found("coupon").into());
        }
        let uses = match user.filter(|_| coupon.shared.is_some()) {
            Some(user) => Some(store.uses_of_user(business, &code, &user).await?),
            None => None,
        };
        Ok(Json(CouponView::from(coupon).with_uses(uses).seen_by(caller.visibility())))
    }

    /// Change the limits of a code, or suspend it
    ///
    /// The limits are only those of codes of `SHARED` books, and are not set below the redemptions that are made or locked. A code of any
    /// kind can be suspended: it is then neither locked nor redeemed nor assigned (409 `coupon_suspended`). Locks continue, and end.
    /// 409 `coupon_void` if the code is void.
    #[oai(path = "/:code", method = "patch", operation_id = "updateCoupon")]
    async fn change(
        &self,
        caller: Caller,
        /// The code.
        code: Path<String>,
        body: Body<CodePatch, CodeChange>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<CouponView>, Problem> {
        let code = normalized(&code.0)?;
        caller.must_have_book_of_code(&code).await?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let (audit, patch) = (caller.audit(), body.value);
        let change = async move { store.change_code(stored, business, &code, patch, &audit).await };
        Reply::of(caller.app.run(change).await?, CouponView::from)
    }

    /// Find codes of all books
    ///
    /// The coupons whose codes begin with `q`, in the order of their codes. An API key that is limited to some books finds the codes of
    /// these books; its pages may be short or empty before the end of the list.
    #[oai(path = "/", method = "get", operation_id = "findCoupons")]
    async fn find(
        &self,
        caller: Caller,
        /// The beginning of the codes, in upper or lower case.
        q: Query<String>,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<CouponView>>, Problem> {
        let prefix = prefix("q", Some(q.0))?.ok_or_else(|| Rejection::invalid("q", "must not be blank"))?;
        let after = sealed_cursor(&caller, cursor.0, |text| Code::parse(text).ok().map(Code::into_string))?;
        let limit = self::limit(limit.0)?;
        let (store, business, books) = (&caller.app.store, caller.business(), caller.books());
        let page = store.find_coupons(business, books, &prefix, after.as_deref(), limit).await?;
        Ok(Json(List::of(sealed(&caller, page)?, CouponView::from)))
    }

    /// List the events of a coupon, newest first
    ///
    /// Events of archived months are absent, so the oldest one may not be the assignment.
    #[oai(path = "/:code/history", method = "get", operation_id = "getCouponHistory")]
    async fn history(
        &self,
        caller: Caller,
        /// The code.
        code: Path<String>,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<EventView>>, Problem> {
        let code = normalized(&code.0)?;
        caller.must_have_book_of_code(&code).await?;
        let before = self::cursor(cursor.0, |text| text.parse::<i32>().ok())?;
        let limit = self::limit(limit.0)?;
        let page = caller.app.store.history(caller.business(), &code, before, limit).await?;
        Ok(Json(List::of(page, EventView::from)))
    }
}

pub(super) fn call<T>(caller: &Caller, held: &HeldKey, ask: T) -> Call<T> {
    Call {
        business: caller.business(),
        visibility: caller.visibility(),
        audit: caller.audit(),
        key: held.stored(),
        ask,
    }
}

fn is_own(caller: &Caller, holder: Option<&str>) -> bool {
    matches!(&caller.principal.role, Role::User { user_id } if holder == Some(user_id))
}

/// The stored form of a code. Text that is no valid code is 404.
pub(crate) fn normalized(text: &str) -> Result<String> {
    Code::parse(text).map(Code::into_string).map_err(|_| Rejection::not_found("coupon").into())
}
