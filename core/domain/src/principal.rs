//! Callers, their permissions, and the data of a call that events record for auditing.

mod permission;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{AccountId, BookId, BusinessId, JobId};
use crate::text;

pub use permission::Permission;

/// Maximum length of a stored `User-Agent`: enough to identify the client, and a bound for the size of events.
const MAX_USER_AGENT_CHARS: usize = 300;

/// An authenticated caller. It is created only after its credentials were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant it belongs to.
    pub business: BusinessId,
    /// The id of its account or API key.
    pub id: Uuid,
    /// Its role.
    pub role: Role,
}

/// The role of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// An administrator: may do everything in its business.
    Admin,
    /// A trusted backend: may do everything except for users, API keys and webhooks.
    Service,
    /// An end user: may access only the data of its user id.
    User {
        /// The user id, which is the holder of the user's coupons.
        user_id: String,
    },
}

impl Role {
    /// The role's name in the API and the database.
    pub fn name(&self) -> RoleName {
        match self {
            Self::Admin => RoleName::Admin,
            Self::Service => RoleName::Service,
            Self::User { .. } => RoleName::User,
        }
    }
}

/// A role without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RoleName {
    /// See [`Role::Admin`].
    Admin,
    /// See [`Role::Service`].
    Service,
    /// See [`Role::User`].
    User,
}

impl RoleName {
    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "ADMIN",
            Self::Service => "SERVICE",
            Self::User => "USER",
        }
    }

    /// The role of that name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Admin, Self::Service, Self::User]
            .into_iter()
            .find(|role| role.as_str().eq_ignore_ascii_case(name))
    }
}

/// The limits of an API key, in addition to its role.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyScope {
    /// The permissions of its role that it has; all of them if absent.
    pub permissions: Option<Vec<Permission>>,
    /// The books that it may access; all of them if absent.
    pub books: Option<Vec<BookId>>,
}

impl KeyScope {
    /// Whether the key has any limit.
    pub fn is_limited(&self) -> bool {
        self.permissions.is_some() || self.books.is_some()
    }

    /// Whether the key has this permission.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.as_ref().is_none_or(|permissions| permissions.contains(&permission))
    }

    /// Whether the key may access this book.
    pub fn has_book(&self, book: BookId) -> bool {
        self.books.as_ref().is_none_or(|books| books.contains(&book))
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Role::Admin => write!(f, "admin:{}", self.id),
            Role::Service => write!(f, "service:{}", self.id),
            Role::User { user_id } => write!(f, "user:{user_id}"),
        }
    }
}

/// The origin of a change, as its event records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditContext {
    /// The actor: `admin:<id>`, `service:<id>`, `user:<user id>`, `job:<id>`, or the name of a program.
    pub actor: String,
    /// The id of the acting account or API key, and its business. In the events of another business, an account has the name that it has
    /// there.
    pub principal: Option<Uuid>,
    /// See `principal`.
    pub business: Option<BusinessId>,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The client's `User-Agent`, shortened.
    pub user_agent: Option<String>,
    /// The id of the request, which its answer contains.
    pub request_id: Option<String>,
}

impl AuditContext {
    /// The origin of a change by a request.
    pub fn of_request(
        principal: &Principal,
        ip: Option<IpAddr>,
        user_agent: Option<&str>,
        request_id: Option<&str>,
    ) -> Self {
        let acting = Self {
            principal: Some(principal.id),
            business: Some(principal.business),
            ..Self::of_program(&principal.to_string())
        };
        acting.with_request(ip, user_agent, request_id)
    }

    /// The origin of a change by a chunk of a job.
    pub fn of_job(job: JobId) -> Self {
        Self::of_program(&format!("job:{job}"))
    }

    /// The origin of a change by a program itself.
    pub fn of_program(name: &str) -> Self {
        Self {
            actor: name.to_owned(),
            principal: None,
            business: None,
            ip: None,
            user_agent: None,
            request_id: None,
        }
    }

    /// The same origin, of a request without credentials.
    #[must_use]
    pub fn with_request(
        self,
        ip: Option<IpAddr>,
        user_agent: Option<&str>,
        request_id: Option<&str>,
    ) -> Self {
        let (user_agent, request_id) = (user_agent.map(shortened), request_id.map(str::to_owned));
        Self { ip, user_agent, request_id, ..self }
    }

    /// The same origin, with an account as the actor. In each business it has the name that it has there.
    #[must_use]
    pub fn with_account(self, account: AccountId) -> Self {
        Self { principal: Some(account.0), ..self }
    }
}

fn shortened(user_agent: &str) -> String {
    user_agent.chars().take(MAX_USER_AGENT_CHARS).collect()
}

/// Maximum length of a user id, in bytes.
pub const MAX_USER_ID_BYTES: usize = 128;

/// Parses a user id: trimmed, 1 to 128 bytes, without control and format characters; blanks inside are kept. The error
/// names the rule. **Invariant:** each user id that enters the system is parsed here.
pub fn parse_user_id(text: &str) -> Result<&str, &'static str> {
    let user_id = text::trim(text);
    if user_id.is_empty() {
        Err("must not be empty")
    } else if user_id.len() > MAX_USER_ID_BYTES {
        Err("must have at most 128 bytes")
    } else if user_id.chars().any(text::is_control_or_format) {
        Err("must not have control or zero-width characters")
    } else {
        Ok(user_id)
    }
}

/// The first control or format character, which a user id must not have.
pub fn hidden_character(text: &str) -> Option<char> {
    text::trim(text).chars().find(|character| text::is_control_or_format(*character))
}

/// Maximum length of an email address, in bytes (RFC 5321).
pub const MAX_EMAIL_BYTES: usize = 254;

/// Parses an email address: trimmed, a local part, an `@` and a domain, at most 254 bytes, without blanks, control and
/// format characters. The error names the rule. **Invariant:** each email of a new account is parsed here; a login only
/// trims. The database compares emails in lower case.
pub fn parse_email(text: &str) -> Result<&str, &'static str> {
    let email = text::trim(text);
    let parts = email.split_once('@');
    let is_email = email.len() <= MAX_EMAIL_BYTES
        && !email.chars().any(|char| char.is_whitespace() || text::is_control_or_format(char))
        && parts.is_some_and(|(name, domain)| !name.is_empty() && domain.len() >= 3 && !domain.contains('@'));
    if is_email { Ok(email) } else { Err("must be an email address") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_is_trimmed_and_has_no_blanks_and_no_hidden_characters() {
        for text in ["ana@shop.test", "\u{feff} ana@shop.test\u{200b}\n"] {
            assert_eq!(parse_email(text), Ok("ana@shop.test"), "{text:?}");
        }
        let long = format!("{}@shop.test", "x".repeat(MAX_EMAIL_BYTES));
        for text in
            ["", "ana", "@shop.test", "ana@x", "a b@shop.test", "a\u{200b}@shop.test", "a@b@c.d", &long]
        {
            assert!(parse_email(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_holder_id_is_trimmed_and_has_no_hidden_characters() {
        for (text, expected) in
            [("ana", "ana"), ("\u{feff} ana maría\u{200b} \t", "ana maría"), ("日本", "日本")]
        {
            assert_eq!(parse_user_id(text), Ok(expected), "{text:?}");
        }
        let longest = "x".repeat(MAX_USER_ID_BYTES);
        assert_eq!(parse_user_id(&longest), Ok(longest.as_str()));
        for text in
            ["", " \u{200b}", "a\u{200b}b", "a\nb", "a\u{2028}b", "a\u{202e}b", &format!("{longest}x")]
        {
            assert!(parse_user_id(text).is_err(), "{text:?}");
        }
    }
}
