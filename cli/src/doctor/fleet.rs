//! Checks what the programs of a fleet share besides the database: the queue, the bucket, Redis. Skips those that are
//! not configured, and invalid addresses, which the check of the settings reports.

use std::time::Duration;

use cuponera_platform::cache::{Cache, CacheState};
use cuponera_platform::config::Settings;
use cuponera_platform::files::{BucketState, Files, FilesAddress};
use cuponera_platform::queue::{QueueAddress, Sqs, SqsError};
use cuponera_store::Error;
use tokio::time::{sleep, timeout};

use super::report::Finding;

/// Timeout of the queue and the bucket.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of Redis, during which its state is polled.
const REDIS_TIMEOUT: Duration = Duration::from_secs(2);
const REDIS_POLL: Duration = Duration::from_millis(100);
const FIX_AWS: &str = "check AWS_REGION and the credentials in the environment";

/// Checks all of them concurrently.
pub(super) async fn fleet(settings: &Settings) -> Vec<Finding> {
    let queue = async {
        let address = settings.queue_address().ok().flatten()?;
        Some(queue(address).await)
    };
    let bucket = async {
        let Ok(FilesAddress::Bucket { name, prefix }) = settings.files_address() else { return None };
        Some(bucket(&name, &prefix).await)
    };
    let redis = async {
        let cache = Cache::open(settings.redis_url.as_ref()?).await.ok()?;
        Some(redis(&cache).await)
    };
    let (queue, bucket, redis) = tokio::join!(queue, bucket, redis);
    [queue, bucket, redis].into_iter().flatten().collect()
}

/// The numbers of waiting messages and of dead letters.
async fn depths(address: QueueAddress) -> Result<(u64, u64), SqsError> {
    let away = |away: Error| SqsError::Unavailable(away.chain());
    let sqs = Sqs::connect(address).await?;
    let (work, dead) = tokio::try_join!(sqs.depth(), sqs.dead_letters()).map_err(away)?;
    Ok((work.visible, dead.visible))
}

async fn queue(address: QueueAddress) -> Finding {
    const CHECK: &str = "queue";
    let name = address.name().to_owned();
    let silent = |_| Err(SqsError::Unavailable("it does not answer".to_owned()));
    match timeout(TIMEOUT, depths(address)).await.unwrap_or_else(silent) {
        Ok((waiting, dead)) => {
            let detail = format!("{name} answers; messages waiting: {waiting}, dead letters: {dead}");
            let fix = "dead letters are chunks that failed: fix the cause, then run `cuponera redrive` to retry their jobs";
            if dead > 0 { Finding::warning(CHECK, detail, fix) } else { Finding::good(CHECK, detail) }
        }
        Err(fault) if fault.is_transient() => {
            let fix = format!("until it answers, jobs are accepted and wait; {FIX_AWS}");
            Finding::warning(CHECK, format!("{name}: {fault}"), fix)
        }
        Err(fault) => Finding::fault(CHECK, fault.to_string(), FIX_AWS),
    }
}

async fn bucket(name: &str, prefix: &str) -> Finding {
    const CHECK: &str = "bucket";
    let silent = |_| BucketState::Unavailable("it does not answer".to_owned());
    match timeout(TIMEOUT, Files::examine_bucket(name, prefix)).await.unwrap_or_else(silent) {
        BucketState::Exists => Finding::good(CHECK, format!("{name} answers")),
        BucketState::Unavailable(fault) => {
            let fix = format!("until it answers, imports are not possible; {FIX_AWS}");
            Finding::warning(CHECK, format!("{name}: {fault}"), fix)
        }
        BucketState::Rejected(fault) => Finding::fault(CHECK, fault, FIX_AWS),
    }
}

async fn redis(cache: &Cache) -> Finding {
    const CHECK: &str = "redis";
    let answers = async {
        while cache.state() != CacheState::Connected {
            sleep(REDIS_POLL).await;
        }
    };
    if timeout(REDIS_TIMEOUT, answers).await.is_ok() {
        return Finding::good(CHECK, "it answers");
    }
    let fix = "check that it runs, and the host, port, user and password of CUPONERA_REDIS_URL";
    let detail =
        "it does not answer: everything works without it, and each process applies its own rate limits";
    Finding::warning(CHECK, detail, fix)
}
