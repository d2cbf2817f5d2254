//! A fleet: an API and workers as processes, with a database and, on AWS, a queue, a bucket and a Redis. Each process
//! can be ended, killed, frozen and restarted. All of them end with the test, also if it fails.

use std::process::Command;

use cuponera_testkit::{
    Emulator, Redis, TestBucket, TestDatabase, TestQueue, assert_invariants, eventually, programs_beside,
};
use tempfile::TempDir;

use super::{Admin, EMAIL, PASSWORD, Process, cuponera, without_settings};

/// The JWT secret.
pub(crate) const SECRET: &str = "a-secret-of-this-test-32-bytes-or-more";
/// The key of the seals.
const AUDIT_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
/// The AWS secret of the processes; no log may contain it.
pub(crate) const AWS_SECRET: &str = "a-secret-of-aws";

/// A running fleet. Fields are dropped in this order: the processes before the services that they use.
pub(crate) struct Fleet {
    pub(crate) api: Process,
    pub(crate) workers: Vec<Process>,
    address: String,
    installation: FleetInstallation,
}

/// The services that the processes of a fleet share, and their settings.
pub(crate) struct FleetInstallation {
    pub(crate) database: TestDatabase,
    /// If absent, the database is the queue and files are in a folder.
    pub(crate) aws: Option<Aws>,
    settings: Vec<(String, String)>,
    folder: TempDir,
}

/// The services of an installation on AWS besides its database.
pub(crate) struct Aws {
    /// With its dead-letter queue.
    pub(crate) queue: TestQueue,
    pub(crate) bucket: TestBucket,
    pub(crate) redis: Redis,
}

impl FleetInstallation {
    pub(crate) async fn on_aws(database: TestDatabase) -> Self {
        let emulator = Emulator::get().await;
        let (queue, bucket) = (emulator.queue().await, emulator.bucket().await);
        Self::with(database, Some(Aws { queue, bucket, redis: Redis::start().await }))
    }

    /// With only a database and a folder that all processes share.
    pub(crate) fn on_postgres(database: TestDatabase) -> Self {
        Self::with(database, None)
    }

    fn with(database: TestDatabase, aws: Option<Aws>) -> Self {
        let folder = TempDir::new().expect("creating a temporary folder failed");
        Self { database, aws, settings: Vec::new(), folder }
    }

    /// Sets an environment variable, such as `CUPONERA_REDIS_URL`, for all processes started later.
    pub(crate) fn tell(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `cuponera-api`, `cuponera-worker` or `cuponera`; settings can be added and removed.
    pub(crate) fn command(&self, name: &str) -> Command {
        let is_cuponera = name == "cuponera";
        let mut command = if is_cuponera {
            cuponera()
        } else {
            without_settings(Command::new(programs_beside(env!("CARGO_BIN_EXE_cuponera")).join(name)))
        };
        command
            .current_dir(self.folder.path())
            .env("CUPONERA_DATA_DIR", self.folder.path().join("data"))
            .env("CUPONERA_DATABASE_URL", self.database.url())
            .env("CUPONERA_DATABASE_POOL", "8")
            .env("CUPONERA_HTTP_ADDR", "127.0.0.1:0")
            .env("CUPONERA_JWT_SECRET", SECRET)
            .env("CUPONERA_AUDIT_KEY", AUDIT_KEY)
            .env("CUPONERA_WORKER_CONCURRENCY", "2");
        if let Some(Aws { queue, bucket, redis }) = &self.aws {
            command
                .env("CUPONERA_REDIS_URL", redis.url())
                .env("CUPONERA_QUEUE_URL", queue.name())
                .env("CUPONERA_FILES_URL", format!("s3://{}/shop", bucket.name()))
                .env("AWS_ENDPOINT_URL", queue.endpoint())
                .env("AWS_REGION", "us-east-1")
                .env("AWS_ACCESS_KEY_ID", "test")
                .env("AWS_SECRET_ACCESS_KEY", AWS_SECRET)
                .env("NO_PROXY", "127.0.0.1");
        }
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Creates the schema and the first business, as an operator does.
    pub(crate) async fn set_up(&self) {
        run(self.command("cuponera").arg("migrate")).await;
        let verb =
            ["admin", "create-business", "Shop", "--if-none", "--password-stdin", "--admin-email", EMAIL];
        let password = self.folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("writing failed");
        let password = std::fs::File::open(password).expect("reading failed");
        run(self.command("cuponera").args(verb).stdin(password)).await;
    }

    /// Starts a worker that is not part of a [`Fleet`].
    pub(crate) async fn start_worker(&self) -> Process {
        let mut worker = Process::spawn(&mut self.command("cuponera-worker"));
        worker.logged("working").await;
        worker
    }

    /// Starts an API on an address. Returns the actual address.
    async fn start_api(&self, address: &str) -> (Process, String) {
        let mut api = Process::spawn(self.command("cuponera-api").env("CUPONERA_HTTP_ADDR", address));
        let address = api.logged("serving").await["address"].as_str().expect("an address").to_owned();
        (api, address)
    }

    /// Sets everything up and starts an API and `workers` workers.
    pub(crate) async fn start(self, workers: usize) -> Fleet {
        self.set_up().await;
        let (api, address) = self.start_api("127.0.0.1:0").await;
        let mut fleet = Fleet { api, workers: Vec::new(), address, installation: self };
        for _ in 0..workers {
            fleet.add_worker().await;
        }
        fleet
    }
}

impl Fleet {
    /// A fleet on AWS.
    pub(crate) async fn on_aws(workers: usize) -> Self {
        FleetInstallation::on_aws(TestDatabase::create().await).await.start(workers).await
    }

    /// A fleet on AWS whose processes may be frozen.
    pub(crate) async fn on_aws_to_freeze(workers: usize) -> Self {
        let database = TestDatabase::create_empty_on_own_server().await;
        FleetInstallation::on_aws(database).await.start(workers).await
    }

    /// A fleet with only a database.
    pub(crate) async fn on_postgres(workers: usize) -> Self {
        FleetInstallation::on_postgres(TestDatabase::create().await).start(workers).await
    }

    /// The services that its processes share.
    pub(crate) fn installation(&self) -> &FleetInstallation {
        &self.installation
    }

    pub(crate) fn database(&self) -> &TestDatabase {
        &self.installation.database
    }

    pub(crate) fn queue(&self) -> &TestQueue {
        &self.installation.aws.as_ref().expect("this fleet has no queue").queue
    }

    pub(crate) fn bucket(&self) -> &TestBucket {
        &self.installation.aws.as_ref().expect("this fleet has no bucket").bucket
    }

    /// The address of the API.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The first admin, logged in.
    pub(crate) async fn admin(&self) -> Admin {
        Admin::log_in(format!("http://{}/api/v1", self.address), PASSWORD).await
    }

    /// Starts another worker.
    pub(crate) async fn add_worker(&mut self) -> &mut Process {
        let worker = self.installation.start_worker().await;
        self.workers.push(worker);
        self.workers.last_mut().expect("it was just added")
    }

    /// Sets an environment variable for all processes started later, overriding an earlier value.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.installation.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Starts the API again on the same address, after the previous one has ended.
    pub(crate) async fn restart_api(&mut self) {
        (self.api, _) = self.installation.start_api(&self.address).await;
    }

    /// Checks the invariants, and that no message is left.
    pub(crate) async fn assert_well(&self) {
        assert_invariants(self.database().pool()).await;
        if let Some(Aws { queue, .. }) = &self.installation.aws {
            eventually("the messages to be deleted", async || {
                queue.messages().await.is_empty().then_some(())
            })
            .await;
        }
    }
}

/// Runs a command that must succeed.
async fn run(command: &mut Command) {
    let mut process = Process::spawn(command);
    let status = process.ended().await;
    assert!(status.success(), "{status}: {}", process.stderr());
}
