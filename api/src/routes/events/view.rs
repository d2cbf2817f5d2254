//! Events in lists and streams.

use cuponera_store::LoggedEvent;
use poem_openapi::{Object, Union};
use uuid::Uuid;

use super::admin::AdminEventView;
use crate::http::time::Time;

/// An item of the list.
#[derive(Debug, Union)]
#[oai(rename = "AnyEvent", one_of)]
pub(crate) enum EventView {
    Coupon(LoggedEventView),
    Admin(AdminEventView),
}

/// An event of a code.
#[derive(Debug, Object)]
#[oai(rename = "Event", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct LoggedEventView {
    id: Uuid,
    /// Absent if the code does not exist.
    code: Option<String>,
    coupon_book_id: Uuid,
    /// `ASSIGN`, `LOCK`, `UNLOCK`, `EXPIRE`, `REDEEM`, `REVOKE`, `ROLLBACK` or `VOID`.
    action: String,
    from_status: String,
    to_status: String,
    user_id: Option<String>,
    /// The actor: `admin:…`, `service:…`, `user:…`, `job:…` or `sweep`.
    actor: String,
    at: Time,
    ip: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
    reason: Option<String>,
    redeem_count: Option<i32>,
}

impl From<LoggedEvent> for LoggedEventView {
    fn from(logged: LoggedEvent) -> Self {
        let LoggedEvent { book, code, event, .. } = logged;
        Self {
            id: event.id.0,
            code,
            coupon_book_id: book.0,
            action: event.action,
            from_status: event.from_status.as_str().into(),
            to_status: event.to_status.as_str().into(),
            user_id: event.user,
            actor: event.actor,
            at: event.at.into(),
            ip: event.ip,
            user_agent: event.user_agent,
            request_id: event.request_id,
            reason: event.reason,
            redeem_count: event.redeem_count,
        }
    }
}
