//! An S3 bucket, with timeouts for all calls.
//!
//! Credentials, region and endpoint come from the environment as in AWS's own tools: `AWS_ACCESS_KEY_ID`
//! etc., the role of the task, the pod or the machine. Retention is configured in the bucket; the worker's
//! sweep deletes files that no job needs, as in a folder.

use std::time::Duration;

use futures::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, Error, ObjectStore, RetryConfig};

/// Timeouts for connecting, for an answer or its next part, and for a complete file, which its reader may
/// consume slowly.
const WAITING: [(ClientConfigKey, Duration); 3] = [
    (ClientConfigKey::ConnectTimeout, Duration::from_secs(3)),
    (ClientConfigKey::ReadTimeout, Duration::from_secs(10)),
    (ClientConfigKey::Timeout, Duration::from_hours(1)),
];
/// Number and total duration of retries. Callers handle longer outages themselves.
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// A prefix of a bucket, with the client of the environment.
pub(super) fn of_environment(name: &str, prefix: &str) -> Result<(AmazonS3, PrefixStore<AmazonS3>), String> {
    open(from_environment()?, name, prefix).map_err(|error| error.to_string())
}

/// A client configured by the environment.
fn from_environment() -> Result<AmazonS3Builder, String> {
    let builder = AmazonS3Builder::from_env();
    let value = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
    if value(AmazonS3ConfigKey::Region).or(value(AmazonS3ConfigKey::DefaultRegion)).is_none() {
        return Err("the region of the bucket is unknown: set AWS_REGION".to_owned());
    }
    let endpoint = value(AmazonS3ConfigKey::S3Endpoint).or(value(AmazonS3ConfigKey::Endpoint));
    let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    // An emulator of AWS, on this machine or near it. AWS itself is never called without TLS.
    Ok(if is_plain { builder.with_allow_http(true) } else { builder })
}

/// The same with the caller's client, and with all timeouts. Returns the bucket and its prefix.
pub(super) fn open(
    builder: AmazonS3Builder,
    name: &str,
    prefix: &str,
) -> Result<(AmazonS3, PrefixStore<AmazonS3>), Error> {
    let wait = |builder: AmazonS3Builder, (what, most): (ClientConfigKey, Duration)| {
        builder.with_config(AmazonS3ConfigKey::Client(what), humantime::format_duration(most).to_string())
    };
    let builder = WAITING.into_iter().fold(builder, wait);
    let backoff = BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: MAX_PAUSE, base: 2.0 };
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_FOR };
    let bucket = builder.with_bucket_name(name).with_retry(retry).build()?;
    Ok((bucket.clone(), PrefixStore::new(bucket, Path::from(prefix))))
}

/// The result of checking a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketState {
    /// It exists and can be listed.
    Exists,
    /// It does not answer, but may do so later.
    Unavailable(String),
    /// It does not exist, or access is denied.
    Rejected(String),
}

/// Checks a bucket with the call that programs use.
pub(super) async fn check_bucket(store: &impl ObjectStore, name: &str) -> BucketState {
    let Some(Err(error)) = store.list(Some(&Path::from("uploads"))).next().await else {
        return BucketState::Exists;
    };
    let text = error.to_string();
    let rejected = match code(&text) {
        Some("NoSuchBucket") => format!("there is no bucket {name}: create it, or correct the name"),
        Some("PermanentRedirect" | "AuthorizationHeaderMalformed") => {
            format!("the bucket {name} is in another region: correct AWS_REGION")
        }
        Some(code @ ("AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch")) => {
            format!("the credentials of the environment may not list the bucket {name}: {code}")
        }
        // The rest of such an answer may contain a credential.
        Some(code) => return BucketState::Unavailable(code.to_owned()),
        None => return BucketState::Unavailable(text),
    };
    BucketState::Rejected(rejected)
}

/// The S3 error code. For listings, `object_store` has no error kinds and returns the answer as text.
fn code(error: &str) -> Option<&str> {
    error.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code)
}
