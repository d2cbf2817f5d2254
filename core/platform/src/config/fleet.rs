//! The settings that each program of a fleet uses, and those that it requires.

use clap::Arg;

use super::Settings;

/// Settings that `cuponera-api` does not use.
const NOT_OF_THE_API: &[&str] =
    &["admin_email", "admin_password", "audit_key", "job_retention", "worker_concurrency"];
/// Settings that `cuponera-worker` does not use.
const NOT_OF_THE_WORKER: &[&str] = &[
    "access_token_ttl",
    "admin_email",
    "admin_password",
    "cors_origins",
    "database_pool",
    "http_addr",
    "jwt_secret",
    "jwt_secret_previous",
    "max_body_memory",
    "max_passwords",
    "max_requests",
    "max_streams",
    "max_uploads",
    "max_waits",
    "rate_limit_admin",
    "rate_limit_anonymous",
    "rate_limit_service",
    "rate_limit_user",
    "refresh_token_ttl",
    "share_address",
    "share_anonymous",
    "share_business",
    "share_caller",
    "trusted_proxies",
    "upload_limit",
];

/// A setting of `cuponera-api`. Unused settings are hidden from the help and not read from the environment.
#[must_use]
pub fn for_api(setting: Arg) -> Arg {
    leave_out(setting, NOT_OF_THE_API)
}

/// The same for `cuponera-worker`.
#[must_use]
pub fn for_worker(setting: Arg) -> Arg {
    leave_out(setting, NOT_OF_THE_WORKER)
}

fn leave_out(setting: Arg, names: &[&str]) -> Arg {
    if names.contains(&setting.get_id().as_str()) {
        return setting.hide(true).env(None::<&'static str>);
    }
    setting
}

impl Settings {
    /// Checks the settings of an API in a fleet, which generates no secrets. Returns all errors.
    pub fn check_for_api(&self) -> Result<(), Vec<String>> {
        let missing = self.jwt_secret.is_none().then(|| {
            "CUPONERA_JWT_SECRET: is required: at least 32 random bytes, the same for every API of this installation"
                .to_owned()
        });
        self.check_with(self.no_database().into_iter().chain(missing))
    }

    /// Checks the settings of a worker in a fleet. Returns all errors.
    pub fn check_for_worker(&self) -> Result<(), Vec<String>> {
        self.check_with(self.no_database())
    }

    fn no_database(&self) -> Option<String> {
        self.database_url.is_none().then(|| {
            "CUPONERA_DATABASE_URL: is required, for example postgres://user:password@host:5432/cuponera"
                .to_owned()
        })
    }

    fn check_with(&self, more: impl IntoIterator<Item = String>) -> Result<(), Vec<String>> {
        let mut faults = self.check().err().unwrap_or_default();
        faults.extend(more);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}
