//! The bodies of requests about user pools.

use cuponera_domain::book::Change;
use cuponera_domain::pool::{PoolPatch, check};
use cuponera_domain::rejection::{FieldError, Rejection};
use poem_openapi::Object;

use crate::http::body::{Fields, FromFields};

/// A new pool.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct NewPool {
    /// 1 to 200 characters after trimming; unique within the business.
    #[oai(validator(min_length = 1, max_length = 200))]
    pub(super) name: String,
    #[oai(validator(max_length = 5000))]
    pub(super) description: Option<String>,
}

impl FromFields for NewPool {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (name, description) =
            (fields.required::<String>("name"), fields.optional::<String>("description"));
        note_faults(fields, name.as_deref(), description.as_deref());
        Some(Self { name: name?, description })
    }
}

/// Reports the faults of the name and the description with the others.
fn note_faults(fields: &mut Fields, name: Option<&str>, description: Option<&str>) {
    // A missing name has its fault already.
    if let Err(Rejection::Invalid { faults }) = check(name.unwrap_or("-"), description) {
        for FieldError { field, message } in faults {
            fields.fault(&field, message);
        }
    }
}

/// A change of a pool. Absent fields keep their values; null removes the description.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct PoolChange {
    #[oai(validator(min_length = 1, max_length = 200))]
    name: Option<String>,
    #[oai(validator(max_length = 5000))]
    description: Option<String>,
}

impl FromFields for PoolPatch {
    fn read(fields: &mut Fields) -> Option<Self> {
        let name = match fields.change::<String>("name") {
            Change::Keep => None,
            Change::Set(name) => Some(name),
        };
        let description = match fields.change_or_clear::<String>("description") {
            Change::Keep => None,
            Change::Set(description) => Some(description),
        };
        note_faults(fields, name.as_deref(), description.as_ref().and_then(Option::as_deref));
        Some(Self { name, description })
    }
}

/// Users.
#[derive(Debug, Object)]
#[oai(rename = "PoolUserIds", rename_all = "camelCase")]
pub(super) struct Users {
    /// At most 10,000 user ids.
    #[oai(validator(min_items = 1, max_items = 10000))]
    pub(super) user_ids: Vec<String>,
}

impl FromFields for Users {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { user_ids: fields.required("userIds")? })
    }
}
