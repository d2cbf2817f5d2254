//! The operations on user pools and their members.

mod doc;
mod request;
mod upload;
mod view;

use cuponera_domain::id::PoolId;
use cuponera_domain::pool::PoolPatch;
use cuponera_domain::principal::parse_user_id;
use cuponera_domain::rejection::Rejection;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::{JobView, List, Tag, cursor, limit, plain};
use crate::auth::caller::Caller;
use crate::http::body::Body;
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::{Either, Reply};
use request::{NewPool, PoolChange, Users};
use upload::{ReadingParameters, UsersBody};
use view::{AddedView, MemberView, PoolView, RemovedView};

pub(super) use doc::operations;

pub(crate) struct Pools;

#[derive(ApiResponse)]
enum Gone {
    /// Done.
    #[oai(status = 204)]
    Done,
}

#[OpenApi(prefix_path = "/api/v1/user-pools", tag = "Tag::UserPools")]
impl Pools {
    /// Create a user pool
    ///
    /// The pool is empty. Its name is unique within the business (409 `name_taken`).
    #[oai(path = "/", method = "post", operation_id = "createUserPool")]
    async fn create(
        &self,
        caller: Caller,
        body: Body<NewPool>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<PoolView, 201>, Problem> {
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let (store, business, stored, new) = (caller.store(), caller.business(), held.stored(), body.value);
        let create =
            async move { store.create_pool(stored, business, &new.name, new.description.as_deref()).await };
        let answer = caller.app.run(create).await?;
        Ok(Reply::of(answer, PoolView::from)?.at(|pool| format!("/api/v1/user-pools/{}", pool.id)))
    }

    /// List user pools, newest first
    #[oai(path = "/", method = "get", operation_id = "listUserPools")]
    async fn list(
        &self,
        caller: Caller,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<PoolView>>, Problem> {
        let after = self::cursor(cursor.0, |text| text.parse::<PoolId>().ok())?;
        let page = caller.app.store.list_pools(caller.business(), after, self::limit(limit.0)?).await?;
        Ok(Json(List::of(page, PoolView::from)))
    }

    /// Get a user pool
    #[oai(path = "/:id", method = "get", operation_id = "getUserPool")]
    async fn get(
        &self,
        caller: Caller,
        /// The pool.
        id: Path<Uuid>,
    ) -> Result<Json<PoolView>, Problem> {
        Ok(Json(caller.app.store.get_pool(caller.business(), PoolId(id.0)).await?.into()))
    }

    /// Change a user pool
    #[oai(path = "/:id", method = "patch", operation_id = "updateUserPool")]
    async fn update(
        &self,
        caller: Caller,
        /// The pool.
        id: Path<Uuid>,
        body: Body<PoolPatch, PoolChange>,
    ) -> Result<Json<PoolView>, Problem> {
        let (store, business, patch) = (caller.store(), caller.business(), body.value);
        let update = async move { store.update_pool(None, business, PoolId(id.0), patch).await };
        let pool = caller.app.run(update).await?.outcome.map_err(Problem::from)?;
        Ok(Json(pool.into()))
    }

    /// Delete a user pool
    ///
    /// The coupons that were distributed to its members stay as they are.
    #[oai(path = "/:id", method = "delete", operation_id = "deleteUserPool")]
    async fn delete(
        &self,
        caller: Caller,
        /// The pool.
        id: Path<Uuid>,
    ) -> Result<Gone, Problem> {
        let (store, business) = (caller.store(), caller.business());
        caller.app.run(async move { store.delete_pool(business, PoolId(id.0)).await }).await?;
        Ok(Gone::Done)
    }

    /// Add users to a pool
    ///
    /// JSON adds at most 10,000 users, and the response counts them. A CSV file adds any number by a job. If the first record of the
    /// file has a name of a user column, such as `userId`, it is the header; otherwise the first column has the users. Rows that
    /// are not added are listed by `GET /jobs/{id}/errors`.
    #[oai(path = "/:id/users", method = "post", operation_id = "addPoolUsers")]
    #[expect(clippy::too_many_arguments, reason = "each is a parameter of the operation")]
    async fn add(
        &self,
        caller: Caller,
        /// The pool.
        id: Path<Uuid>,
        /// For a file: the delimiter of the cells, `,` `;` `|` or a tab; also `comma`, `semicolon`, `pipe`, `tab`. Detected if absent.
        delimiter: Query<Option<String>>,
        /// For a file: whether it has a header. Detected if absent.
        header: Query<Option<bool>>,
        /// For a file: the column of users, by its name in the header, or its number from 1. Detected if absent.
        #[oai(name = "userColumn")]
        user_column: Query<Option<String>>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
        body: UsersBody,
    ) -> Result<Either<Reply<AddedView>, Reply<JobView, 202>>, Problem> {
        let id = PoolId(id.0);
        let reading =
            ReadingParameters { delimiter: delimiter.0, header: header.0, user_column: user_column.0 };
        let users = match body {
            UsersBody::File(file) => {
                return Ok(Either::Other(upload::take(&caller, id, reading, file).await?));
            }
            UsersBody::Json(users) => users,
        };
        reading.must_be_absent()?;
        let held = HeldKey::take(&caller, users.fingerprint)?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let users = users.value.user_ids;
        let add = async move { store.add_pool_users(stored, business, id, &users).await };
        Ok(Either::This(Reply::of(caller.app.run(add).await?, AddedView::from)?))
    }

    /// List the users of a pool, in the order of their ids
    #[oai(path = "/:id/users", method = "get", operation_id = "listPoolUsers")]
    async fn members(
        &self,
        caller: Caller,
        /// The pool.
        id: Path<Uuid>,
        /// Only users whose ids begin with this text.
        prefix: Query<Option<String>>,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<MemberView>>, Problem> {
        let (prefix, after) = (plain("prefix", prefix.0)?, plain("cursor", cursor.0)?);
        let (prefix, after, limit) = (prefix.as_deref(), after.as_deref(), self::limit(limit.0)?);
        let store = &caller.app.store;
        let page = store.list_pool_members(caller.business(), PoolId(id.0), prefix, after, limit).await?;
        Ok(Json(List::of(page, MemberView::from)))
    }

    /// Remove users from a pool
    ///
    /// Users that are no members are passed over.
    #[oai(path = "/:id/users/remove", method = "post", operation_id = "removePoolUsers")]
    async fn remove_several(
        &self,
        caller: Caller,
        /// The pool.
        id: Path<Uuid>,
        body: Body<Users>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<RemovedView>, Problem> {
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let users = body.value.user_ids;
        let remove = async move { store.remove_pool_users(stored, business, PoolId(id.0), &users).await };
        Reply::of(caller.app.run(remove).await?, |removed| RemovedView { removed })
    }

    /// Remove a user from a pool
    #[oai(path = "/:id/users/:userId", method = "delete", operation_id = "removePoolUser")]
    async fn remove(
        &self,
        caller: Caller,
        /// The pool.
        id: Path<Uuid>,
        /// The user.
        #[oai(name = "userId")]
        user: Path<String>,
    ) -> Result<Gone, Problem> {
        let user =
            parse_user_id(&user.0).map_err(|message| Rejection::invalid("userId", message))?.to_owned();
        let (store, business) = (caller.store(), caller.business());
        let remove = async move { store.remove_pool_user(business, PoolId(id.0), &user).await };
        caller.app.run(remove).await?;
        Ok(Gone::Done)
    }
}
