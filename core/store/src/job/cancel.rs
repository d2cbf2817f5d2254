//! Cancelling a job.

use sqlx::query;

use crate::Store;
use crate::error::{Error, Result};
use crate::request_key::{CallResult, IdempotencyKey, KeyedChange};
use cuponera_domain::id::{BusinessId, JobId};
use cuponera_domain::job::Job;
use cuponera_domain::rejection::Rejection;

use super::finish::count_end;
use super::read::get;

impl Store {
    /// Cancels an unfinished job. Committed chunks stay; running chunks are rolled back at their commit.
    pub async fn cancel_job_if_open(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        id: JobId,
    ) -> Result<CallResult<Job>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let done = query!(
                "update job set status = 'CANCELLED', finished_at = now()
                 where id = $1 and business_id = $2 and status in ('QUEUED', 'RUNNING')",
                id.0,
                business.0
            )
            .execute(&mut *open.transaction)
            .await?;
            let job = get(&mut *open.transaction, business, id).await?;
            if done.rows_affected() == 0 {
                return Err(wrong_state(&job, "only a queued or running job can be cancelled"));
            }
            Ok(job)
        }
        .await;
        let answer = open.commit(outcome).await;
        if let Ok(CallResult { outcome: Ok(job), replayed: false }) = &answer {
            count_end(job);
        }
        answer
    }
}

/// The rejection of a change that a job in this state does not allow.
pub(super) fn wrong_state(job: &Job, hint: &str) -> Error {
    Rejection::WrongJobState { status: job.status.as_str().into(), hint: hint.into() }.into()
}
