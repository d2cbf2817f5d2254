//! `cuponera redrive`: retries the jobs of all dead letters, after the operator has fixed the cause.

use cuponera_domain::principal::AuditContext;
use cuponera_platform::config::Settings;
use cuponera_platform::lifecycle;
use cuponera_platform::queue::{self, Queue};

use crate::database::Database;
use crate::up::LAST_WORDS;

/// Retries the jobs of all dead letters and prints the counts.
pub(crate) async fn redrive(settings: Settings) -> Result<(), String> {
    lifecycle::unless_stopped(LAST_WORDS, Box::pin(retry_all(&settings))).await
}

async fn retry_all(settings: &Settings) -> Result<(), String> {
    let queue = lifecycle::open_queue(settings).await?;
    let Queue::Sqs(sqs) = &queue else {
        return Err("there is no dead-letter queue, because CUPONERA_QUEUE_URL is not set. \
                    Retry a failed job with POST /api/v1/jobs/{id}/retry"
            .to_owned());
    };
    let database = Database::open_or_join(settings).await?;
    let store = queue.attach(database.connect_with_schema(settings.worker_pools()).await?);
    let store = store.acting_as(AuditContext::of_program("cli"));
    // Before the first change: its admin event needs a position after those of a restored database.
    store.begin_epoch_if_restored().await.map_err(|fault| fault.chain())?;
    let report = queue::redrive(&store, sqs).await;
    store.close().await;
    let closed = database.close().await;
    let report = report.map_err(|fault| fault.chain())?;
    let (retried, not_needed, left) = (report.retried, report.not_needed, report.left);
    println!(
        "jobs retried: {retried}; dead letters deleted without a retry: {not_needed}; dead letters kept: {left}"
    );
    closed
}
