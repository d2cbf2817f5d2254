//! The operations: a file per resource.

mod api_keys;
mod assignments;
mod auth;
mod books;
mod codes;
mod coupons;
mod distributions;
mod health;
mod jobs;
mod metrics;
mod pools;
mod upload;
mod users;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cuponera_core::error::{Refusal, Result};
use cuponera_core::page::{DEFAULT_LIMIT, MAX_LIMIT};
use poem_openapi::{
    ContactObject, ExternalDocumentObject, LicenseObject, OpenApiService, ServerObject, Tags,
};
use serde_json::{Map, Value};

use crate::guard::Guarded;

pub(crate) use api_keys::ApiKeys;
pub(crate) use assignments::Assignments;
pub(crate) use auth::Auth;
pub(crate) use books::Books;
pub(crate) use codes::Codes;
pub(crate) use coupons::{Coupons, normalized};
pub(crate) use distributions::Distributions;
pub(crate) use health::Health;
pub(crate) use jobs::Jobs;
pub(crate) use metrics::{METRICS, expose};
pub(crate) use pools::Pools;
pub(crate) use upload::{MAX_CODES_KEPT, Upload};
pub(crate) use users::Users;

/// What an operation is about.
#[derive(Tags)]
pub(crate) enum Tag {
    /// Logging in, and who one is.
    Auth,
    /// People who can log in.
    Users,
    /// Keys for trusted backends.
    #[oai(rename = "API keys")]
    ApiKeys,
    /// Campaigns: the rules their codes share.
    #[oai(rename = "Coupon books")]
    CouponBooks,
    /// Making and listing codes.
    #[oai(rename = "Coupon codes")]
    CouponCodes,
    /// Giving codes to users.
    Assignments,
    /// What happens to a code at the till.
    Coupons,
    /// Sets of users to whom codes can be distributed.
    #[oai(rename = "User pools")]
    UserPools,
    /// Codes of a book for all users of a pool.
    Distributions,
    /// Long work.
    Jobs,
    /// Whether the installation is well.
    Health,
}

/// What a reader should know before any operation.
const DESCRIPTION: &str = "\
Coupon books, millions of codes, and each redeemed exactly as often as allowed.

**Authenticate.** People log in with `POST /api/v1/auth/login` and send the `accessToken` as `Authorization: Bearer …`. Backends \
send a key as `X-API-Key`; an admin makes one with `POST /api/v1/api-keys`. On this page, put either into *Authorize*.

**Roles.** An `ADMIN` may do everything in its business. A `SERVICE` (a trusted backend) may do the same, but for users and API keys; \
both name the `userId` they act for. A `USER` acts for itself only and may leave `userId` out; what is another's does not exist for it.

**Errors** are problems (RFC 9457, `application/problem+json`) with a stable `code`: see [all codes](/docs/errors).

**Repeat safely.** Every POST that changes something, but for `/auth` and `/api-keys`, takes an `Idempotency-Key`: for 24 hours the \
same key and request have their effect once and are answered the same.

**Lists** are pages: send `nextCursor` as `cursor` for the next one. A page may have fewer items than `limit`, also none, and \
still a `nextCursor`: only null says that the list is at its end.

**Times** are RFC 3339 in UTC. Fields may be added to answers at any time; unknown query parameters and fields \
in requests, and any that are given twice, are refused with 422.";

/// All operations, by resource.
pub(crate) type Operations =
    (Auth, Users, ApiKeys, Books, Codes, Upload, Assignments, Coupons, Pools, Distributions, Jobs, Health);

pub(crate) fn operations() -> Operations {
    (Auth, Users, ApiKeys, Books, Codes, Upload, Assignments, Coupons, Pools, Distributions, Jobs, Health)
}

/// The operations as one service, each behind its guard.
pub(crate) fn service() -> OpenApiService<Guarded<Operations>, ()> {
    OpenApiService::new(Guarded(operations()), "Cuponera", env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION)
        .server(ServerObject::new("/").description("This installation"))
        .external_document(ExternalDocumentObject::new("/docs/errors").description("All error codes"))
        .license(LicenseObject::new("MIT").identifier("MIT"))
        .contact(ContactObject::new().name("The operators of this installation"))
}

/// The templates of all paths of the document, such as `/api/v1/jobs/{id}`.
pub(crate) fn templates() -> impl Iterator<Item = &'static str> {
    paths().into_iter().flat_map(|paths| paths.keys().map(String::as_str))
}

fn paths() -> Option<&'static Map<String, Value>> {
    static PATHS: LazyLock<Value> = LazyLock::new(|| {
        serde_json::from_str::<Value>(&service().spec())
            .map(|mut spec| spec["paths"].take())
            .unwrap_or_default()
    });
    PATHS.as_object()
}

/// The methods that a path has, as the document says; none if there is no such path.
pub(crate) fn methods_of(path: &str) -> Option<String> {
    let matches = |template: &str| {
        let (mut template, mut path) = (template.split('/'), path.trim_end_matches('/').split('/'));
        loop {
            match (template.next(), path.next()) {
                (None | Some(""), None) => return true,
                (Some(part), Some(said)) if part == said || part.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    // Of two that fit the path it is the one that says more: `redrive` before `{id}`.
    let parameters =
        |template: &str| template.split('/').map(|part| part.starts_with('{')).collect::<Vec<_>>();
    let fitting = paths()?.iter().filter(|(template, _)| matches(template));
    let (_, item) = fitting.min_by_key(|(template, _)| parameters(template))?;
    let methods: BTreeSet<String> = item.as_object()?.keys().map(|key| key.to_uppercase()).collect();
    Some(methods.into_iter().collect::<Vec<_>>().join(", "))
}

/// How many items a page is to have.
fn limit(asked: Option<u32>) -> Result<u32> {
    match asked {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(_) => Err(Refusal::invalid("limit", "must be from 1 to 500").into()),
    }
}

/// Reads a query parameter with `parse`; if it is there it must be one of the words.
fn word<T>(
    name: &str,
    text: Option<String>,
    parse: impl Fn(&str) -> Option<T>,
    words: &str,
) -> Result<Option<T>> {
    match text {
        None => Ok(None),
        Some(text) => match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(Refusal::invalid(name, format!("must be one of {words}")).into()),
        },
    }
}

/// A text that may go into a query: the database takes no zero bytes.
fn plain(name: &str, text: Option<String>) -> Result<Option<String>> {
    match text {
        Some(text) if text.contains('\0') => Err(Refusal::invalid(name, "must not have zero bytes").into()),
        text => Ok(text),
    }
}

/// Reads a cursor that an earlier page gave.
fn cursor<T>(text: Option<String>, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
    match text {
        None => Ok(None),
        Some(text) => match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(Refusal::invalid("cursor", "is not one that a list gave").into()),
        },
    }
}
