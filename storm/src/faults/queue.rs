//! Faults of SQS: it rejects all calls for a while, or answers none.

use std::time::Duration;

use futures::FutureExt;
use rand::RngExt;

use super::Fault;

const MAX_MS: u64 = 800;

pub(super) const REFUSE_QUEUE: Fault = Fault {
    name: "refuse_queue",
    needs_fleet: true,
    leaves_files: false,
    strike: |installation, mut random| {
        async move {
            let queue = &installation.services()?.queue;
            queue.refuse();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..MAX_MS))).await;
            queue.reset_faults();
            Ok(())
        }
        .boxed_local()
    },
};

pub(super) const HANG_QUEUE: Fault = Fault {
    name: "hang_queue",
    needs_fleet: true,
    leaves_files: false,
    strike: |installation, mut random| {
        async move {
            let queue = &installation.services()?.queue;
            queue.hang();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..MAX_MS))).await;
            queue.reset_faults();
            Ok(())
        }
        .boxed_local()
    },
};
