//! The telemetry of a running installation: metrics, the log, traces.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cuponera_testkit::{TestDatabase, eventually, free_address};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Admin, Installation, PASSWORD, Process, http};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

/// A metric: its type and the names of its labels.
type Shape = (String, Vec<String>);

async fn start(installation: &Installation, settings: &[(&str, &str)]) -> Process {
    let mut command = installation.command();
    command.env("CUPONERA_ADMIN_PASSWORD", PASSWORD).envs(settings.iter().copied());
    let mut process = Process::spawn(&mut command);
    process.serves().await;
    process
}

/// The address of the API, without a path.
fn root(process: &Process) -> String {
    process.banner("API").expect("an address").trim_end_matches("/api/v1").to_owned()
}

async fn scrape(root: &str) -> String {
    let response = http().get(format!("{root}/metrics")).send().await.expect("the server does not answer");
    assert_eq!(response.status(), 200);
    response.text().await.expect("the answer ended early")
}

/// Submits a job under a trace, waits for its end, assigns and locks a code. Returns the id of the job.
async fn make_codes(admin: &Admin) -> String {
    let book = admin.post("coupon-books", &json!({"name": "A book"}), 201).await;
    let book = book["id"].as_str().expect("an id").to_owned();
    admin
        .json(
            admin.request(Method::PATCH, &format!("coupon-books/{book}")).json(&json!({"status": "ACTIVE"})),
            200,
        )
        .await;
    let body = json!({"couponBookId": book, "quantity": 10});
    let request = admin.request(Method::POST, "coupon-codes/generate").json(&body);
    let request =
        request.header("X-Request-Id", "its-id").header("traceparent", format!("00-{TRACE}-{PARENT}-01"));
    let job = admin.json(request, 202).await["id"].as_str().expect("an id").to_owned();
    let request = admin.request(Method::GET, &format!("jobs/{job}")).header("Prefer", "wait=20");
    assert_eq!(admin.json(request, 200).await["status"], "SUCCEEDED");
    let given = admin.post("assignments/random", &json!({"couponBookId": book, "userId": "ann"}), 201).await;
    let code = given["code"].as_str().expect("a code");
    admin.post(&format!("coupons/{code}/lock"), &json!({"userId": "ann"}), 200).await;
    job
}

/// Parses the metrics of a text in the Prometheus format.
fn exposed(text: &str) -> BTreeMap<String, Shape> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let shape = |(name, kind): (&str, &str)| {
        let ends = if kind == "histogram" { vec!["_bucket", "_sum", "_count"] } else { vec![""] };
        let series = |line: &&str| {
            ends.iter().any(|end| line.split(['{', ' ']).next() == Some(&format!("{name}{end}")))
        };
        let mut labels: Vec<String> = text.lines().filter(series).flat_map(labels_of).collect();
        labels.sort_unstable();
        labels.dedup();
        labels.retain(|label| label != "le");
        (name.to_owned(), (kind.to_owned(), labels))
    };
    types.map(shape).collect()
}

/// The names of a series' labels. The values contain neither commas nor quotes.
fn labels_of(line: &str) -> Vec<String> {
    let Some((_, rest)) = line.split_once('{') else { return Vec::new() };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    inside.split("\",").filter_map(|pair| Some(pair.split_once("=\"")?.0.to_owned())).collect()
}

/// The metrics of the list in the documentation, with their meanings.
fn documented() -> BTreeMap<String, (Shape, String)> {
    let page = std::fs::read_to_string(LIST).expect("there is no list");
    let list = page.split("## The list").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("a list");
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { return None };
        let mut labels: Vec<String> =
            labels.split(',').map(|label| label.trim().trim_matches('`').to_owned()).collect();
        labels.retain(|label| !label.is_empty());
        labels.sort_unstable();
        let name = name.strip_prefix('`')?.strip_suffix('`')?;
        Some((name.to_owned(), ((kind.to_owned(), labels), meaning.to_owned())))
    };
    list.lines().filter_map(row).collect()
}

#[tokio::test]
async fn the_list_of_metrics_is_what_a_server_tells_and_no_less() {
    let installation = Installation::new();
    let process = start(&installation, &[]).await;
    make_codes(&process.log_in(PASSWORD).await).await;
    let text = scrape(&root(&process)).await;
    let (documented, exposed) = (documented(), exposed(&text));
    assert!(documented.len() > 20, "the list could not be parsed");
    for (name, (shape, meaning)) in &documented {
        assert_eq!(exposed.get(name), Some(shape), "{name} is not exposed as documented:\n{text}");
        assert!(
            text.contains(&format!("# HELP {name} {meaning}\n")),
            "the help of {name} differs from docs/metrics.md"
        );
    }
    for name in exposed.keys() {
        assert!(documented.contains_key(name), "{name} is not in docs/metrics.md");
    }
}

#[tokio::test]
async fn metrics_have_an_address_of_their_own_if_it_is_set() {
    let installation = Installation::new();
    let own = free_address().to_string();
    let process = start(&installation, &[("CUPONERA_METRICS_ADDR", &own)]).await;
    assert!(scrape(&format!("http://{own}")).await.contains("cuponera_build_info{version="));
    let forwarded =
        http().get(format!("http://{own}/metrics")).header("X-Forwarded-For", "203.0.113.9").send().await;
    assert_eq!(forwarded.expect("the server does not answer").status(), 200);
    let live =
        http().get(format!("http://{own}/health/live")).send().await.expect("the server does not answer");
    assert_eq!(live.status(), 200);
    assert_eq!(live.text().await.expect("the answer ended early"), "ok");
    let elsewhere =
        http().get(format!("http://{own}/health")).send().await.expect("the server does not answer");
    assert_eq!(elsewhere.status(), 404);
    let on_api =
        http().get(format!("{}/metrics", root(&process))).send().await.expect("the server does not answer");
    assert_eq!(on_api.status(), 404);
}

#[tokio::test]
async fn a_metrics_address_that_is_taken_is_said_at_the_start() {
    let installation = Installation::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut process = Process::spawn(installation.command().env("CUPONERA_METRICS_ADDR", address));
    assert!(!process.ended().await.success());
    assert!(process.stderr().contains("CUPONERA_METRICS_ADDR"), "{}", process.stderr());
}

/// The events of a log.
fn events(log: &str) -> Vec<Value> {
    log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The span of an event with this name.
fn span<'a>(event: &'a Value, name: &str) -> Option<&'a Value> {
    event["spans"].as_array()?.iter().find(|span| span["name"] == name)
}

#[tokio::test]
async fn log_lines_have_the_ids_of_their_request_and_job_and_one_trace_runs_through_both() {
    let installation = Installation::new();
    let mut process =
        start(&installation, &[("CUPONERA_LOG", "warn,access=debug,cuponera_worker=debug")]).await;
    let admin = process.log_in(PASSWORD).await;
    let job = make_codes(&admin).await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    let log = process.stderr();
    let events = events(&log);
    let request = events.iter().filter_map(|event| Some((event, span(event, "request")?)));
    let (access, request) = request
        .clone()
        .find(|(event, span)| event["message"] == "answered" && span["id"] == "its-id")
        .expect("no access line");
    assert_eq!(access["status"], 202, "{access}");
    assert!(access["ms"].is_u64(), "{access}");
    assert_eq!(
        (&request["route"], &request["trace"]),
        (&json!("/api/v1/coupon-codes/generate"), &json!(TRACE))
    );
    let done =
        events.iter().find(|event| event["message"] == "the chunk is done").expect("no chunk was done");
    let chunk = span(done, "chunk").unwrap_or_else(|| panic!("a line of a chunk without its span: {done}"));
    assert_eq!((&chunk["job"], &chunk["trace"]), (&json!(job), &json!(TRACE)));
    let lock = events.iter().find_map(|event| {
        span(event, "request").filter(|span| span["route"] == "/api/v1/coupons/{code}/lock")
    });
    let lock = lock.expect("no line of the lock");
    assert_eq!(lock["route"], "/api/v1/coupons/{code}/lock");
    assert_eq!((&lock["method"], lock.get("path")), (&json!("POST"), None), "the path as sent is logged");
    assert_eq!(
        lock["trace"].as_str().map(str::len),
        Some(32),
        "a request without traceparent starts a trace: {lock}"
    );
}

#[tokio::test]
async fn an_access_line_is_written_only_where_it_is_asked_for() {
    let installation = Installation::new();
    let mut process = start(&installation, &[]).await;
    make_codes(&process.log_in(PASSWORD).await).await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    let log = process.stderr();
    let fast = |event: &&Value| event["target"] == "access" && event["ms"].as_u64() < Some(1_000);
    assert_eq!(events(&log).iter().find(fast), None);
}

/// A collector that stores what is posted to it and answers 200.
struct Collector {
    address: SocketAddr,
    posted: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (address, posted) =
            (listener.local_addr().expect("an address"), Arc::new(Mutex::new(Vec::new())));
        let into = posted.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let into = into.clone();
                std::thread::spawn(move || take(&mut stream, &into));
            }
        });
        Self { address, posted }
    }

    fn has(&self, bytes: &[u8]) -> bool {
        let posted = self.posted.lock().unwrap_or_else(PoisonError::into_inner);
        posted.windows(bytes.len()).any(|window| window == bytes)
    }
}

/// Stores all bytes of a connection, and answers after each pause.
fn take(stream: &mut std::net::TcpStream, into: &Mutex<Vec<u8>>) {
    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
    let (mut bytes, mut has_asked) = ([0; 16 * 1024], false);
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(read) => {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..read]);
                has_asked = true;
            }
            Err(_) if has_asked => {
                has_asked = false;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
            Err(_) => {}
        }
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("a byte");
    (0..hex.len()).step_by(2).map(byte).collect()
}

#[tokio::test]
async fn traces_reach_a_collector_with_the_spans_of_request_and_chunk_under_the_client_s() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let installation = Installation::new();
    let mut process = start(&installation, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    make_codes(&process.log_in(PASSWORD).await).await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    for (what, bytes) in [
        ("a post", b"POST /v1/traces".to_vec()),
        ("the trace", bytes_of(TRACE)),
        ("the client's span", bytes_of(PARENT)),
        ("the request's span", b"request".to_vec()),
        ("the chunk's span", b"chunk".to_vec()),
        ("the route", b"/api/v1/coupon-codes/generate".to_vec()),
    ] {
        // The spans were sent, but the collector may not have read them yet.
        eventually(what, async || collector.has(&bytes).then_some(())).await;
    }
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let installation = Installation::new();
    let endpoint = format!("http://{}", free_address());
    let mut process = start(&installation, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)]).await;
    make_codes(&process.log_in(PASSWORD).await).await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    // The kernel accepts its connections; nothing answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let installation = Installation::new();
    // An external Postgres, because stopping a private one takes time.
    let database = TestDatabase::create_empty().await;
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("CUPONERA_DATABASE_URL", database.url())];
    let mut process = start(&installation, &settings).await;
    make_codes(&process.log_in(PASSWORD).await).await;
    process.signal(Signal::TERM);
    let told = Instant::now();
    assert!(process.ended().await.success());
    // The exporter's default timeout of a call is ten seconds.
    assert!(told.elapsed() < Duration::from_secs(8), "{:?}", told.elapsed());
}
