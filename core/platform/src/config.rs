//! Settings: flags and `CUPONERA_*` variables, checked at start. Secrets are never printed.

mod fleet;
mod origin;
mod rate;
mod shares;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

use crate::cache::check_url;
use crate::credential::{MIN_JWT_SECRET_BYTES, check_password};
use crate::files::FilesAddress;
use crate::queue::QueueAddress;
use cuponera_domain::audit::{AuditKey, InvalidKey};
use cuponera_domain::principal::parse_email;
use cuponera_domain::text;
use cuponera_store::{Pools, connect_options};

pub use fleet::{for_api, for_worker};
pub use origin::Origin;
pub use rate::{Rate, RateLimit};
pub use shares::{MAX_JSON_BYTES, Share, Shares};

/// Minimum of `CUPONERA_JOB_RETENTION`.
const MIN_JOB_RETENTION: Duration = Duration::from_hours(24);

/// The settings of an installation.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// The address on which the API listens.
    #[arg(long, env = "CUPONERA_HTTP_ADDR", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub http_addr: SocketAddr,

    /// The folder of this installation: the private Postgres, uploaded files, generated secrets.
    #[arg(long, env = "CUPONERA_DATA_DIR", default_value = ".cuponera", value_name = "FOLDER")]
    pub data_dir: PathBuf,

    /// The URL of an existing Postgres (15 or newer), instead of a private one: postgres://user:password@host:port/database
    #[arg(long, env = "CUPONERA_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,

    /// Maximum number of database connections of the API. Default: 8 for each core, at least 16, at most 64. Half are for assigning,
    /// locking and redeeming; the others are divided among reads, reports and ordinary writes. The worker has separate connections.
    #[arg(long, env = "CUPONERA_DATABASE_POOL", value_name = "CONNECTIONS", value_parser = clap::value_parser!(u32).range(4..=1000))]
    pub database_pool: Option<u32>,

    /// The SQS queue that wakes the workers, by URL or by name. Default: the database wakes them. Region and credentials come from
    /// the settings of the AWS SDK; AWS_ENDPOINT_URL is the address of an emulator.
    #[arg(long, env = "CUPONERA_QUEUE_URL", value_name = "QUEUE")]
    pub queue_url: Option<String>,

    /// A Redis that the programs of a fleet share: redis://user:password@host:port, or rediss:// for TLS. It is a cache and may be
    /// unavailable at any time. Default: no Redis.
    #[arg(long, env = "CUPONERA_REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<SecretString>,

    /// The store of uploaded files: file:///some/folder, or s3://bucket/prefix with the settings of the AWS SDK. Default: the data folder.
    #[arg(long, env = "CUPONERA_FILES_URL", value_name = "URL")]
    pub files_url: Option<String>,

    /// The secret that signs access tokens, at least 32 bytes. Default: generated once and stored in the data folder.
    #[arg(long, env = "CUPONERA_JWT_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub jwt_secret: Option<SecretString>,

    /// The previous secret, while CUPONERA_JWT_SECRET is rotated: access tokens signed with it are also accepted.
    #[arg(long, env = "CUPONERA_JWT_SECRET_PREVIOUS", value_name = "SECRET", hide_env_values = true)]
    pub jwt_secret_previous: Option<SecretString>,

    /// The key of the seals over the event logs: 32 bytes as 64 hexadecimal digits, the same for every worker of this installation.
    /// Default: `up` generates it once and stores it in the data folder; another worker without it seals nothing.
    #[arg(long, env = "CUPONERA_AUDIT_KEY", value_name = "KEY", hide_env_values = true)]
    pub audit_key: Option<SecretString>,

    /// The email of the first admin. Used only if the database has no business.
    #[arg(long, env = "CUPONERA_ADMIN_EMAIL", value_name = "EMAIL", default_value = "admin@example.com", value_parser = trimmed)]
    pub admin_email: String,

    /// The password of the first admin. Default: generated, and printed once.
    #[arg(long, env = "CUPONERA_ADMIN_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub admin_password: Option<SecretString>,

    /// Maximum number of job chunks processed at once. Default: the number of cores.
    #[arg(long, env = "CUPONERA_WORKER_CONCURRENCY", value_name = "CHUNKS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub worker_concurrency: Option<u16>,

    /// How long the chunks, rejected rows and files of a job are kept after its end. The job itself is not deleted.
    #[arg(long, env = "CUPONERA_JOB_RETENTION", value_name = "TIME", default_value = "90d", value_parser = humantime::parse_duration)]
    pub job_retention: Duration,

    /// Maximum size of an uploaded file.
    #[arg(long, env = "CUPONERA_UPLOAD_LIMIT", value_name = "SIZE", default_value = "2GiB")]
    pub upload_limit: ByteSize,

    /// Maximum size of the stored uploads, rejected rows and exports of a business.
    #[arg(long, env = "CUPONERA_STORAGE_QUOTA", value_name = "SIZE", default_value = "10GiB")]
    pub storage_quota: ByteSize,

    /// Lifetime of an access token.
    #[arg(long, env = "CUPONERA_ACCESS_TOKEN_TTL", value_name = "TIME", default_value = "15m", value_parser = humantime::parse_duration)]
    pub access_token_ttl: Duration,

    /// Lifetime of a refresh token.
    #[arg(long, env = "CUPONERA_REFRESH_TOKEN_TTL", value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
    pub refresh_token_ttl: Duration,

    /// Rate limit of an IP address, for requests without valid credentials: a number per minute, 10/s, 5000/h, or none.
    #[arg(long, env = "CUPONERA_RATE_LIMIT_ANONYMOUS", value_name = "RATE", default_value = "100")]
    pub rate_limit_anonymous: RateLimit,

    /// Rate limit of a USER.
    #[arg(long, env = "CUPONERA_RATE_LIMIT_USER", value_name = "RATE", default_value = "600")]
    pub rate_limit_user: RateLimit,

    /// Rate limit of a SERVICE key.
    #[arg(long, env = "CUPONERA_RATE_LIMIT_SERVICE", value_name = "RATE", default_value = "none")]
    pub rate_limit_service: RateLimit,

    /// Rate limit of an ADMIN.
    #[arg(long, env = "CUPONERA_RATE_LIMIT_ADMIN", value_name = "RATE", default_value = "none")]
    pub rate_limit_admin: RateLimit,

    /// The sizes of shared resources, and the shares of each caller.
    #[command(flatten)]
    pub shares: Shares,

    /// The networks of your proxies, separated by commas, such as 10.0.0.0/8,fd00::/8. X-Forwarded-For is used only from these.
    #[arg(
        long,
        env = "CUPONERA_TRUSTED_PROXIES",
        value_name = "NETWORKS",
        value_delimiter = ',',
        value_parser = network
    )]
    pub trusted_proxies: Vec<IpNet>,

    /// The private networks to which webhooks may be sent, separated by commas, such as 10.0.0.0/8; also the only networks of
    /// receivers without TLS (http). Public addresses are always allowed over https. Set it for the API and the worker.
    #[arg(
        long,
        env = "CUPONERA_WEBHOOK_ALLOW",
        value_name = "NETWORKS",
        value_delimiter = ',',
        value_parser = network
    )]
    pub webhook_allow: Vec<IpNet>,

    /// The web origins that may call the API, separated by commas, such as https://shop.example; or * for all, without cookies.
    #[arg(long, env = "CUPONERA_CORS_ORIGINS", value_name = "ORIGINS", value_delimiter = ',')]
    pub cors_origins: Vec<Origin>,

    /// A separate address for /metrics, readable by every client that can reach it. Default: the API's address, from this machine only.
    #[arg(long, env = "CUPONERA_METRICS_ADDR", value_name = "ADDRESS:PORT")]
    pub metrics_addr: Option<SocketAddr>,

    /// The collector of traces (OTLP over HTTP), such as http://localhost:4318. Default: no traces are sent.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    pub otlp_endpoint: Option<String>,

    /// The log level: error, warn, info, debug, trace, or a filter such as cuponera_worker=debug.
    #[arg(long, env = "CUPONERA_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// The format of the log. Default: text on a terminal, otherwise json.
    #[arg(long, env = "CUPONERA_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

impl Settings {
    /// Checks all settings. Returns all errors, one line each.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut faults = Vec::new();
        if let Some(Err(fault)) = self.database_url.as_ref().map(|url| connect_options(url.expose_secret())) {
            faults.push(format!("CUPONERA_DATABASE_URL: {fault}"));
        }
        for (name, secret) in [
            ("CUPONERA_JWT_SECRET", &self.jwt_secret),
            ("CUPONERA_JWT_SECRET_PREVIOUS", &self.jwt_secret_previous),
        ] {
            if secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < MIN_JWT_SECRET_BYTES) {
                faults.push(format!("{name}: must have at least {MIN_JWT_SECRET_BYTES} bytes"));
            }
        }
        if let Err(fault) = self.audit_key() {
            faults.push(fault);
        }
        if parse_email(&self.admin_email).is_err() {
            faults.push("CUPONERA_ADMIN_EMAIL: must be an email address".to_owned());
        }
        if let Some(password) = &self.admin_password
            && let Err(fault) = check_password(password.expose_secret(), Some(&self.admin_email))
        {
            faults.push(format!("CUPONERA_ADMIN_PASSWORD: {fault}"));
        }
        if self.upload_limit.as_u64() == 0 {
            faults.push("CUPONERA_UPLOAD_LIMIT: must be more than 0".to_owned());
        }
        if self.storage_quota.as_u64() == 0 {
            faults.push("CUPONERA_STORAGE_QUOTA: must be more than 0".to_owned());
        }
        if self.access_token_ttl < Duration::from_secs(1) || self.refresh_token_ttl < self.access_token_ttl {
            faults.push(
                "CUPONERA_ACCESS_TOKEN_TTL, CUPONERA_REFRESH_TOKEN_TTL: must be at least 1s, and the refresh token must not live shorter than the access token"
                    .to_owned(),
            );
        }
        if self.job_retention < MIN_JOB_RETENTION {
            faults.push(
                "CUPONERA_JOB_RETENTION: must be at least 1d: failed jobs can be retried until then"
                    .to_owned(),
            );
        }
        faults.extend(self.shares.faults());
        if let Err(fault) = self.files_address() {
            faults.push(fault);
        }
        if let Err(fault) = self.queue_address() {
            faults.push(fault);
        }
        if let Some(Err(fault)) = self.redis_url.as_ref().map(check_url) {
            faults.push(format!("CUPONERA_REDIS_URL: {fault}"));
        }
        if let Some(url) = &self.otlp_endpoint
            && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
        {
            faults.push("OTEL_EXPORTER_OTLP_ENDPOINT: must start with http:// or https://".to_owned());
        }
        if self.metrics_addr.is_some_and(|address| address == self.http_addr && address.port() != 0) {
            faults.push("CUPONERA_METRICS_ADDR: must not be the address of the API".to_owned());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The key of the seals, if it is configured.
    pub fn audit_key(&self) -> Result<Option<AuditKey>, String> {
        let key = self.audit_key.as_ref().map(|key| key.expose_secret().parse()).transpose();
        key.map_err(|fault: InvalidKey| format!("CUPONERA_AUDIT_KEY: {fault}"))
    }

    /// The address of the file store.
    pub fn files_address(&self) -> Result<FilesAddress, String> {
        match &self.files_url {
            None => Ok(FilesAddress::Folder(self.data_dir.join("files"))),
            Some(url) => url.parse().map_err(|fault| format!("CUPONERA_FILES_URL: {fault}")),
        }
    }

    /// The address of the SQS queue, if one is configured.
    pub fn queue_address(&self) -> Result<Option<QueueAddress>, String> {
        let address = self.queue_url.as_ref().map(|url| url.parse()).transpose();
        address.map_err(|fault: String| format!("CUPONERA_QUEUE_URL: {fault}"))
    }

    /// Maximum number of chunks processed at once.
    pub fn concurrency(&self) -> usize {
        self.worker_concurrency.map_or_else(cores, usize::from)
    }

    /// Number of lanes of each kind of hot write: enough to keep the cores busy, few enough for batches to grow.
    pub fn lanes(&self) -> usize {
        cores().clamp(2, 8)
    }

    /// The connection pools of the worker. They are separate from the API's, so slow reads do not delay jobs.
    pub fn worker_pools(&self) -> Pools {
        Pools::of_worker(u32::try_from(self.concurrency()).unwrap_or(256))
    }

    /// The connection pools of the API.
    pub fn pools(&self) -> Pools {
        let cores = u32::try_from(cores()).unwrap_or(8);
        Pools::of_api(self.database_pool.unwrap_or((cores * 8).clamp(16, 64)))
    }
}

/// Trims a setting; see [`text::trim`].
#[expect(clippy::unnecessary_wraps, reason = "the signature of a value parser")]
fn trimmed(text: &str) -> Result<String, std::convert::Infallible> {
    Ok(text::trim(text).to_owned())
}

/// Parses a network or a single address.
fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "must be a network such as 10.0.0.0/8, or an address".to_owned())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, std::num::NonZero::get)
}
