//! The operations: one folder for each resource, with its handlers, request bodies, response views and document rows.

mod amounts;
mod api_keys;
mod assignments;
mod audit;
mod auth;
mod books;
mod codes;
mod coupons;
mod distributions;
mod events;
mod exports;
mod health;
mod jobs;
mod list;
mod metrics;
mod pools;
mod redemptions;
mod statistics;
mod undo;
mod uploads;
mod users;
mod void;
mod webhooks;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cuponera_domain::rejection::Rejection;
use cuponera_store::Result;
use poem_openapi::{
    ContactObject, ExternalDocumentObject, LicenseObject, OpenApiService, ServerObject, Tags,
};
use serde_json::{Map, Value};

use crate::auth::guard::Guarded;
use crate::document::Operation;

pub(crate) use api_keys::ApiKeys;
pub(crate) use assignments::{AssignmentUploads, Assignments};
pub(crate) use audit::Audit;
pub(crate) use auth::{Auth, MembershipView};
pub(crate) use books::Books;
pub(crate) use codes::Codes;
pub(crate) use coupons::{Coupons, normalized};
pub(crate) use distributions::Distributions;
pub(crate) use events::{Events, LoggedEventView};
pub(crate) use exports::Exports;
pub(crate) use health::Health;
pub(crate) use jobs::{JobView, Jobs};
pub(crate) use metrics::{METRICS, expose};
pub(crate) use pools::Pools;
pub(crate) use redemptions::Redemptions;
pub(crate) use statistics::BookStatistics;
pub(crate) use uploads::{MAX_CODES_KEPT, Upload};
pub(crate) use users::Users;
pub(crate) use void::BulkVoids;
pub(crate) use webhooks::Webhooks;

use list::{List, cursor, limit};

/// The tags of the operations.
#[derive(Tags)]
pub(crate) enum Tag {
    /// Logins, and the current caller.
    Auth,
    /// Accounts of people.
    Users,
    /// Credentials of trusted backends.
    #[oai(rename = "API keys")]
    ApiKeys,
    /// Campaigns: the rules that their codes share.
    #[oai(rename = "Coupon books")]
    CouponBooks,
    /// Generation, upload and lists of codes.
    #[oai(rename = "Coupon codes")]
    CouponCodes,
    /// Assignment of codes to users.
    Assignments,
    /// Lock, redemption and history of a code.
    Coupons,
    /// Uses of codes.
    Redemptions,
    /// What happened to codes.
    Events,
    /// Sums of events by interval, the current state, and the users with the most codes.
    Statistics,
    /// Named sets of users, the receivers of distributions.
    #[oai(rename = "User pools")]
    UserPools,
    /// Codes of a book for all users of a pool.
    Distributions,
    /// Codes, assignments, redemptions and events as CSV files.
    Exports,
    /// Long-running work.
    Jobs,
    /// Receivers of events, and the deliveries to them.
    Webhooks,
    /// The seals over the event logs.
    Audit,
    /// Health checks.
    Health,
}

/// The introduction of the document.
const DESCRIPTION: &str = "\
Coupon books, millions of codes, and each redeemed exactly as often as allowed.

**Authenticate.** People log in with `POST /api/v1/auth/login` and send the `accessToken` as `Authorization: Bearer …`. Backends \
send a key as `X-API-Key`; an admin creates one with `POST /api/v1/api-keys`. On this page, enter either under *Authorize*.

**Roles.** An `ADMIN` may do everything in its business. A `SERVICE` (a trusted backend) may do the same, except manage users, API keys and webhooks; \
both name the `userId` they act for. A `USER` acts for itself only and may omit `userId`; coupons of others are 404 for it. A trusted caller may redeem a code of a `BEARER` book without a `userId`.

**Errors** are problem documents (RFC 9457, `application/problem+json`) with a stable `code`: see [all codes](/docs/errors).

**Repeat safely.** Every POST that changes data, except under `/auth` and `/api-keys`, accepts an `Idempotency-Key`: for 24 hours a \
repeated request with the same key has no further effect and returns the stored response.

**Lists** are pages: send `nextCursor` as `cursor` for the next one. A page may have fewer items than `limit`, also none, and \
still a `nextCursor`: the list ends where it is null.

**Times** are RFC 3339 in UTC. New versions may add fields to responses. Unknown and repeated query parameters and fields \
of requests are rejected with 422.";

/// All operations. A tuple of poem-openapi has at most 16 elements.
pub(crate) type Operations = (Callers, OnCodes, OnManyCodes);
type Callers = (Auth, Users, ApiKeys, Webhooks, Audit, Health);
type OnCodes = (Books, Codes, Assignments, Coupons, Redemptions, Events, BookStatistics);
type OnManyCodes = (Upload, AssignmentUploads, BulkVoids, Pools, Distributions, Exports, Jobs);

pub(crate) fn operations() -> Operations {
    (
        (Auth, Users, ApiKeys, Webhooks, Audit, Health),
        (Books, Codes, Assignments, Coupons, Redemptions, Events, BookStatistics),
        (Upload, AssignmentUploads, BulkVoids, Pools, Distributions, Exports, Jobs),
    )
}

/// The document rows of all operations.
pub(crate) fn documentation() -> Vec<Operation> {
    [
        auth::operations(),
        users::operations(),
        api_keys::operations(),
        books::operations(),
        codes::operations(),
        uploads::operations(),
        assignments::operations(),
        coupons::operations(),
        void::operations(),
        redemptions::operations(),
        events::operations(),
        statistics::operations(),
        pools::operations(),
        distributions::operations(),
        exports::operations(),
        jobs::operations(),
        webhooks::operations(),
        audit::operations(),
        health::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
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

/// The methods of a path in the document. None if the path does not exist.
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
    // If two templates match, the more specific one counts: `redrive` before `{id}`.
    let parameters =
        |template: &str| template.split('/').map(|part| part.starts_with('{')).collect::<Vec<_>>();
    let fitting = paths()?.iter().filter(|(template, _)| matches(template));
    let (_, item) = fitting.min_by_key(|(template, _)| parameters(template))?;
    let methods: BTreeSet<String> = item.as_object()?.keys().map(|key| key.to_uppercase()).collect();
    Some(methods.into_iter().collect::<Vec<_>>().join(", "))
}

/// Parses an optional query parameter that must be one of `words`.
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
            None => Err(Rejection::invalid(name, format!("must be one of {words}")).into()),
        },
    }
}

/// Rejects zero bytes, which Postgres does not accept in text.
fn plain(name: &str, text: Option<String>) -> Result<Option<String>> {
    match text {
        Some(text) if text.contains('\0') => Err(Rejection::invalid(name, "must not have zero bytes").into()),
        text => Ok(text),
    }
}
