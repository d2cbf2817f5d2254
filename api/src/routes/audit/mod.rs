//! The operation on the chain of seals over the event logs.

mod doc;
mod view;

use poem_openapi::OpenApi;
use poem_openapi::payload::Json;

use super::Tag;
use crate::auth::caller::Caller;
use crate::http::problem::Problem;
use view::AuditView;

pub(super) use doc::operations;

pub(crate) struct Audit;

#[OpenApi(prefix_path = "/api/v1/audit", tag = "Tag::Audit")]
impl Audit {
    /// Get the state of the audit chain
    ///
    /// A worker seals the events of codes and the admin events of the installation every two seconds. `cuponera audit verify` compares the
    /// seals with the events. It needs the permission `events:admin`, which only an ADMIN has.
    #[oai(path = "/", method = "get", operation_id = "getAudit")]
    async fn get(&self, caller: Caller) -> Result<Json<AuditView>, Problem> {
        Ok(Json(AuditView::from(caller.app.store.audit_status().await?)))
    }
}
