//! What the programs of a fleet share beside the database: the queue, the bucket, Redis. Of those that the settings do not
//! name nothing is said; nor of addresses that are none, which is said of the settings.

use std::time::Duration;

use cuponera_core::cache::{Cache, CacheState};
use cuponera_core::config::Settings;
use cuponera_core::files::{Files, FilesAddress};
use cuponera_core::queue::{QueueAddress, Sqs};
use tokio::time::timeout;

use super::report::Finding;

/// What takes longer does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
const FIX_AWS: &str = "check that it is there, and AWS_REGION and the credentials of the environment";

/// Looks at all of them.
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
        Some(redis(cache.state()))
    };
    let (queue, bucket, redis) = tokio::join!(queue, bucket, redis);
    [queue, bucket, redis].into_iter().flatten().collect()
}

async fn queue(address: QueueAddress) -> Finding {
    const CHECK: &str = "queue";
    let name = address.name().to_owned();
    let looked = async {
        let sqs = Sqs::connect(address).await.map_err(|fault| fault.to_string())?;
        let (work, dead) = tokio::try_join!(sqs.depth(), sqs.dead_letters()).map_err(|away| away.chain())?;
        Ok((work.visible, dead.visible))
    };
    let fix = format!("{FIX_AWS}; until then jobs are taken, and wait");
    match timeout(PATIENCE, looked).await.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
        Ok((waiting, 0)) => Finding::good(CHECK, format!("{name} answers; {waiting} messages wait")),
        Ok((_, dead)) => {
            let detail = format!("{name} answers; {dead} dead letters tell of work that failed");
            Finding::warning(CHECK, detail, "once the cause is mended, `cuponera redrive` retries their jobs")
        }
        Err(fault) => Finding::fault(CHECK, format!("{name}: {fault}"), fix),
    }
}

async fn bucket(name: &str, prefix: &str) -> Finding {
    const CHECK: &str = "bucket";
    let looked = timeout(PATIENCE, Files::examine_bucket(name, prefix)).await;
    match looked.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
        Ok(()) => Finding::good(CHECK, format!("{name} answers")),
        Err(fault) => Finding::fault(CHECK, format!("{name}: {fault}"), FIX_AWS),
    }
}

fn redis(state: CacheState) -> Finding {
    const CHECK: &str = "redis";
    if state == CacheState::Connected {
        return Finding::good(CHECK, "it answers");
    }
    let fix = "check that it runs, and the host, port, user and password of CUPONERA_REDIS_URL";
    let detail = "it does not answer: all goes on without it, and each task counts limits for itself";
    Finding::warning(CHECK, detail, fix)
}
