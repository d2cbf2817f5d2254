//! The parts of an API, and their construction from the settings.

use std::time::Duration;

use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_platform::cache::Cache;
use cuponera_platform::config::{Origin, Settings};
use cuponera_platform::credential::Tokens;
use cuponera_platform::files::Files;
use cuponera_platform::queue::Queue;
use cuponera_platform::telemetry::Exposition;
use cuponera_store::Store;
use secrecy::SecretString;

use crate::auth::limits::{Limits, Misses};

/// The services and settings from which [`App::start`](super::App::start) creates the state of the API.
#[derive(Debug)]
pub struct AppBuilder {
    /// The database.
    pub store: Store,
    /// Uploads and errors files.
    pub files: Files,
    /// The queue of jobs.
    pub queue: Queue,
    /// The cache that all processes share.
    pub cache: Cache,
    /// Signs and checks access tokens.
    pub tokens: Tokens,
    /// Lifetime of a refresh token.
    pub refresh_ttl: Duration,
    /// Maximum size of an upload, in bytes.
    pub upload_limit: u64,
    /// Number of lanes of each hot write.
    pub lanes: usize,
    /// Rate limits and shares.
    pub limits: Limits,
    /// The web origins whose pages may call the API.
    pub cors_origins: Vec<Origin>,
    /// The private networks to which webhooks may be sent.
    pub webhook_networks: AllowedNetworks,
    /// The metrics, and the address on which they are read.
    pub metrics: Exposition,
}

impl AppBuilder {
    /// The parts of an API with these settings. `secret` signs access tokens.
    pub fn new(
        settings: &Settings,
        secret: &SecretString,
        store: Store,
        files: Files,
        queue: Queue,
        cache: Cache,
        metrics: Exposition,
    ) -> Self {
        Self {
            store: store.with_storage_quota(settings.storage_quota.as_u64()),
            files,
            queue,
            cache,
            tokens: Tokens::new(secret, settings.access_token_ttl)
                .accepting(settings.jwt_secret_previous.as_ref()),
            refresh_ttl: settings.refresh_token_ttl,
            upload_limit: settings.upload_limit.as_u64(),
            lanes: settings.lanes(),
            limits: limits(settings),
            cors_origins: settings.cors_origins.clone(),
            webhook_networks: AllowedNetworks::new(settings.webhook_allow.clone()),
            metrics,
        }
    }
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        anonymous: settings.rate_limit_anonymous.0,
        user: settings.rate_limit_user.0,
        service: settings.rate_limit_service.0,
        admin: settings.rate_limit_admin.0,
        misses: Some(Misses::default()),
        trusted_proxies: settings.trusted_proxies.clone(),
        connections: None,
        shares: settings.shares.clone(),
    }
}
