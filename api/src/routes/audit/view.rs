//! The state of the audit chain as the API shows it.

use cuponera_store::AuditStatus;
use poem_openapi::Object;

use crate::http::time::Time;

/// The state of the audit chain. The chain covers all businesses of the installation.
#[derive(Debug, Object)]
#[oai(rename = "Audit", rename_all = "camelCase")]
pub(super) struct AuditView {
    /// The time of the last sealed event. Null before the first seal.
    sealed_through: Option<Time>,
    /// The age of the oldest event that could be sealed and is not. 0 if there is none. If it increases, no worker has the audit key.
    lag_seconds: f64,
    /// The number of seals.
    seals: i64,
    /// When `cuponera audit verify` last verified the whole chain.
    #[oai(skip_serializing_if_is_none)]
    verified_at: Option<Time>,
    /// Whether that verification had no findings.
    #[oai(skip_serializing_if_is_none)]
    verified: Option<bool>,
}

impl From<AuditStatus> for AuditView {
    fn from(status: AuditStatus) -> Self {
        Self {
            sealed_through: status.sealed_through.map(Time::from),
            lag_seconds: status.lag.as_secs_f64(),
            seals: status.seals,
            verified_at: status.verification.map(|last| last.at.into()),
            verified: status.verification.map(|last| last.findings == 0),
        }
    }
}
