//! The body of a request for an API key.

use chrono::{DateTime, Utc};
use cuponera_domain::id::BookId;
use cuponera_domain::principal::{KeyScope, Permission, RoleName};
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::body::{Fields, FromFields};
use crate::http::time::Time;

/// Maximum number of books that a key is limited to.
const MAX_BOOKS: usize = 100;
/// Maximum length of a name.
const MAX_NAME_CHARS: usize = 100;

/// A new API key.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct NewKey {
    /// A name for people, 1 to 100 characters on one line after trimming.
    #[oai(validator(min_length = 1, max_length = 100))]
    pub(super) name: String,
    /// `SERVICE` (the default) or `ADMIN`.
    pub(super) role: Option<String>,
    /// The permissions to which the key is limited, by their names in docs/permissions.md; all of its role if absent. No key may
    /// manage users or API keys.
    #[oai(validator(min_items = 1))]
    pub(super) permissions: Option<Vec<String>>,
    /// The books to which the key is limited, at most 100; all books if absent.
    #[oai(validator(min_items = 1, max_items = 100))]
    pub(super) coupon_book_ids: Option<Vec<Uuid>>,
    /// When the key expires; never if absent.
    pub(super) expires_at: Option<Time>,
    #[oai(skip)]
    pub(super) role_name: Option<RoleName>,
    #[oai(skip)]
    pub(super) limits: Limits,
}

/// The parsed limits of a key.
#[derive(Debug, Default, Clone)]
pub(super) struct Limits {
    pub(super) scope: KeyScope,
    pub(super) expires_at: Option<DateTime<Utc>>,
}

impl FromFields for NewKey {
    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.required::<String>("name").map(|name| name.trim().to_owned());
        if let Some(Err(fault)) = name.as_deref().map(check_name) {
            fields.fault("name", fault);
        }
        let role = fields.optional::<String>("role");
        let role_name = role.as_ref().and_then(|role| fields.word("role", role, key_role, "SERVICE, ADMIN"));
        let permissions = fields.optional::<Vec<String>>("permissions");
        let allowed = permissions.as_deref().and_then(|names| {
            let read = permissions_of(names, role_name.unwrap_or(RoleName::Service));
            read.map_err(|fault| fields.fault("permissions", fault)).ok()
        });
        let coupon_book_ids = fields.optional::<Vec<Uuid>>("couponBookIds");
        if coupon_book_ids.as_ref().is_some_and(|ids| !(1..=MAX_BOOKS).contains(&ids.len())) {
            fields.fault("couponBookIds", "must have 1 to 100 ids");
        }
        let expires_at = fields.optional::<DateTime<Utc>>("expiresAt");
        if expires_at.is_some_and(|time| time <= Utc::now()) {
            fields.fault("expiresAt", "must be in the future");
        }
        let books = coupon_book_ids.as_ref().map(|ids| ids.iter().copied().map(BookId).collect());
        let limits = Limits { scope: KeyScope { permissions: allowed, books }, expires_at };
        let expires_at = expires_at.map(Time::from);
        Some(Self { name: name?, role, permissions, coupon_book_ids, expires_at, role_name, limits })
    }
}

/// Parses permissions to which a key of the role can be limited.
fn permissions_of(names: &[String], role: RoleName) -> Result<Vec<Permission>, String> {
    let is_allowed = |permission: &Permission| role.may(*permission) && permission.is_for_keys();
    let mut permissions = Vec::new();
    for name in names {
        let known = Permission::parse(name).filter(is_allowed);
        let Some(permission) = known else {
            let allowed: Vec<&str> = Permission::all().filter(is_allowed).map(Permission::as_str).collect();
            return Err(format!(
                "`{name}` is not among the permissions of the role that a key can be limited to: {}",
                allowed.join(", ")
            ));
        };
        if !permissions.contains(&permission) {
            permissions.push(permission);
        }
    }
    if permissions.is_empty() { Err("must have one permission or more".to_owned()) } else { Ok(permissions) }
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if !(1..=MAX_NAME_CHARS).contains(&name.chars().count()) {
        Err("must have 1 to 100 characters, not counting leading and trailing blanks")
    } else if name.chars().any(char::is_control) {
        Err("must be on one line, without control characters")
    } else {
        Ok(())
    }
}

fn key_role(name: &str) -> Option<RoleName> {
    match name {
        "ADMIN" => Some(RoleName::Admin),
        "SERVICE" => Some(RoleName::Service),
        _ => None,
    }
}
