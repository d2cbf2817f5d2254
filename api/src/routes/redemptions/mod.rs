//! The operations on redemptions: read, and rolled back.

mod doc;
mod view;

use chrono::{DateTime, Utc};
use cuponera_domain::coupon::redemption::Redemption;
use cuponera_domain::id::{BookId, RedemptionId};
use cuponera_domain::principal::Role;
use cuponera_domain::rejection::Rejection;
use cuponera_store::{RedemptionFilter, Rollback};
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use uuid::Uuid;

use super::coupons::call;
use super::list::{time, time_and_rest};
use super::undo::UndoRequest;
use super::{List, Tag, cursor, limit, plain};
use crate::auth::caller::Caller;
use crate::http::body::Body;
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use view::{PastRedemptionView, RollbackView};

pub(super) use doc::operations;

pub(crate) struct Redemptions;

#[expect(clippy::too_many_arguments, reason = "each query parameter is an argument")]
#[OpenApi(prefix_path = "/api/v1/redemptions", tag = "Tag::Redemptions")]
impl Redemptions {
    /// List redemptions, newest first
    ///
    /// A USER sees only its own, without `metadata`. A page may be short or empty before the end of the list: only
    /// `nextCursor` shows whether there are more.
    #[oai(path = "/", method = "get", operation_id = "listRedemptions")]
    async fn list(
        &self,
        caller: Caller,
        /// Only of codes of this book.
        #[oai(name = "couponBookId")]
        book: Query<Option<Uuid>>,
        /// Only of this user.
        #[oai(name = "userId")]
        user: Query<Option<String>>,
        /// Only with this reference.
        reference: Query<Option<String>>,
        /// Only from this time on.
        from: Query<Option<DateTime<Utc>>>,
        /// Only before this time.
        to: Query<Option<DateTime<Utc>>>,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<PastRedemptionView>>, Problem> {
        let book = book.0.map(BookId);
        caller.must_have_book_of_list(book)?;
        let is_for_all = user.0.is_none() && !matches!(caller.principal.role, Role::User { .. });
        let filter = RedemptionFilter {
            book,
            user: if is_for_all { None } else { Some(caller.user(user.0)?) },
            reference: plain("reference", reference.0)?,
            from: time("from", from.0)?,
            to: time("to", to.0)?,
            after: self::cursor(cursor.0, |text| {
                let (at, id) = time_and_rest(text)?;
                Some((at, id.parse().ok()?))
            })?,
        };
        let limit = self::limit(limit.0)?;
        let page = caller.app.store.list_redemptions(caller.business(), &filter, limit).await?;
        Ok(Json(List::of(page, |redemption| view(&caller, redemption))))
    }

    /// Get a redemption
    #[oai(path = "/:id", method = "get", operation_id = "getRedemption")]
    async fn get(
        &self,
        caller: Caller,
        /// The redemption.
        id: Path<Uuid>,
    ) -> Result<Json<PastRedemptionView>, Problem> {
        let redemption = find(&caller, RedemptionId(id.0)).await?;
        Ok(Json(view(&caller, redemption)))
    }

    /// Give the use of a redemption back
    ///
    /// Once for each redemption: 409 `already_rolled_back` afterwards. A redeemed code is assigned to its holder again; a lock stays,
    /// and a void code stays void.
    #[oai(path = "/:id/rollback", method = "post", operation_id = "rollBackRedemption")]
    async fn roll_back(
        &self,
        caller: Caller,
        /// The redemption.
        id: Path<Uuid>,
        body: Body<UndoRequest>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<RollbackView>, Problem> {
        let Redemption { id, code, .. } = find(&caller, RedemptionId(id.0)).await?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let lane = code.clone();
        let UndoRequest { reason, user_id } = body.value;
        let ask = Rollback { redemption: id, code, user: user_id, reason };
        let answer = caller.app.rollback.execute(&lane, &caller.claimant, call(&caller, &held, ask)).await?;
        Reply::of(answer, RollbackView::from)
    }
}

/// The redemption, if the caller may know of it.
async fn find(caller: &Caller, id: RedemptionId) -> Result<Redemption, Problem> {
    let redemption = caller.app.store.get_redemption(caller.business(), id).await?;
    caller.must_have_book(redemption.book)?;
    match &caller.principal.role {
        Role::User { user_id } if *user_id != redemption.user => {
            Err(Rejection::not_found("redemption").into())
        }
        Role::User { .. } | Role::Admin | Role::Service => Ok(redemption),
    }
}

/// The redemption with what this caller may see of it.
fn view(caller: &Caller, redemption: Redemption) -> PastRedemptionView {
    match caller.principal.role {
        Role::Admin | Role::Service => redemption.into(),
        Role::User { .. } => PastRedemptionView::from(redemption).for_user(),
    }
}
