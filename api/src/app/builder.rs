//! What the settings of an installation give its API.

use cuponera_core::cache::Cache;
use cuponera_core::config::Settings;
use cuponera_core::credential::Tokens;
use cuponera_core::files::Files;
use cuponera_core::queue::Queue;
use cuponera_core::store::Store;
use cuponera_core::telemetry::Exposition;
use secrecy::SecretString;

use crate::{AppBuilder, Limits, Misses};

impl AppBuilder {
    /// The API of an installation with these settings; `secret` signs its access tokens.
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
