//! The bodies of requests about logins. They implement no `Debug`, because they contain passwords and tokens.

use cuponera_domain::principal::MAX_EMAIL_BYTES;
use cuponera_domain::text;
use cuponera_platform::credential::{MAX_PASSWORD_CHARS, check_password};
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::body::{Fields, FromFields, Identifier};

/// An email and its password.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct Login {
    /// Upper and lower case are equal.
    #[oai(validator(max_length = 254))]
    pub(super) email: String,
    #[oai(validator(max_length = 200))]
    pub(super) password: String,
    /// The business to log in to; required if the account belongs to several.
    pub(super) business_id: Option<Uuid>,
}

impl FromFields for Login {
    fn read(fields: &mut Fields) -> Option<Self> {
        let email =
            fields.required::<Identifier>("email").map(|Identifier(email)| text::trim(&email).to_owned());
        if email.as_ref().is_some_and(|email| email.len() > MAX_EMAIL_BYTES) {
            fields.fault("email", format!("must have at most {MAX_EMAIL_BYTES} bytes"));
        }
        let password = current_password(fields, "password");
        let business_id = fields.optional("businessId");
        Some(Self { email: email?, password: password?, business_id })
    }
}

/// A password to verify. A text longer than any password is rejected without hashing.
fn current_password(fields: &mut Fields, name: &'static str) -> Option<String> {
    let password = fields.required::<String>(name);
    if password.as_ref().is_some_and(|password| password.chars().count() > MAX_PASSWORD_CHARS) {
        fields.fault(name, format!("must have at most {MAX_PASSWORD_CHARS} characters"));
    }
    password
}

/// A refresh token.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct Refresh {
    /// The cookie is used if absent.
    pub(super) refresh_token: Option<String>,
}

impl FromFields for Refresh {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { refresh_token: fields.optional("refreshToken") })
    }
}

/// The logins to end; the caller's own login by default.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct Logout {
    /// The login to end, by its refresh token.
    pub(super) refresh_token: Option<String>,
    /// End all logins of the account.
    #[oai(default)]
    pub(super) everywhere: bool,
}

impl FromFields for Logout {
    fn read(fields: &mut Fields) -> Option<Self> {
        let refresh_token = fields.optional("refreshToken");
        Some(Self { refresh_token, everywhere: fields.optional("everywhere").unwrap_or(false) })
    }
}

/// Another business of the account.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct Switch {
    pub(super) business_id: Uuid,
}

impl FromFields for Switch {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { business_id: fields.required("businessId")? })
    }
}

/// A new password for the caller's account.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct PasswordChange {
    #[oai(validator(max_length = 200))]
    pub(super) current_password: String,
    /// 10 to 200 characters, not the email, not one repeated character, not a common password.
    #[oai(validator(min_length = 10, max_length = 200))]
    pub(super) new_password: String,
}

impl FromFields for PasswordChange {
    fn read(fields: &mut Fields) -> Option<Self> {
        let current_password = current_password(fields, "currentPassword");
        let new_password = fields.required::<String>("newPassword");
        if let Some(Err(fault)) = new_password.as_deref().map(|password| check_password(password, None)) {
            fields.fault("newPassword", fault);
        }
        Some(Self { current_password: current_password?, new_password: new_password? })
    }
}
