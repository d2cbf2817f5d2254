//! The bodies of requests about accounts.

use cuponera_domain::principal::{RoleName, parse_email, parse_user_id};
use cuponera_platform::credential::check_password;
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::body::{Fields, FromFields, Identifier, half_hash};

/// A new account.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct NewUser {
    /// If the email has an account in another business, this account becomes a member of this business and keeps its password.
    pub(super) email: String,
    /// 10 to 200 characters, not the email, not one repeated character, not a common password.
    pub(super) password: String,
    /// `ADMIN` or `USER`.
    pub(super) role: String,
    /// The holder id in coupons, up to 128 bytes; generated if absent.
    pub(super) user_id: Option<String>,
    #[oai(skip)]
    pub(super) role_name: Option<RoleName>,
    /// The fingerprint of the request. It does not contain the password, because a fast hash of it must not be stored. It contains
    /// the other fields as sent, so that a new version that parses them differently finds the stored responses.
    #[oai(skip)]
    pub(super) fingerprint: Uuid,
}

impl FromFields for NewUser {
    fn read(fields: &mut Fields) -> Option<Self> {
        let sent_email = fields.required::<Identifier>("email").map(|Identifier(text)| text);
        let email = parsed(fields, "email", sent_email.as_deref(), parse_email);
        let password = fields.required::<String>("password");
        check(fields, password.as_deref(), email.as_deref());
        let role = fields.required::<String>("role");
        let role_name = role.as_ref().and_then(|role| fields.word("role", role, account_role, "ADMIN, USER"));
        let sent_user_id = fields.optional::<Identifier>("userId").map(|Identifier(text)| text);
        let user_id = parsed(fields, "userId", sent_user_id.as_deref(), parse_user_id);
        let sent =
            [sent_email.as_deref()?.trim(), role.as_deref()?, sent_user_id.as_deref().unwrap_or_default()];
        let fingerprint = half_hash(&sent.map(str::as_bytes));
        Some(Self { email: email?, password: password?, role: role?, user_id, role_name, fingerprint })
    }
}

/// Parses an optional text, and records its fault.
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
    /// A new password. Ends all logins of the account. 409 `account_shared` if the account also belongs to another business.
    pub(super) password: Option<String>,
    /// Whether logging in to this business is disabled. Disabling ends the account's logins here and revokes the API keys that it
    /// created here. The last enabled ADMIN of a business cannot be disabled.
    pub(super) disabled: Option<bool>,
    /// `ADMIN` or `USER` in this business. A change ends the account's logins here, and a change to USER revokes the API keys that
    /// it created here. The last enabled ADMIN of a business cannot be changed.
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
