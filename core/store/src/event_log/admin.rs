//! Lists of the admin events of a business, newest first: in the reverse order of the log.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::query_file;

use cuponera_domain::id::BusinessId;
use cuponera_domain::page::{ExaminedRow, Page};
use cuponera_domain::time_range::TimeRange;

use super::EventCursor;
use super::list::{Log, MAX_DELAY};
use crate::Store;
use crate::error::{Error, Result};

/// Maximum number of admin events that a page examines. Each may be in a different block, so a page reads 16 MB.
pub const MAX_ADMIN_EVENTS_EXAMINED: i64 = 2_000;

/// A change of a book, an API key, an account, a membership, a login, a pool, a job or a webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminEvent {
    /// The position of the event.
    pub cursor: EventCursor,
    /// The time at which its transaction began.
    pub at: DateTime<Utc>,
    /// The kind of the changed object, such as `BOOK`.
    pub subject: String,
    /// The id of the changed object. A membership has that of its account, a dead letter that of its job.
    pub subject_id: String,
    /// What was done.
    pub action: String,
    /// The recorded values before the change; of an update, those that changed.
    pub before: Option<Value>,
    /// The same after the change.
    pub after: Option<Value>,
    /// The actor.
    pub actor: String,
    /// The client's address.
    pub ip: Option<String>,
    /// The client's `User-Agent`, shortened.
    pub user_agent: Option<String>,
    /// The id of the request.
    pub request_id: Option<String>,
}

/// A filter of a list of admin events.
#[derive(Debug, Clone, Default)]
pub struct AdminEventFilter {
    /// Only changes of this kind of object.
    pub subject: Option<String>,
    /// Only of the objects with this id.
    pub subject_id: Option<String>,
    /// Only with this action.
    pub action: Option<String>,
    /// Only by this actor.
    pub actor: Option<String>,
    /// Only in this range.
    pub range: TimeRange,
    /// Only events before this position.
    pub before: Option<EventCursor>,
}

impl Store {
    /// A business's admin events, newest first. A page may be short.
    pub async fn list_admin_events(
        &self,
        business: BusinessId,
        filter: &AdminEventFilter,
        limit: u32,
    ) -> Result<Page<AdminEvent>> {
        let before = self.start_of_page(Log::Admin, filter.before, filter.range.to).await?;
        let rows = query_file!(
            "src/sql/admin_events.sql",
            business.0,
            filter.actor.as_deref(),
            filter.range.from,
            filter.range.to,
            before.epoch,
            before.tx.to_string(),
            before.id,
            MAX_ADMIN_EVENTS_EXAMINED,
            i64::from(limit) + 1,
            filter.subject.as_deref(),
            filter.subject_id.as_deref(),
            filter.action.as_deref()
        )
        .fetch_all(&self.reads)
        .await?;
        let mut examined = Vec::with_capacity(rows.len());
        for row in rows {
            let is_found = row.is_found;
            let event = AdminEvent {
                cursor: EventCursor {
                    epoch: row.epoch,
                    tx: row.tx.parse().map_err(Error::internal)?,
                    id: row.id,
                },
                at: row.at,
                subject: row.subject,
                subject_id: row.subject_id,
                action: row.action,
                before: row.before,
                after: row.after,
                actor: row.actor,
                ip: row.ip,
                user_agent: row.user_agent,
                request_id: row.request_id,
            };
            if is_found {
                examined.push(ExaminedRow::Found(event));
            } else if filter.range.from.is_none_or(|from| event.at >= from - MAX_DELAY) {
                examined.push(ExaminedRow::Stopped(event));
            }
        }
        Ok(Page::of_examined(examined, limit, |event: &AdminEvent| event.cursor.to_string()))
    }
}
