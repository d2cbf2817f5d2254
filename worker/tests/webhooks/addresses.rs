//! Forbidden addresses: no request reaches them, whatever the form of the URL, and also if the address of a name changes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cuponera_domain::webhook::delivery::{Attempt, DeliveryStatus};
use cuponera_testkit::{Answer, Receiver, World, eventually};
use cuponera_worker::deliver::Sender;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use sqlx::query;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::{Running, count, deliveries, networks, webhook};

/// A DNS server on loopback. It answers the questions with its addresses in turn, and repeats the last one.
struct DnsServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl DnsServer {
    async fn start(addresses: Vec<Ipv4Addr>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 512];
            for number in 0.. {
                let (size, client) = socket.recv_from(&mut buffer).await.unwrap();
                let address = addresses[number.min(addresses.len() - 1)];
                socket.send_to(&answer(&buffer[..size], address), client).await.unwrap();
            }
        });
        Self { address, task }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The answer to a question, with one A record that must not be stored (TTL 0).
fn answer(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let mut message = question.to_vec();
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[6..8].copy_from_slice(&1_u16.to_be_bytes());
    // The name of the question, type A, class IN, TTL 0, four bytes.
    message.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
    message.extend(address.octets());
    message
}

/// Asks a DNS server for the address of a name, once for each resolution.
struct DnsClient(SocketAddr);

impl Resolve for DnsClient {
    fn resolve(&self, name: Name) -> Resolving {
        let server = self.0;
        Box::pin(async move {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for label in name.as_str().split('.') {
                question.push(u8::try_from(label.len())?);
                question.extend(label.as_bytes());
            }
            question.extend([0, 0, 1, 0, 1]);
            socket.send_to(&question, server).await?;
            let mut buffer = [0; 512];
            let (size, _) = socket.recv_from(&mut buffer).await?;
            let octets: [u8; 4] = buffer[size - 4..size].try_into()?;
            let found = SocketAddr::from((octets, 0));
            Ok(Box::new(std::iter::once(found)) as Addrs)
        })
    }
}

/// Delivers one event to each URL, and returns the first attempts.
async fn attempt_each(urls: &[String], sender: Sender) -> Vec<(String, Attempt)> {
    let world = World::new().await;
    let code = &world.insert_codes(1).await[0];
    let mut webhooks = Vec::new();
    for url in urls {
        webhooks.push(webhook(&world, url).await);
    }
    let worker = Running::start(&world, "worker", sender).await;
    world.give(code, "ana").await;
    let mut attempts = Vec::new();
    for (id, url) in webhooks.into_iter().zip(urls) {
        let attempt = eventually("the first attempt", async || {
            deliveries(&world, id).await.first()?.attempts.first().cloned()
        });
        attempts.push((url.clone(), attempt.await));
    }
    worker.stop().await;
    attempts
}

/// Invariant I-66.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_reaches_a_forbidden_address_in_any_notation() {
    let trap = Receiver::healthy().await;
    let port = trap.address().port();
    let mut urls = Vec::new();
    // The API rejects these; rows could be older than the rule.
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "10.0.0.1",
        "[fd00:ec2::254]",
        "user:secret@127.0.0.1",
    ] {
        urls.push(format!("http://{host}:{port}/"));
        urls.push(format!("https://{host}:{port}/"));
    }
    let attempts = attempt_each(&urls, Sender::new(networks(&[]))).await;
    assert_eq!(attempts.len(), urls.len());
    for (url, attempt) in attempts {
        assert!(attempt.status.is_none(), "{url}: {attempt:?}");
        let error = attempt.error.unwrap();
        assert!(error.starts_with("the URL of the webhook "), "{url}: {error}");
    }
    assert_eq!(trap.received().len(), 0);
}

/// Invariant I-66.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_resolves_to_a_private_address_is_not_called() {
    let trap = Receiver::healthy().await;
    let port = trap.address().port();
    let dns = DnsServer::start(vec![Ipv4Addr::LOCALHOST]).await;
    let urls = [format!("https://receiver.example:{port}/"), format!("http://receiver.example:{port}/")];
    // http is only for allowed networks, so the second URL is checked by the resolver too.
    let sender = Sender::with_resolver(networks(&["10.0.0.0/8"]), DnsClient(dns.address));
    for (url, attempt) in attempt_each(&urls, sender).await {
        let error = attempt.error.unwrap();
        assert!(error.contains("resolves to a private, local or reserved address"), "{url}: {error}");
    }
    assert_eq!(trap.received().len(), 0);
}

/// Invariant I-66.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_whose_address_changes_between_check_and_use_is_not_followed() {
    // The same port on two addresses, of which only the first is allowed.
    let allowed = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let trap = Receiver::healthy().await;
    let port = trap.address().port();
    // The connection is closed after each answer, so that each attempt resolves the name.
    let receiver = Receiver::at((allowed, port).into(), |_, _| {
        Answer::With(500, ("connection", "close".to_owned()), String::new())
    })
    .await;
    let dns = DnsServer::start(vec![Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::LOCALHOST]).await;
    let world = World::new().await;
    let code = &world.insert_codes(1).await[0];
    let id = webhook(&world, &format!("http://receiver.example:{port}/hooks")).await;
    let sender = Sender::with_resolver(networks(&["127.0.0.2/32"]), DnsClient(dns.address));
    let worker = Running::start(&world, "worker", sender).await;
    world.give(code, "ana").await;
    eventually("two attempts", async || {
        // The second attempt is made at once.
        query("update webhook_delivery set next_attempt_at = now() where status = 'PENDING' and lease_until is null")
            .execute(world.pool())
            .await
            .unwrap();
        (deliveries(&world, id).await.first()?.attempts.len() >= 2).then_some(())
    })
    .await;
    worker.stop().await;
    let all = deliveries(&world, id).await;
    assert_eq!(count(&all, DeliveryStatus::Delivered), 0);
    // The address that was checked was used, although the name already had the other one.
    assert_eq!((all[0].attempts[0].status, receiver.received().len()), (Some(500), 1));
    let error = all[0].attempts[1].error.as_deref().unwrap();
    assert!(error.contains("resolves to a private, local or reserved address"), "{error}");
    assert_eq!(trap.received().len(), 0, "a request went to an address that was not checked");
}
