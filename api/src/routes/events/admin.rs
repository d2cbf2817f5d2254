//! Admin events: the list with `kind=ADMIN`.

use cuponera_domain::principal::Permission;
use cuponera_store::{AdminEvent, AdminEventFilter};
use poem_openapi::Object;
use serde_json::Value;
use uuid::Uuid;

use crate::auth::caller::Caller;
use crate::auth::policy::forbidden;
use crate::http::problem::Problem;
use crate::http::time::Time;
use crate::routes::List;

use super::view::EventView;

/// A change of a book, an API key, an account, a membership, a login, a user pool, a job or a webhook.
#[derive(Debug, Object)]
#[oai(rename = "AdminEvent", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct AdminEventView {
    id: Uuid,
    /// The kind of the changed object.
    subject: String,
    /// The id of the changed object. A membership has that of its account, a dead letter that of its job.
    subject_id: String,
    /// `CREATE`, `UPDATE`, `DELETE`, or another word for what was done.
    action: String,
    /// The recorded values before the change, without secrets; of an update only those that changed. Absent if there were none.
    before: Option<Value>,
    /// The same after the change.
    after: Option<Value>,
    /// The actor: `admin:…`, `service:…`, `user:…`, `job:…`, `system` or `cli` for Cuponera itself, `sql` for another program.
    actor: String,
    at: Time,
    ip: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
}

impl From<AdminEvent> for AdminEventView {
    fn from(event: AdminEvent) -> Self {
        Self {
            id: event.cursor.id,
            subject: event.subject,
            subject_id: event.subject_id,
            action: event.action,
            before: event.before,
            after: event.after,
            actor: event.actor,
            at: event.at.into(),
            ip: event.ip,
            user_agent: event.user_agent,
            request_id: event.request_id,
        }
    }
}

/// Rejects a caller that may not see admin events, which concern all books.
pub(super) fn check_access(caller: &Caller) -> Result<(), Problem> {
    caller.must_have(Permission::ReadAdminEvents)?;
    if caller.books().is_some() {
        return Err(forbidden(
            "the API key is limited to some coupon books, and admin events concern all of them",
        )
        .into());
    }
    Ok(())
}

pub(super) async fn page(
    caller: &Caller,
    filter: &AdminEventFilter,
    limit: u32,
) -> Result<List<EventView>, Problem> {
    let page = caller.app.store.list_admin_events(caller.business(), filter, limit).await?;
    Ok(List::of(page, |event| EventView::Admin(event.into())))
}
