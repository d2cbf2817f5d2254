//! A fleet: two APIs and two workers, with Postgres behind a proxy, Redis, and emulators of SQS and S3.

use std::path::{Path, PathBuf};

use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use cuponera_testkit::{Adversary, Emulator, FaultConfig, Redis, free_address};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{AssertSqlSafe, Connection, PgConnection, query};
use tokio::sync::Mutex;

use super::program::{Program, finish};
use super::{
    EMAIL, Installation, NO_LIMIT, OTHER_EMAIL, PASSWORD, Services, WEBHOOK_NETWORK, folder, of_database,
    wait_until_ready,
};
use crate::Result;
use crate::bugs::Bug;
use crate::plan::Plan;
use crate::postgres_proxy::PostgresProxy;

/// The key of the seals.
pub(super) const AUDIT_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

const PROGRAMS: [(&str, &str); 4] = [
    ("api 1", "cuponera-api"),
    ("api 2", "cuponera-api"),
    ("worker 1", "cuponera-worker"),
    ("worker 2", "cuponera-worker"),
];

pub(super) async fn start(programs: &Path, plan: &Plan) -> Result<Installation> {
    let folder = folder()?;
    let (services, queue) = services(folder.path(), plan.seed, plan.bug).await?;
    let settings = settings(&services, folder.path(), &queue)?;
    let log = folder.path().join("set-up.log");
    let cuponera = |arguments: &'static [&'static str]| {
        finish(programs.join("cuponera"), arguments, &settings, PASSWORD, &log)
    };
    cuponera(&["migrate"]).await?;
    cuponera(&["admin", "create-business", "Shop", "--password-stdin", "--admin-email", EMAIL]).await?;
    cuponera(&["admin", "create-business", "Other", "--password-stdin", "--admin-email", OTHER_EMAIL])
        .await?;
    let (mut running, mut apis) = (Vec::new(), Vec::new());
    for (name, program) in PROGRAMS {
        let mut settings = settings.clone();
        if program == "cuponera-api" {
            let address = free_address().to_string();
            apis.push(address.clone());
            settings.push(("CUPONERA_HTTP_ADDR".to_owned(), address));
        }
        // The second API and the second worker.
        let programs = plan.previous.as_deref().filter(|_| name.ends_with('2')).unwrap_or(programs);
        let log: PathBuf = folder.path().join(format!("{name}.log"));
        running.push(Program::start(name, programs.join(program), &[], settings, log)?);
    }
    wait_until_ready(&apis).await?;
    Ok(Installation { programs: running, apis, fleet: Some(services), _left: None, folder })
}

/// Starts the services; returns them and the name of the queue.
async fn services(folder: &Path, seed: u64, bug: Option<&'static Bug>) -> Result<(Services, String)> {
    let (binaries, options) = (Binaries::find()?, Options::new(folder.join("data")));
    let (postgres, emulator, redis) =
        tokio::join!(PrivatePostgres::start(&binaries, &options), Emulator::get(), Redis::start());
    let postgres = postgres?;
    let mut admin = PgConnection::connect(postgres.url()).await?;
    query(AssertSqlSafe("create database cuponera")).execute(&mut admin).await?;
    admin.close().await?;
    let server = postgres.url().rsplit_once('@').and_then(|(_, address)| address.split_once('/'));
    let (server, _) = server.ok_or("the server has an unexpected URL")?;
    let postgres_proxy = PostgresProxy::before(server.to_owned(), bug).await?;
    let (queue, bucket) = (emulator.queue().await, emulator.bucket().await);
    let adversary = Adversary::before(queue.endpoint(), seed, fault_config(seed)).await;
    let redis = Mutex::new(redis);
    let name = queue.name().to_owned();
    Ok((Services { postgres_proxy, queue: adversary, bucket, redis, postgres }, name))
}

/// The faults of the queue: in every second seed it duplicates, delays, reorders, rejects and forgets
/// messages and loses deletes.
fn fault_config(seed: u64) -> FaultConfig {
    let mut random = StdRng::seed_from_u64(seed);
    if random.random_bool(0.5) {
        return FaultConfig::GOOD;
    }
    // No late or missing answers: the clients' timeouts are longer than a storm.
    FaultConfig {
        most_copies: 3,
        most_delay: 1,
        refuse_message: 0.1,
        lose_delete: 0.2,
        forget_after: Some(random.random_range(1..=6)),
        ..FaultConfig::GOOD
    }
}

fn settings(services: &Services, folder: &Path, queue: &str) -> Result<Vec<(String, String)>> {
    let url = of_database(services.postgres.url())?;
    let (user, rest) = url.rsplit_once('@').ok_or("the server has an unexpected URL")?;
    let (_, database) = rest.split_once('/').ok_or("the server has an unexpected URL")?;
    let files = folder.join("files");
    let settings = [
        ("CUPONERA_DATABASE_URL", format!("{user}@{}/{database}", services.postgres_proxy.address)),
        (
            "CUPONERA_DATA_DIR",
            files.to_str().ok_or("the path of the temporary folder is not UTF-8")?.to_owned(),
        ),
        ("CUPONERA_DATABASE_POOL", "10".to_owned()),
        ("CUPONERA_WORKER_CONCURRENCY", "2".to_owned()),
        ("CUPONERA_JWT_SECRET", PASSWORD.repeat(2)),
        ("CUPONERA_AUDIT_KEY", AUDIT_KEY.to_owned()),
        ("CUPONERA_REDIS_URL", redis_url(services)?),
        ("CUPONERA_QUEUE_URL", queue.to_owned()),
        ("CUPONERA_FILES_URL", format!("s3://{}/storm", services.bucket.name())),
        ("CUPONERA_LOG_FORMAT", "json".to_owned()),
        ("CUPONERA_RATE_LIMIT_USER", NO_LIMIT.to_owned()),
        ("CUPONERA_WEBHOOK_ALLOW", WEBHOOK_NETWORK.to_owned()),
        ("AWS_ENDPOINT_URL", services.bucket.endpoint().to_owned()),
        ("AWS_ENDPOINT_URL_SQS", services.queue.endpoint()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("NO_PROXY", "127.0.0.1".to_owned()),
    ];
    Ok(settings.map(|(name, value)| (name.to_owned(), value)).into())
}

fn redis_url(services: &Services) -> Result<String> {
    Ok(services.redis.try_lock()?.url())
}
