//! Polls of a job, compared with the liveness check of the same server, which does no I/O.

use crate::Result;
use crate::context::Context;
use crate::load::{Call, closed_loop};
use crate::row::{Round, Row, Unit, alternate};

const CONNECTIONS: u64 = 64;
/// The route's label in the API's metrics.
const ROUTE: &str = "/api/v1/jobs/{id}";

pub(crate) const POLL: Row = Row {
    name: "poll",
    unit: Unit::PerSecond,
    ours: "GET /jobs/{id}, 64 connections",
    yardstick: "GET /health/live, 64 connections",
    floor: 0.5,
    aim: 0.8,
    measure: |context| Box::pin(measure(context)),
};

async fn measure(context: &Context) -> Result<Vec<Round>> {
    let (installation, calls) = (&context.installation, context.sizes.calls);
    let book = installation.book().await?;
    let job = installation.generate(&book, 10).await?;
    let target = installation.target();
    let ours = async |_| {
        let path = format!("/api/v1/jobs/{job}");
        closed_loop(&target, CONNECTIONS, calls, move |_| Call::get(path.clone())).await
    };
    let yardstick = async |_| closed_loop(&target, CONNECTIONS, calls, |_| Call::get("/health/live")).await;
    let before = installation.requests_of(ROUTE).await?;
    let check = async |round: u64| {
        let polls = installation.requests_of(ROUTE).await? - before;
        let expected = (round + 1) * calls;
        if polls == expected {
            Ok(())
        } else {
            Err(format!("the API counts {polls} polls, not {expected}").into())
        }
    };
    alternate(context.rounds, ours, yardstick, check).await
}
