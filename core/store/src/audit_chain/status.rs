//! The state of the chain: how much is sealed, how far sealing lags, and the last verification.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{query, query_file, query_file_scalar};

use super::Verification;
use crate::Store;
use crate::error::Result;

/// The state of the chain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AuditStatus {
    /// Number of seals.
    pub seals: i64,
    /// The time of the last sealed event.
    pub sealed_through: Option<DateTime<Utc>>,
    /// The age of the oldest event that could be sealed and is not.
    pub lag: Duration,
    /// The last verification of the whole chain.
    pub verification: Option<LastVerification>,
}

/// A verification of the whole chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastVerification {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Number of findings.
    pub findings: i64,
}

/// What delays sealing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SealingLag {
    /// As in [`AuditStatus`].
    pub lag: Duration,
    /// The age of the oldest open transaction of the server that has written.
    pub oldest_writer: Duration,
}

impl Store {
    /// The state of the chain.
    pub async fn audit_status(&self) -> Result<AuditStatus> {
        self.must_have_event_index().await?;
        let row = query_file!("src/sql/audit_status.sql").fetch_one(&self.reads).await?;
        let verification =
            row.verified_at.zip(row.findings).map(|(at, findings)| LastVerification { at, findings });
        Ok(AuditStatus {
            seals: row.seals,
            sealed_through: row.sealed_through,
            lag: duration(row.lag_seconds),
            verification,
        })
    }

    /// Measures what delays sealing.
    pub async fn sealing_lag(&self) -> Result<SealingLag> {
        let lag = self.audit_status().await?.lag;
        let oldest = query_file_scalar!("src/sql/oldest_writer.sql").fetch_one(&self.reads).await?;
        Ok(SealingLag { lag, oldest_writer: duration(oldest.unwrap_or(0.0)) })
    }

    /// Stores the result of a verification of the whole chain.
    pub async fn record_verification(&self, verification: &Verification) -> Result<()> {
        query!(
            "insert into audit_verification (seal, findings) values ($1, $2)
             on conflict (only_row) do update set seal = excluded.seal, findings = excluded.findings, verified_at = excluded.verified_at",
            verification.last_seal,
            verification.found
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}
