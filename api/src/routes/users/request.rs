//! The bodies of requests about accounts.

use cuponera_core::credential::check_password;
use cuponera_core::principal::{RoleName, parse_email, parse_user_id};
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::body::{Fields, FromFields, Identifier, half_hash};

/// An account to be made.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct NewUser {
    /// If it has an account in another business, that becomes a member of this one too, and keeps its password.
    pub(super) email: String,
    /// 10 to 200 characters, not the email, not one character over and over, none that is guessed first.
    pub(super) password: String,
    /// `ADMIN` or `USER`.
    pub(super) role: String,
    /// The holder id in coupons, up to 128 bytes; one is made up if absent.
    pub(super) user_id: Option<String>,
    #[oai(skip)]
    pub(super) role_name: Option<RoleName>,
    /// What is kept of a request must not be a quick hash of its password. The other fields as they were sent: what they
    /// are read as may change from version to version, and the keys of the day before still have their answers.
    #[oai(skip)]
    pub(super) fingerprint: Uuid,
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
pub(super) struct UserChange {
    /// A new password; all logins of the account end. 409 `account_shared` if the account belongs to another business too.
    pub(super) password: Option<String>,
    /// Whether it may not log in to this business; disabling ends its logins here and revokes the API keys it made here. The last
    /// enabled ADMIN of a business stays enabled.
    pub(super) disabled: Option<bool>,
    /// `ADMIN` or `USER` in this business; another role ends its logins here, and with USER the API keys it made here are revoked. The
    /// last enabled ADMIN of a business stays one.
    pub(super) role: Option<String>,
    #[oai(skip)]
    pub(super) role_name: Option<RoleName>,
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
