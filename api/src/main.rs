//! `cuponera-api`: the API of a fleet, in any number of processes behind a load balancer.
//!
//! It generates no secrets and changes no schema. On a stop signal it accepts no new connections after one second and
//! exits within ten seconds.

use std::process::ExitCode;

use clap::Parser;
use cuponera_api::{App, AppBuilder};
use cuponera_platform::config::{Settings, for_api};
use cuponera_platform::lifecycle::{self, RunningRelay};
use cuponera_store::Pools;
use tracing::info;

/// The relay has its own connections, so jobs are announced even if the API is busy.
const RELAY_POOLS: Pools = Pools::MIN;

/// The API of Cuponera. `cuponera migrate` creates its database; workers run its jobs.
#[derive(Debug, Parser)]
#[command(name = "cuponera-api", version, max_term_width = 110, mut_args(for_api))]
struct Program {
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let done = lifecycle::prepare().and_then(|()| {
        let settings = Program::parse().settings;
        let checked = settings.check_for_api();
        lifecycle::run(settings, checked, serve)
    });
    lifecycle::report("cuponera-api", done)
}

async fn serve(settings: Settings) -> Result<(), String> {
    let stop = lifecycle::stop_on_signals("stopping immediately")?;
    let listener = cuponera_api::listen(&settings)?;
    let metrics = lifecycle::expose(&settings, &stop).await?;
    let queue = lifecycle::open_queue(&settings).await?;
    let store = lifecycle::open_store(&settings, settings.pools(), &queue).await?;
    let relay_store = lifecycle::open_another_store(&settings, RELAY_POOLS, &queue).await?;
    let files = lifecycle::open_files(&settings).await?;
    let cache = lifecycle::open_cache(&settings, &metrics).await?;
    let secret = settings.jwt_secret.as_ref().ok_or("CUPONERA_JWT_SECRET: is not set")?;
    let builder = AppBuilder::new(&settings, secret, store.clone(), files, queue.clone(), cache, metrics);
    let app = App::start(builder).map_err(|error| error.chain())?;
    let relay = RunningRelay::start(&queue, &relay_store);
    let address = listener.local_addr().unwrap_or(settings.http_addr);
    info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");
    cuponera_api::serve(listener, app, stop).await;
    relay.stop().await;
    lifecycle::close(&[&store, &relay_store]).await;
    info!("stopped");
    Ok(())
}
