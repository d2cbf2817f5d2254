//! The operations on the accounts of a business.

mod doc;
mod request;
mod view;

use cuponera_domain::id::AccountId;
use cuponera_domain::principal::RoleName;
use cuponera_domain::rejection::Rejection;
use cuponera_platform::credential::check_password;
use cuponera_store::Result;
use cuponera_store::{AccountChange, NewAccount};
use poem_openapi::OpenApi;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use secrecy::SecretString;
use uuid::Uuid;

use super::{List, Tag, cursor, limit};
use crate::auth::caller::Caller;
use crate::http::body::Body;
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use request::{NewUser, UserChange};
use view::UserView;

pub(super) use doc::operations;

pub(crate) struct Users;

#[OpenApi(prefix_path = "/api/v1/users", tag = "Tag::Users")]
impl Users {
    /// Create an account
    ///
    /// An email has one account in the whole installation. If it has one in another business, the account becomes a member of this
    /// business, with a separate role and `userId`, and keeps its password.
    #[oai(path = "/", method = "post", operation_id = "createUser")]
    async fn create(
        &self,
        caller: Caller,
        body: Body<NewUser>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<UserView, 201>, Problem> {
        let held = HeldKey::take(&caller, body.value.fingerprint)?;
        let password_hash =
            caller.app.passwords.hash(&caller.claimant, SecretString::from(body.value.password)).await?;
        let new = NewAccount {
            business: caller.business(),
            email: body.value.email,
            password_hash,
            role: body.value.role_name.unwrap_or(RoleName::User),
            user_id: body.value.user_id,
        };
        let (store, stored) = (caller.store(), held.stored());
        let answer = caller.app.run(async move { store.create_account(stored, &new).await }).await?;
        Reply::of(answer, UserView::from)
    }

    /// List accounts, newest first
    #[oai(path = "/", method = "get", operation_id = "listUsers")]
    async fn list(
        &self,
        caller: Caller,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<UserView>>, Problem> {
        let after = self::cursor(cursor.0, |text| text.parse::<AccountId>().ok())?;
        let page = caller.app.store.list_accounts(caller.business(), after, self::limit(limit.0)?).await?;
        Ok(Json(List::of(page, UserView::from)))
    }

    /// Change an account
    #[oai(path = "/:id", method = "patch", operation_id = "updateUser")]
    async fn update(
        &self,
        caller: Caller,
        /// The account.
        id: Path<Uuid>,
        body: Body<UserChange>,
    ) -> Result<Json<UserView>, Problem> {
        let UserChange { password, disabled, role_name, .. } = body.value;
        let id = AccountId(id.0);
        let password_hash = match password {
            Some(password) => Some(hash_for(&caller, id, password).await?),
            None => None,
        };
        let (app, store, business) = (caller.app.clone(), caller.store(), caller.business());
        let change = AccountChange { password_hash, disabled, role: role_name };
        let change = async move {
            let changed = store.update_account(business, id, &change).await;
            app.logins.invalidate_all();
            app.api_keys.invalidate_all();
            changed
        };
        Ok(Json(caller.app.run(change).await?.into()))
    }
}

/// The hash of a new password for an account of the caller's business.
async fn hash_for(caller: &Caller, id: AccountId, password: String) -> Result<String> {
    let account = caller.app.store.get_account(caller.business(), id).await?;
    check_password(&password, Some(&account.email)).map_err(|fault| Rejection::invalid("password", fault))?;
    caller.app.passwords.hash(&caller.claimant, password.into()).await
}
