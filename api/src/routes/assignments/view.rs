//! Assignments in responses.

use cuponera_store::{Assigned, Revoked};
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::time::Time;

/// A code that is assigned to a user.
#[derive(Debug, Object)]
#[oai(rename = "Assignment", rename_all = "camelCase")]
pub(crate) struct AssignmentView {
    id: Uuid,
    code: String,
    coupon_book_id: Uuid,
    user_id: String,
    /// `ASSIGNED`; the current status if it was assigned before.
    status: String,
    assigned_at: Time,
    #[oai(skip)]
    pub(crate) repeated: bool,
}

impl From<Assigned> for AssignmentView {
    fn from(assigned: Assigned) -> Self {
        Self {
            id: assigned.id.0,
            code: assigned.code,
            coupon_book_id: assigned.book.0,
            user_id: assigned.user,
            status: assigned.status.as_str().into(),
            assigned_at: assigned.assigned_at.into(),
            repeated: assigned.repeated,
        }
    }
}

/// A code that is free again.
#[derive(Debug, Object)]
#[oai(rename = "Revocation", rename_all = "camelCase")]
pub(super) struct RevokedView {
    code: String,
    /// `AVAILABLE`.
    status: String,
    coupon_book_id: Uuid,
}

impl From<Revoked> for RevokedView {
    fn from(revoked: Revoked) -> Self {
        Self { code: revoked.code, status: "AVAILABLE".into(), coupon_book_id: revoked.book.0 }
    }
}
