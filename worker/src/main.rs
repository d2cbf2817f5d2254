//! `cuponera-worker`: executes the jobs of a fleet. Any number of workers may run.
//!
//! It does not change the schema. On a signal it claims nothing more, finishes or releases its chunks, and exits within
//! 15 s.

use std::process::ExitCode;

use clap::Parser;
use cuponera_platform::config::{Settings, for_worker};
use cuponera_platform::lifecycle::{self, RunningRelay};
use cuponera_platform::queue::Queue;
use cuponera_worker::Worker;
use secrecy::ExposeSecret;
use tokio_util::task::TaskTracker;
use tracing::info;

/// A worker of Cuponera. `cuponera migrate` must have created the schema of its database.
#[derive(Debug, Parser)]
#[command(name = "cuponera-worker", version, max_term_width = 110, mut_args(for_worker))]
struct Program {
    #[command(flatten)]
    settings: Settings,
}

fn main() -> ExitCode {
    let done = lifecycle::prepare().and_then(|()| {
        let settings = Program::parse().settings;
        let checked = settings.check_for_worker();
        lifecycle::run(settings, checked, work)
    });
    lifecycle::report("cuponera-worker", done)
}

async fn work(settings: Settings) -> Result<(), String> {
    let stop = lifecycle::stop_on_signals(
        "stopping immediately; other workers claim its chunks when their leases expire",
    )?;
    let metrics = lifecycle::expose(&settings, &stop).await?;
    let queue = lifecycle::open_queue(&settings).await?;
    let store = lifecycle::open_store(&settings, settings.worker_pools(), &queue).await?;
    metrics.watch("worker", &store);
    let files = lifecycle::open_files(&settings).await?;
    let cache = lifecycle::open_cache(&settings, &metrics).await?;
    let relay = RunningRelay::start(&queue, &store);
    let listening = TaskTracker::new();
    if let (Queue::Postgres(wakeups), Some(url)) = (&queue, settings.database_url.clone()) {
        let (wakeups, stop) = (wakeups.clone(), stop.clone());
        listening.spawn(async move { wakeups.listen(url.expose_secret(), &stop).await });
    }
    let worker = Worker::new(&settings, &host(), store.clone(), files, queue.clone(), cache);
    info!(name = worker.name, places = worker.concurrency, version = env!("CARGO_PKG_VERSION"), "working");
    worker.run(stop).await;
    // After the worker has stopped, so that the chunks that it released are announced.
    relay.stop().await;
    lifecycle::close(&[&store]).await;
    info!("stopped");
    Ok(())
}

/// The host name. The process id does not identify a worker, because it is 1 in each container.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Some(name.trim()).filter(|name| !name.is_empty()).unwrap_or("worker").to_owned()
}
