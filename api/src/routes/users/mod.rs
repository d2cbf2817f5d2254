//! The accounts of a business.

use cuponera_core::credential::check_password;
use cuponera_core::error::{Refusal, Result};
use cuponera_core::id::AccountId;
use cuponera_core::principal::{RoleName, parse_email, parse_user_id};
use cuponera_core::store::{AccountChange, NewAccount};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use secrecy::SecretString;
use uuid::Uuid;

use super::{Tag, cursor, limit};
use crate::auth::caller::Caller;
use crate::http::body::{Body, Fields, FromFields, Identifier, half_hash};
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use crate::routes::view::{List, UserView};

pub(crate) struct Users;

/// An account to be made.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct NewUser {
    /// If it has an account in another business, that becomes a member of this one too, and keeps its password.
    email: String,
    /// 10 to 200 characters, not the email, not one character over and over, none that is guessed first.
    password: String,
    /// `ADMIN` or `USER`.
    role: String,
    /// The holder id in coupons, up to 128 bytes; one is made up if absent.
    user_id: Option<String>,
    #[oai(skip)]
    role_name: Option<RoleName>,
    /// What is kept of a request must not be a quick hash of its password. The other fields as they were sent: what they
    /// are read as may change from version to version, and the keys of the day before still have their answers.
    #[oai(skip)]
    fingerprint: Uuid,
}

impl FromFields for NewUser {
    fn read(fields: &mut Fields) -> Option<Self> {
        let said_email = fields.required::<Identifier>("email").map(|said| said.0);
        let email = parsed(fields, "email", said_email.as_deref(), parse_email);
        let password = fields.required::<String>("password");
        check(fields, password.as_deref(), email.as_deref());
        let role = fields.required::<String>("role");
        let role_name = role.as_ref().and_then(|role| fields.word("role", role, account_role, "ADMIN, USER"));
        let said_user_id = fields.optional::<Identifier>("userId").map(|said| said.0);
        let user_id = parsed(fields, "userId", said_user_id.as_deref(), parse_user_id);
        let said =
            [said_email.as_deref()?.trim(), role.as_deref()?, said_user_id.as_deref().unwrap_or_default()];
        let fingerprint = half_hash(&said.map(str::as_bytes));
        Some(Self { email: email?, password: password?, role: role?, user_id, role_name, fingerprint })
    }
}

/// What a text is read as, if it was sent and is right.
fn parsed(
    fields: &mut Fields,
    name: &str,
    text: Option<&str>,
    parse: fn(&str) -> Result<&str, &'static str>,
) -> Option<String> {
    match parse(text?) {
        Ok(read) => Some(read.to_owned()),
        Err(message) => {
            fields.fault(name, message);
            None
        }
    }
}

fn account_role(name: &str) -> Option<RoleName> {
    match name {
        "ADMIN" => Some(RoleName::Admin),
        "USER" => Some(RoleName::User),
        _ => None,
    }
}

fn check(fields: &mut Fields, password: Option<&str>, email: Option<&str>) {
    if let Some(Err(fault)) = password.map(|password| check_password(password, email)) {
        fields.fault("password", fault);
    }
}

/// A change of an account.
#[derive(Object)]
struct UserChange {
    /// A new password; all logins of the account end. 409 `account_shared` if the account belongs to another business too.
    password: Option<String>,
    /// Whether it may not log in to this business; disabling ends its logins here and revokes the API keys it made here. The last
    /// enabled ADMIN of a business stays enabled.
    disabled: Option<bool>,
    /// `ADMIN` or `USER` in this business; another role ends its logins here, and with USER the API keys it made here are revoked. The
    /// last enabled ADMIN of a business stays one.
    role: Option<String>,
    #[oai(skip)]
    role_name: Option<RoleName>,
}

impl FromFields for UserChange {
    fn read(fields: &mut Fields) -> Option<Self> {
        let password = fields.optional::<String>("password");
        check(fields, password.as_deref(), None);
        let role = fields.optional::<String>("role");
        let role_name = role.as_ref().and_then(|role| fields.word("role", role, account_role, "ADMIN, USER"));
        Some(Self { password, disabled: fields.optional("disabled"), role, role_name })
    }
}

#[OpenApi(prefix_path = "/api/v1/users", tag = "Tag::Users")]
impl Users {
    /// Make an account
    ///
    /// An email is one account in the whole installation. If it has one in another business, that becomes a member of this business,
    /// with a role and a `userId` of its own here; its password stays.
    #[oai(path = "/", method = "post", operation_id = "createUser")]
    async fn create(
        &self,
        caller: Caller,
        body: Body<NewUser>,
        /// Answers the same again to the same key and request.
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
        let (store, stored) = (caller.app.store.clone(), held.stored());
        let answer = caller.app.run(async move { store.create_account(stored, &new).await }).await?;
        Reply::of(answer, UserView::from)
    }

    /// List accounts, newest first
    #[oai(path = "/", method = "get", operation_id = "listUsers")]
    async fn list(
        &self,
        caller: Caller,
        /// `nextCursor` of the page before.
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
        let (app, business) = (caller.app.clone(), caller.business());
        let change = AccountChange { password_hash, disabled, role: role_name };
        let change = async move {
            let changed = app.store.update_account(business, id, &change).await;
            app.logins.forget_all();
            app.api_keys.forget_all();
            changed
        };
        Ok(Json(caller.app.run(change).await?.into()))
    }
}

/// The hash of a new password for an account of the caller's business.
async fn hash_for(caller: &Caller, id: AccountId, password: String) -> Result<String> {
    let account = caller.app.store.get_account(caller.business(), id).await?;
    check_password(&password, Some(&account.email)).map_err(|fault| Refusal::invalid("password", fault))?;
    caller.app.passwords.hash(&caller.claimant, password.into()).await
}
