//! Sealing of the event log, compared with one process that reads and hashes the same events.

use std::time::{Duration, Instant};

use sqlx::{query, query_scalar};
use tokio::time::sleep;

use crate::Result;
use crate::context::Context;
use crate::installation::{Holders, Installation};
use crate::row::{Round, Row, Unit, alternate};
use crate::yardstick::psql;

/// Interval for polling the number of sealed events.
const POLL: Duration = Duration::from_millis(20);
/// A round fails if its events are not sealed in this time.
const LIMIT: Duration = Duration::from_mins(10);

const STATEMENT: &str = "\\copy (select * from coupon_event where book_id = :book and version = :version order by epoch, tx, id) to program 'sha256sum > /dev/null'";

pub(crate) const SEAL: Row = Row {
    name: "seal",
    unit: Unit::Seconds,
    ours: "1,000,000 new events (quick: 200,000), from their commit until the worker has sealed them",
    yardstick: STATEMENT,
    floor: 0.1,
    aim: 0.3,
    measure: |context| Box::pin(measure(context)),
};

async fn measure(context: &Context) -> Result<Vec<Round>> {
    let (installation, events) = (&context.installation, context.sizes.codes);
    installation.empty_coupons().await?;
    let book = installation.book_with_codes(events, Holders::OneEach).await?.id;
    let write = async |version: u64| {
        wait_until_sealed(installation).await?;
        let before = sealed(installation).await?;
        installation.write_events(&book, events, version).await?;
        Result::Ok((before, Instant::now()))
    };
    let ours = async |round: u64| {
        let (before, begun) = write(2 + 2 * round).await?;
        while sealed(installation).await? < before + i64::try_from(events)? {
            if begun.elapsed() > LIMIT {
                return Err("the events were not sealed".into());
            }
            sleep(POLL).await;
        }
        Ok(begun.elapsed().as_secs_f64())
    };
    let yardstick = async |round: u64| {
        let version = 3 + 2 * round;
        write(version).await?;
        wait_until_sealed(installation).await?;
        let statement =
            STATEMENT.replace(":book", &format!("'{book}'")).replace(":version", &version.to_string());
        let begun = Instant::now();
        psql(installation, &statement).await?;
        Ok(begun.elapsed().as_secs_f64())
    };
    alternate(context.rounds, ours, yardstick, async |_| Ok(())).await
}

/// Number of coupon events that are sealed.
async fn sealed(installation: &Installation) -> Result<i64> {
    let sealed = "select coalesce(sum(count), 0)::bigint from audit_seal where log = 'COUPON'";
    Ok(query_scalar(sealed).fetch_one(&installation.pool).await?)
}

/// Waits until the worker has sealed all coupon events.
async fn wait_until_sealed(installation: &Installation) -> Result<()> {
    query("vacuum analyze coupon_event").execute(&installation.pool).await?;
    let begun = Instant::now();
    loop {
        let events: i64 =
            query_scalar("select count(*) from coupon_event").fetch_one(&installation.pool).await?;
        if sealed(installation).await? == events {
            return Ok(());
        }
        if begun.elapsed() > LIMIT {
            return Err("the events were not sealed".into());
        }
        sleep(POLL).await;
    }
}
