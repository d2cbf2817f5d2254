//! Faults of the connections between a fleet and its database: they are cut or delayed.

use std::time::Duration;

use futures::FutureExt;
use rand::RngExt;

use super::{Fault, end_all_leases};

const SLOW: Duration = Duration::from_millis(700);
const MAX_DELAY_MS: u64 = 20;

pub(super) const CUT_CONNECTIONS: Fault = Fault {
    name: "cut_connections",
    needs_fleet: true,
    leaves_files: true,
    strike: |installation, _| {
        async move {
            installation.services()?.postgres_proxy.cut();
            end_all_leases(installation).await;
            Ok(())
        }
        .boxed_local()
    },
};

pub(super) const SLOW_CONNECTIONS: Fault = Fault {
    name: "slow_connections",
    needs_fleet: true,
    leaves_files: false,
    strike: |installation, mut random| {
        async move {
            let postgres_proxy = &installation.services()?.postgres_proxy;
            postgres_proxy.delay(Duration::from_millis(random.random_range(1..MAX_DELAY_MS)));
            tokio::time::sleep(SLOW).await;
            postgres_proxy.delay(Duration::ZERO);
            Ok(())
        }
        .boxed_local()
    },
};
