//! Deliveries of webhooks, from the commit of their events until the receiver has them, compared with pgbench and the statements that
//! store the same deliveries.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use sqlx::{query, query_scalar};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::Result;
use crate::context::Context;
use crate::installation::{Holders, Installation};
use crate::load::rate;
use crate::row::{Round, Row, Unit, alternate};
use crate::yardstick::pgbench;

/// Number of webhooks: each has at most 4 attempts at a time.
const WEBHOOKS: u64 = 16;
/// Interval for polling the number of deliveries.
const POLL: Duration = Duration::from_millis(5);
/// A round fails if its events are not delivered in this time.
const LIMIT: Duration = Duration::from_mins(5);

/// Stores a delivery, and the end of its attempt, in two transactions as the worker does.
const STATEMENTS: &str = "insert into webhook_delivery (id, webhook_id, event_id, type, subject, body)
values (md5(:n::text)::uuid, md5('bench')::uuid, md5(:n::text)::uuid, 'coupon.locked', 'coupon:' || :n, repeat('x', 400));
with done as (
  update webhook_delivery set status = 'DELIVERED', tries = 1, attempts = 1 where id = md5(:n::text)::uuid returning id)
insert into webhook_attempt (delivery_id, number, at, http_status, duration_ms) select id, 1, now(), 200, 1 from done";

pub(crate) const DELIVERIES: Row = Row {
    name: "deliveries",
    unit: Unit::PerSecond,
    ours: "32,000 deliveries of new events (quick: 8,000) to 16 webhooks with one receiver",
    yardstick: STATEMENTS,
    floor: 0.05,
    aim: 0.2,
    measure: |context| Box::pin(measure(context)),
};

async fn measure(context: &Context) -> Result<Vec<Round>> {
    let (installation, deliveries) = (&context.installation, context.sizes.deliveries);
    installation.empty_coupons().await?;
    let events = deliveries / WEBHOOKS;
    let book = installation.book_with_codes(events, Holders::OneEach).await?.id;
    let receiver = Receiver::start().await?;
    create_webhooks(installation, &receiver.url).await?;
    let ours = async |round: u64| {
        let expected = (round + 1) * deliveries;
        installation.write_events(&book, events, round + 2).await?;
        let begun = Instant::now();
        while receiver.received.load(Ordering::Relaxed) < expected {
            if begun.elapsed() > LIMIT {
                return Err("the events were not delivered".into());
            }
            sleep(POLL).await;
        }
        Ok(rate(deliveries, begun.elapsed()))
    };
    let yardstick =
        async |round: u64| pgbench(installation, STATEMENTS, &book, round * deliveries, deliveries).await;
    let check = async |round: u64| expect_delivered(installation, (round + 1) * deliveries).await;
    let measured = alternate(context.rounds, ours, yardstick, check).await;
    query("update webhook set deleted_at = now()").execute(&installation.pool).await?;
    measured
}

/// Creates the webhooks by SQL.
async fn create_webhooks(installation: &Installation, url: &str) -> Result<()> {
    query(
        "insert into webhook (id, business_id, url, event_types, secret, since_epoch)
         select gen_random_uuid(), $1::uuid, $2, '{coupon.locked}', sha256('bench'), max(epoch)
         from event_epoch, generate_series(1, $3) n group by n",
    )
    .bind(&installation.business)
    .bind(url)
    .bind(i32::try_from(WEBHOOKS)?)
    .execute(&installation.pool)
    .await?;
    Ok(())
}

/// Fails unless this number of deliveries is stored as delivered: the ends of the last ones may be recorded after they were received.
async fn expect_delivered(installation: &Installation, expected: u64) -> Result<()> {
    let begun = Instant::now();
    loop {
        let count: i64 = query_scalar(
            "select count(*) from webhook_delivery d join webhook w on w.id = d.webhook_id where d.status = 'DELIVERED'",
        )
        .fetch_one(&installation.pool)
        .await?;
        if u64::try_from(count)? == expected {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            return Err(format!("{count} deliveries are recorded, expected {expected}").into());
        }
        sleep(POLL).await;
    }
}

/// Accepts and counts the requests of webhooks.
struct Receiver {
    url: String,
    received: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let received = Arc::new(AtomicU64::new(0));
        let counted = received.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counted = counted.clone();
                let accept = service_fn(move |request| accept(request, counted.clone()));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), accept));
            }
        });
        Ok(Self { url, received, accepting })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    request: Request<Incoming>,
    counted: Arc<AtomicU64>,
) -> std::result::Result<Response<Empty<Bytes>>, Infallible> {
    if request.into_body().collect().await.is_ok() {
        counted.fetch_add(1, Ordering::Relaxed);
    }
    Ok(Response::new(Empty::new()))
}
