//! Shared code of the tests: a world with a separate queue, and workers as in several processes.

use std::sync::Arc;
use std::time::Duration;

use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::csv::{Columns, Delimiter};
use cuponera_domain::id::JobId;
use cuponera_domain::job::{Job, JobStatus, import};
use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_platform::cache::Cache;
use cuponera_platform::files::Files;
use cuponera_platform::queue::{Queue, Relay, Sqs};
use cuponera_store::GenerateId;
use cuponera_store::{NewImport, Pools, Store};
use cuponera_testkit::{Emulator, TestQueue, World, eventually, read_as};
use cuponera_worker::Worker;
use cuponera_worker::deliver::Sender;
use sqlx::query_scalar;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const POOLS: Pools = Pools { rest: 8, ..Pools::MIN };

/// The lease of a worker.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// A world, a queue, and its workers. Dropping the value stops them.
pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) queue: TestQueue,
    pub(crate) files: TempDir,
    pub(crate) stop: CancellationToken,
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        Self {
            world: World::new().await,
            queue: Emulator::get().await.queue().await,
            files: TempDir::new().unwrap(),
            stop: CancellationToken::new(),
        }
    }

    /// The store of an API that announces its jobs through this client.
    pub(crate) fn store(&self, sqs: &Arc<Sqs>) -> Store {
        Queue::Sqs(sqs.clone()).attach(self.world.store().clone())
    }

    /// A relay, as an API runs it.
    pub(crate) fn relay(&self, sqs: &Arc<Sqs>) -> JoinHandle<()> {
        tokio::spawn(Relay::new(self.store(sqs), sqs.clone()).run(self.stop.clone()))
    }

    /// A worker process. It shares only the database and the queue with others.
    pub(crate) async fn worker(&self, name: &str, sqs: &Arc<Sqs>) -> Process {
        let queue = Queue::Sqs(sqs.clone());
        let store = queue.attach(self.world.database.another_store(POOLS).await);
        let (stop, relay_stop) = (self.stop.child_token(), self.stop.child_token());
        let relay = tokio::spawn(Relay::new(store.clone(), sqs.clone()).run(relay_stop.clone()));
        let worker = Worker {
            store,
            files: self.files(),
            queue,
            cache: Cache::none(),
            concurrency: 2,
            name: name.to_owned(),
            retention: Duration::from_hours(90 * 24),
            sender: Sender::new(AllowedNetworks::default()),
            audit_key: None,
        };
        let worker = tokio::spawn(worker.run(stop.clone()));
        Process { worker, stop, relay, relay_stop }
    }

    pub(crate) fn files(&self) -> Files {
        Files::in_folder(self.files.path()).unwrap()
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        self.world.store().get_job(self.world.business, id).await.unwrap()
    }

    /// Waits for the end of the job. The timeout is longer than that of other conditions, because messages may be lost.
    pub(crate) async fn over(&self, id: JobId) -> Job {
        let ended = async {
            loop {
                let job = self.job(id).await;
                if job.status.is_over() {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(4), ended).await.expect("the job does not end")
    }

    /// The job, which must have succeeded completely.
    pub(crate) async fn succeeded(&self, id: JobId) -> Job {
        let job = self.over(id).await;
        assert_eq!((job.status, job.error.clone()), (JobStatus::Succeeded, None));
        job
    }

    pub(crate) async fn generate(&self, store: &Store, quantity: u64) -> Job {
        generate(&self.world, store, quantity).await
    }

    /// An ordered job with stored parts: a dry run of this many parts with this many codes each.
    pub(crate) async fn dry_run(&self, store: &Store, parts: u64, codes: u64) -> Job {
        let id = JobId::generate();
        let mut stored = Vec::new();
        for part in 0..parts {
            let lines: Vec<String> = (0..codes).map(|code| format!("D{part:03}-{code:06}")).collect();
            let file = format!("uploads/{id}/{part}");
            self.files().put(&file, lines.join("\n").into_bytes().into()).await.unwrap();
            stored.push(import::Chunk::at_line(file, part * codes + 1));
        }
        submit_dry_run(&self.world, store, id, stored, parts * codes).await
    }

    pub(crate) async fn unsent(&self) -> i64 {
        count(&self.world, "select count(*) from outbox").await
    }

    pub(crate) async fn all_is_sent(&self) {
        eventually("the outbox to be sent", async || (self.unsent().await == 0).then_some(())).await;
    }
}

/// A worker and its relay.
pub(crate) struct Process {
    worker: JoinHandle<()>,
    stop: CancellationToken,
    relay: JoinHandle<()>,
    relay_stop: CancellationToken,
}

impl Process {
    /// Stops it and waits for its end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.worker.await.unwrap();
        self.relay_stop.cancel();
        self.relay.await.unwrap();
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) async fn count(world: &World, sql: &'static str) -> i64 {
    query_scalar(sql).fetch_one(world.pool()).await.unwrap()
}

pub(crate) async fn generate(world: &World, store: &Store, quantity: u64) -> Job {
    let pattern = Pattern::parse("Q-{XXXXXXXXXX}").unwrap();
    let job =
        store.submit_generation(None, world.business, "service:test", world.book, &pattern, quantity).await;
    job.unwrap().outcome.unwrap()
}

/// A dry run of these parts, which is an ordered job.
pub(crate) async fn submit_dry_run(
    world: &World,
    store: &Store,
    id: JobId,
    parts: Vec<import::Chunk>,
    rows: u64,
) -> Job {
    let import = NewImport { id, parts, rows, last_place: rows, dry_run: true, ..import_to(world) };
    store.submit_import(None, world.business, "test", import).await.unwrap().outcome.unwrap()
}

/// An import without rows into the book of the world.
pub(crate) fn import_to(world: &World) -> NewImport {
    NewImport {
        id: JobId::generate(),
        book: world.book,
        columns: Columns::default(),
        delimiter: Delimiter::default(),
        read_as: read_as(),
        dry_run: false,
        may_repeat_codes: true,
        parts: Vec::new(),
        rows: 0,
        last_place: 0,
    }
}
