//! Faults of Redis: it loses its data, freezes for a while, or is killed and restarts empty.

use std::time::Duration;

use futures::FutureExt;
use rand::RngExt;

use super::Fault;

const MAX_FREEZE_MS: u64 = 800;
const MAX_ABSENCE_MS: u64 = 500;

pub(super) const FLUSH_REDIS: Fault = Fault {
    name: "flush_redis",
    needs_fleet: true,
    leaves_files: false,
    strike: |installation, _| {
        async move {
            installation.services()?.redis.lock().await.flush().await;
            Ok(())
        }
        .boxed_local()
    },
};

pub(super) const FREEZE_REDIS: Fault = Fault {
    name: "freeze_redis",
    needs_fleet: true,
    leaves_files: false,
    strike: |installation, mut random| {
        async move {
            let redis = installation.services()?.redis.lock().await;
            redis.freeze();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..MAX_FREEZE_MS))).await;
            redis.thaw();
            Ok(())
        }
        .boxed_local()
    },
};

pub(super) const KILL_REDIS: Fault = Fault {
    name: "kill_redis",
    needs_fleet: true,
    leaves_files: false,
    strike: |installation, mut random| {
        async move {
            let mut redis = installation.services()?.redis.lock().await;
            redis.kill();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..MAX_ABSENCE_MS))).await;
            redis.start_again().await;
            Ok(())
        }
        .boxed_local()
    },
};
