//! An emulator of SQS and S3, started once for each test program. Each test has its own queues.

use std::fs::File;
use std::io::{PipeWriter, pipe};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use aws_sdk_sqs::types::QueueAttributeName;
use cuponera_platform::queue::Sqs;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::eventually;

/// Shorter than the 20 s of production, so that tests do not wait for polls.
const LONG_POLL: Duration = Duration::from_secs(2);

static EMULATOR: OnceCell<Emulator> = OnceCell::const_new();
static QUEUES: AtomicU32 = AtomicU32::new(0);

/// URL of a running LocalStack to use instead.
const LOCALSTACK_VARIABLE: &str = "CUPONERA_TEST_LOCALSTACK_URL";

/// The running emulator.
#[derive(Debug)]
pub struct Emulator {
    url: String,
    kind: Kind,
    _started: Option<Started>,
}

/// The implementation of the AWS protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ministack,
    LocalStack,
}

/// The emulator process. It ends with this process, even after a kill: its shell reads from a pipe that
/// only this process holds open.
#[derive(Debug)]
struct Started {
    _process: Child,
    _alive: PipeWriter,
}

impl Emulator {
    /// The emulator of this process.
    pub async fn get() -> &'static Self {
        EMULATOR.get_or_init(Self::find_or_start).await
    }

    async fn find_or_start() -> Self {
        match std::env::var(LOCALSTACK_VARIABLE).ok().filter(|url| !url.is_empty()) {
            Some(url) => Self { url, kind: Kind::LocalStack, _started: None },
            None => Self::start().await,
        }
    }

    async fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let script = Command::new(root.join("scripts/ensure-emulator.sh")).stderr(Stdio::inherit()).output();
        let script = script.expect("the AWS emulator could not be installed");
        assert!(script.status.success(), "the AWS emulator could not be installed: see above");
        let program = String::from_utf8_lossy(&script.stdout).trim().to_owned();
        let address = free_address();
        let folder = root.join("target/emulator");
        let log =
            File::create(folder.join(format!("{}.log", address.port()))).expect("the log cannot be created");
        let (reader, alive) = pipe().expect("creating a pipe failed");
        let process = Command::new("sh")
            .args(["-c", r#""$0" & read -r _; kill $!"#, &program])
            .env("BIND_HOST", Ipv4Addr::LOCALHOST.to_string())
            .env("GATEWAY_PORT", address.port().to_string())
            .env("TMPDIR", &folder)
            // A terminal's Ctrl-C must not reach it: it ends after this process.
            .process_group(0)
            .stdin(reader)
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("the AWS emulator cannot be run");
        let started = Some(Started { _process: process, _alive: alive });
        let emulator = Self { url: format!("http://{address}"), kind: Kind::Ministack, _started: started };
        let health = format!("{}/_ministack/health", emulator.url);
        eventually("the AWS emulator to answer", async || {
            let answer = http().get(&health).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        emulator
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A new queue with a dead-letter queue, for one test.
    pub async fn queue(&self) -> TestQueue {
        let number = own_number(&QUEUES);
        self.make_queue(&format!("work-{number}"), &format!("letters-{number}")).await
    }

    /// A queue and a dead-letter queue with these names.
    pub async fn make_queue(&self, name: &str, dead: &str) -> TestQueue {
        let queue = TestQueue {
            endpoint: self.url.clone(),
            kind: self.kind,
            name: name.to_owned(),
            dead: dead.to_owned(),
            client: Client::new(&aws(&self.url)),
        };
        queue.client.create_queue().queue_name(dead).send().await.expect("creating a queue failed");
        let policy = json!({
            "deadLetterTargetArn": format!("arn:aws:sqs:us-east-1:000000000000:{dead}"), "maxReceiveCount": 1000 });
        let made = queue.client.create_queue().queue_name(name);
        let made = made.attributes(QueueAttributeName::RedrivePolicy, policy.to_string());
        made.send().await.expect("creating a queue failed");
        queue
    }
}

/// A queue and its dead-letter queue, accessed without the code under test.
#[derive(Debug)]
pub struct TestQueue {
    endpoint: String,
    kind: Kind,
    name: String,
    dead: String,
    client: Client,
}

impl TestQueue {
    /// The URL of the emulator.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A client like that of a program.
    pub async fn connect(&self) -> Arc<Sqs> {
        self.connect_through(&self.endpoint).await
    }

    /// The same, through a proxy.
    pub async fn connect_through(&self, endpoint: &str) -> Arc<Sqs> {
        self.connect_with(endpoint, LONG_POLL).await
    }

    /// A client with the longest possible polls (20 s): a caller that waits for the end of a poll is
    /// noticed.
    pub async fn connect_with_long_polls(&self) -> Arc<Sqs> {
        self.connect_with(&self.endpoint, Duration::from_secs(20)).await
    }

    async fn connect_with(&self, endpoint: &str, long_poll: Duration) -> Arc<Sqs> {
        let address = self.name.parse().expect("the name is a valid address");
        let sqs = Sqs::connect_with(&aws(endpoint), address, long_poll).await;
        Arc::new(sqs.expect("the queue was not found"))
    }

    /// The messages in the queue, received or not. Reading does not receive them.
    pub async fn messages(&self) -> Vec<Value> {
        self.peek(&self.name).await
    }

    /// The messages in the dead-letter queue.
    pub async fn dead_letters(&self) -> Vec<Value> {
        self.peek(&self.dead).await
    }

    /// Sends a message with any body.
    pub async fn put(&self, body: &str) {
        self.put_into(&self.name, body).await;
    }

    /// Sends a message with any body to the dead-letter queue.
    pub async fn put_dead(&self, body: &str) {
        self.put_into(&self.dead, body).await;
    }

    /// Deletes all messages.
    pub async fn purge(&self) {
        let url = self.url_of(&self.name).await;
        self.client.purge_queue().queue_url(url).send().await.expect("emptying the queue failed");
    }

    /// Deletes the dead-letter queue, so that sending to it fails.
    pub async fn remove_dead_letter_queue(&self) {
        let url = self.url_of(&self.dead).await;
        self.client.delete_queue().queue_url(url).send().await.expect("removing a queue failed");
    }

    /// Creates the dead-letter queue again.
    pub async fn restore_dead_letter_queue(&self) {
        self.client.create_queue().queue_name(&self.dead).send().await.expect("creating a queue failed");
    }

    async fn put_into(&self, name: &str, body: &str) {
        let url = self.url_of(name).await;
        self.client.send_message().queue_url(url).message_body(body).send().await.expect("sending failed");
    }

    async fn url_of(&self, name: &str) -> String {
        let answer = self.client.get_queue_url().queue_name(name).send().await;
        answer.expect("the queue does not exist").queue_url.expect("a queue has a URL")
    }

    async fn peek(&self, name: &str) -> Vec<Value> {
        let (path, more) = match self.kind {
            Kind::Ministack => ("_ministack", ""),
            Kind::LocalStack => ("_aws", "&ShowInvisible=true&ShowDelayed=true"),
        };
        let of_queue = format!("QueueUrl=http://localhost:4566/000000000000/{name}{more}");
        let request = http().get(format!("{}/{path}/sqs/messages?{of_queue}", self.endpoint));
        let answer = request.header("Accept", "application/json").send().await;
        let answer = answer.expect("the emulator does not answer").json().await;
        let answer: Value = answer.expect("the emulator answers with JSON");
        if self.kind == Kind::LocalStack {
            let messages = one_or_many(&answer["ReceiveMessageResponse"]["ReceiveMessageResult"]["Message"]);
            return messages.iter().map(as_ministack_has_it).collect();
        }
        let regions = answer["messages"]["000000000000"].as_object().into_iter().flat_map(|all| all.values());
        let queues = regions.filter_map(Value::as_object).flat_map(|queues| queues.values());
        queues.filter_map(Value::as_array).flatten().cloned().collect()
    }
}

/// Converts JSON that was derived from XML: null, one value, or a list.
fn one_or_many(value: &Value) -> Vec<Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(values) => values.clone(),
        one => vec![one.clone()],
    }
}

/// Converts a message of LocalStack to the form of ministack, with the fields that tests read.
fn as_ministack_has_it(message: &Value) -> Value {
    let attributes = one_or_many(&message["Attribute"]);
    let attribute = |name: &str| {
        let found = attributes.iter().find(|attribute| attribute["Name"] == name);
        found.and_then(|attribute| attribute["Value"].as_str())
    };
    json!({
        "Body": message["Body"],
        "MessageGroupId": attribute("MessageGroupId"),
        "ReceiveCount": attribute("ApproximateReceiveCount").and_then(|count| count.parse::<u32>().ok()),
        "IsVisible": attribute("IsVisible") == Some("true"),
    })
}

/// A number that is unique in this process, prefixed with the process id.
pub(crate) fn own_number(counter: &AtomicU32) -> String {
    format!("{}-{}", std::process::id(), counter.fetch_add(1, Ordering::Relaxed))
}

fn aws(endpoint: &str) -> SdkConfig {
    let keys =
        Credentials::builder().access_key_id("test").secret_access_key("test").provider_name("testkit");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(keys.build()))
        .build()
}

/// Without the proxies of the environment.
pub(crate) fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().expect("an HTTP client without options can be built")
}

/// A loopback address with a port that is free now.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has no free port");
    listener.local_addr().expect("a bound listener has an address")
}
