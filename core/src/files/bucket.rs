//! A bucket of S3, and how long it may keep us waiting.
//!
//! Credentials, region and endpoint come from where AWS's own tools have them in the environment: `AWS_ACCESS_KEY_ID` and its
//! like, the role of a task or a pod, the role of the machine. What lies in a bucket for how long is the bucket's own
//! matter; what no job needs any more the worker's sweep deletes, as in a folder.

use std::time::Duration;

use futures::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, Error, ObjectStore, RetryConfig};

/// How long a connection may take; a request, to be answered, and each further piece of a file, to come; and the whole of a
/// file, which is read at the pace of whoever reads it.
const WAITING: [(ClientConfigKey, Duration); 3] = [
    (ClientConfigKey::ConnectTimeout, Duration::from_secs(3)),
    (ClientConfigKey::ReadTimeout, Duration::from_secs(10)),
    (ClientConfigKey::Timeout, Duration::from_hours(1)),
];
/// How often a call is tried again, and until when. Callers have ways of their own to go on after an outage.
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A bucket, or what is under a prefix of it, with the environment's client.
pub(super) fn of_environment(
    name: &str,
    prefix: &str,
) -> Result<PrefixStore<impl ObjectStore + use<>>, String> {
    open(from_environment()?, name, prefix).map_err(|error| error.to_string())
}

/// A client as the environment has it.
fn from_environment() -> Result<AmazonS3Builder, String> {
    let builder = AmazonS3Builder::from_env();
    let value = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
    if value(AmazonS3ConfigKey::Region).or(value(AmazonS3ConfigKey::DefaultRegion)).is_none() {
        return Err("nothing says in which region the bucket is: set AWS_REGION".to_owned());
    }
    let endpoint = value(AmazonS3ConfigKey::S3Endpoint).or(value(AmazonS3ConfigKey::Endpoint));
    let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    // A stand-in for AWS, on this machine or beside it. AWS itself is never asked without TLS.
    Ok(if is_plain { builder.with_allow_http(true) } else { builder })
}

/// The same with a client of the caller's. There are bounds to all waiting.
pub(super) fn open(
    builder: AmazonS3Builder,
    name: &str,
    prefix: &str,
) -> Result<PrefixStore<impl ObjectStore + use<>>, Error> {
    let wait = |builder: AmazonS3Builder, (what, most): (ClientConfigKey, Duration)| {
        builder.with_config(AmazonS3ConfigKey::Client(what), humantime::format_duration(most).to_string())
    };
    let builder = WAITING.into_iter().fold(builder, wait);
    let backoff = BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LONGEST_PAUSE, base: 2.0 };
    let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_FOR };
    let bucket = builder.with_bucket_name(name).with_retry(retry).build()?;
    Ok(PrefixStore::new(bucket, Path::from(prefix)))
}

/// What a look at a bucket shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketState {
    /// It is there, and for us.
    There,
    /// It does not answer, and may do so later.
    Away(String),
    /// It is not there, or not for us.
    Refused(String),
}

/// Looks at a bucket as those do who use it.
pub(super) async fn look_at(store: &impl ObjectStore, name: &str) -> BucketState {
    let Some(Err(error)) = store.list(Some(&Path::from("uploads"))).next().await else {
        return BucketState::There;
    };
    let text = error.to_string();
    let refused = match code(&text) {
        Some("NoSuchBucket") => format!("there is no bucket {name}: make it, or correct its name"),
        Some("PermanentRedirect" | "AuthorizationHeaderMalformed") => {
            format!("the bucket {name} is in another region: correct AWS_REGION")
        }
        Some(code @ ("AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch")) => {
            format!("the credentials of the environment may not list the bucket {name}: {code}")
        }
        // The rest of such an answer may repeat a credential.
        Some(code) => return BucketState::Away(code.to_owned()),
        None => return BucketState::Away(text),
    };
    BucketState::Refused(refused)
}

/// What S3 calls an error. The crate has no kinds for those of listings: it passes the answer on as text.
fn code(error: &str) -> Option<&str> {
    error.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code)
}
