//! The queue of a fleet: an SQS queue and its dead-letter queue.
//!
//! It makes no decisions, and each call has a timeout. The URLs of the queues are looked up once, with
//! retries until there is an answer: an SQS that is unavailable does not prevent a start.

mod address;
mod dead;
mod fault;
mod idle;
mod receive;
mod send;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell, mpsc};
use tokio::time::timeout;
use tracing::{info, warn};

use cuponera_store::Notifier;
use cuponera_store::{Error, Result};

pub use address::QueueAddress;
pub(super) use dead::DeadLetter;
pub use fault::SqsError;
pub use receive::Deleter;
pub(super) use receive::{Received, Receiver};
pub(super) use send::{BATCH, Target};

use idle::IdleSlots;
use receive::UnknownMessages;

/// Wait time of a receive call: the maximum of SQS.
const LONG_POLL: Duration = Duration::from_secs(20);
/// Timeout of a call, in addition to its wait time: a connection may hang forever.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of the first calls of a process, which may have to fetch credentials.
const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the result of a health check is reused.
const HEALTH_CACHE_TIME: Duration = Duration::from_secs(5);
/// Timeout of a health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of queued deletes. A message that is not deleted is delivered again and finds no work.
const MAX_QUEUED_DELETES: usize = 1_000;

/// The two queues and their state in this process.
#[derive(Debug)]
pub struct Sqs {
    client: Client,
    address: QueueAddress,
    /// Whether requests go to an emulator of AWS, where queues are found by name only.
    is_emulator: bool,
    urls: OnceCell<Urls>,
    long_poll: Duration,
    notifier: Notifier,
    idle: IdleSlots,
    foreign: UnknownMessages,
    health: Mutex<Option<(Instant, bool)>>,
}

/// The URLs of the queues.
#[derive(Debug, Clone)]
struct Urls {
    work: String,
    dead: String,
}

/// The approximate number of messages in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Ready to be received.
    pub visible: u64,
    /// Received and not deleted.
    pub in_flight: u64,
    /// Delayed.
    pub delayed: u64,
}

/// A receiver for each slot, and the task that deletes their messages.
pub(super) fn open(sqs: &Arc<Sqs>, lease: Duration, slots: usize) -> (Vec<Receiver>, Deleter) {
    let (deletes, receipts) = mpsc::channel(MAX_QUEUED_DELETES);
    let receivers = (0..slots).map(|_| Receiver::new(sqs.clone(), lease, deletes.clone())).collect();
    (receivers, Deleter::new(sqs.clone(), receipts))
}

impl Sqs {
    /// Finds the queues with the credentials, region and endpoint in the environment. If SQS is
    /// unavailable, the lookup is repeated when the queue is used.
    pub async fn connect(address: QueueAddress) -> Result<Self, SqsError> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        let environment = loader.load().await;
        if environment.region().is_none_or(|region| region.as_ref().is_empty()) {
            let region = address.region().ok_or(SqsError::NoRegion)?.to_owned();
            loader = aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region));
            return Self::connect_with(&loader.load().await, address, LONG_POLL).await;
        }
        Self::connect_with(&environment, address, LONG_POLL).await
    }

    /// The same with the caller's settings. `long_poll` is at most 20 seconds.
    pub async fn connect_with(
        aws: &SdkConfig,
        address: QueueAddress,
        long_poll: Duration,
    ) -> Result<Self, SqsError> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(CALL_TIMEOUT)
            .build();
        // Each caller has its own retries.
        let config = aws_sdk_sqs::config::Builder::from(aws)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        let sqs = Self {
            client: Client::from_conf(config),
            is_emulator: aws.endpoint_url().is_some(),
            address,
            urls: OnceCell::new(),
            long_poll: long_poll.min(LONG_POLL),
            notifier: Notifier::default(),
            idle: IdleSlots::default(),
            foreign: UnknownMessages::default(),
            health: Mutex::default(),
        };
        match sqs.urls.get_or_try_init(|| sqs.find_queues()).await {
            Ok(urls) => info!(queue = urls.work, dead_letters = urls.dead, "the queue was found"),
            Err(fault) if fault.is_transient() => warn!(%fault, "the queue does not answer yet"),
            Err(fault) => return Err(fault),
        }
        Ok(sqs)
    }

    /// Notifies the relay that there are messages to send.
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// How long the longest-waiting slot of this process has received no message.
    pub(super) fn idle_for(&self) -> Option<Duration> {
        self.idle.longest()
    }

    /// Whether the queue answers. Checked at most every few seconds, for all callers together.
    pub async fn answers(&self) -> bool {
        let mut known = self.health.lock().await;
        if let Some((at, answered)) = *known
            && at.elapsed() < HEALTH_CACHE_TIME
        {
            return answered;
        }
        let answers = timeout(HEALTH_TIMEOUT, self.depth()).await.is_ok_and(|depth| depth.is_ok());
        *known = Some((Instant::now(), answers));
        answers
    }

    /// The number of waiting messages.
    pub async fn depth(&self) -> Result<Depth> {
        self.depth_of(&self.urls().await?.work).await
    }

    /// The number of dead letters.
    pub async fn dead_letters(&self) -> Result<Depth> {
        self.depth_of(&self.urls().await?.dead).await
    }

    async fn depth_of(&self, url: &str) -> Result<Depth> {
        use QueueAttributeName as Name;
        let names = [
            Name::ApproximateNumberOfMessages,
            Name::ApproximateNumberOfMessagesNotVisible,
            Name::ApproximateNumberOfMessagesDelayed,
        ];
        let asked = self.client.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.into()));
        let answer = asked.send().await.map_err(Error::unavailable)?;
        let count = |name: Name| {
            let value = answer.attributes().and_then(|all| all.get(&name));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        Ok(Depth {
            visible: count(Name::ApproximateNumberOfMessages),
            in_flight: count(Name::ApproximateNumberOfMessagesNotVisible),
            delayed: count(Name::ApproximateNumberOfMessagesDelayed),
        })
    }

    async fn urls(&self) -> Result<&Urls> {
        self.urls.get_or_try_init(|| self.find_queues()).await.map_err(Error::unavailable)
    }

    async fn find_queues(&self) -> Result<Urls, SqsError> {
        let work = match self.address.url() {
            Some(url) if !self.is_emulator => url.to_owned(),
            _ => self.url_of(self.address.name()).await?,
        };
        let dead = match self.dead_letter_queue(&work).await? {
            Some(name) => self.url_of(&name).await?,
            None => self.url_of(&format!("{}-dead", self.address.name())).await.map_err(|fault| {
                if fault.is_no_such_queue() {
                    SqsError::NoDeadLetterQueue(self.address.name().to_owned())
                } else {
                    fault
                }
            })?,
        };
        Ok(Urls { work, dead })
    }

    async fn url_of(&self, name: &str) -> Result<String, SqsError> {
        let asked = self.client.get_queue_url().queue_name(name).customize().config_override(first_time());
        let answer = asked.send().await.map_err(|error| SqsError::from_sdk(name, &error))?;
        answer.queue_url.ok_or_else(|| SqsError::UnexpectedAnswer(format!("no URL for {name}")))
    }

    /// The name of the dead-letter queue in the redrive policy.
    async fn dead_letter_queue(&self, url: &str) -> Result<Option<String>, SqsError> {
        let asked = self.client.get_queue_attributes().queue_url(url);
        let asked = asked.attribute_names(QueueAttributeName::RedrivePolicy);
        let answer = asked.customize().config_override(first_time()).send().await;
        let answer = answer.map_err(|error| SqsError::from_sdk(self.address.name(), &error))?;
        let policy = answer.attributes().and_then(|all| all.get(&QueueAttributeName::RedrivePolicy));
        let policy: Option<Value> = policy.and_then(|policy| serde_json::from_str(policy).ok());
        let target = policy.as_ref().and_then(|policy| policy["deadLetterTargetArn"].as_str());
        Ok(target.and_then(|arn| arn.rsplit(':').next()).map(str::to_owned))
    }
}

fn first_time() -> aws_sdk_sqs::config::Builder {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(FIRST_CALL_TIMEOUT).build();
    aws_sdk_sqs::Config::builder().timeout_config(timeouts)
}
