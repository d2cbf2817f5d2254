//! Statistics of a book, and of all books.

mod doc;
mod view;

use chrono::{DateTime, Utc};
use cuponera_domain::id::BookId;
use cuponera_domain::statistics::{Interval, Window};
use cuponera_domain::time_zone::DEFAULT_TIME_ZONE;
use poem::http::StatusCode;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use uuid::Uuid;

use super::list::time;
use super::{Tag, plain, word};
use crate::auth::caller::Caller;
use crate::http::problem::Problem;
use view::StatisticsView;

pub(super) use doc::operations;

const INTERVALS: &str = "hour, day, week, month";
/// A pause after which a worker has counted a few million events of an earlier version.
const RETRY_SECONDS: u32 = 5;

pub(crate) struct BookStatistics;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Statistics")]
impl BookStatistics {
    /// Get the statistics of a book
    ///
    /// `totals`, `rates`, `timeToRedeem` and `series` cover the window, by the time of the events. `counts`, `funnel` and `topHolders` show
    /// the current state. All numbers are exact and at most a second old, except for `timeToRedeem` and `topHolders`.
    #[oai(path = "/coupon-books/:id/stats", method = "get", operation_id = "getCouponBookStatistics")]
    async fn of_book(
        &self,
        caller: Caller,
        /// The book.
        id: Path<Uuid>,
        /// Begin of the window: the beginning of its interval. 30 intervals before `to` if absent.
        from: Query<Option<DateTime<Utc>>>,
        /// End of the window: the end of its interval. Now if absent.
        to: Query<Option<DateTime<Utc>>>,
        /// `hour`, `day`, `week` or `month`; `day` if absent. Weeks begin on Monday. A window has at most 1,000 intervals.
        interval: Query<Option<String>>,
        /// A name of the IANA time zone database, such as `Europe/Madrid`; `UTC` if absent. Days, weeks and months begin at its midnight.
        #[oai(name = "timeZone")]
        time_zone: Query<Option<String>>,
    ) -> Result<Json<StatisticsView>, Problem> {
        let book = BookId(id.0);
        caller.must_have_book(book)?;
        get(&caller, Some(book), window(from.0, to.0, interval.0, time_zone.0)?).await
    }

    /// Get the statistics of all books
    ///
    /// The same numbers for all books. A holder's codes of all books are added up.
    #[oai(path = "/stats", method = "get", operation_id = "getStatistics")]
    async fn of_business(
        &self,
        caller: Caller,
        /// Begin of the window: the beginning of its interval. 30 intervals before `to` if absent.
        from: Query<Option<DateTime<Utc>>>,
        /// End of the window: the end of its interval. Now if absent.
        to: Query<Option<DateTime<Utc>>>,
        /// `hour`, `day`, `week` or `month`; `day` if absent. Weeks begin on Monday. A window has at most 1,000 intervals.
        interval: Query<Option<String>>,
        /// A name of the IANA time zone database, such as `Europe/Madrid`; `UTC` if absent. Days, weeks and months begin at its midnight.
        #[oai(name = "timeZone")]
        time_zone: Query<Option<String>>,
    ) -> Result<Json<StatisticsView>, Problem> {
        get(&caller, None, window(from.0, to.0, interval.0, time_zone.0)?).await
    }
}

async fn get(caller: &Caller, book: Option<BookId>, window: Window) -> Result<Json<StatisticsView>, Problem> {
    let found = caller.app.store.statistics(caller.business(), book, &window).await?;
    let statistics = found.ok_or_else(|| {
        let detail = "the events of an earlier version are still being counted: retry";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "statistics_not_ready", detail)
            .with_retry_after(RETRY_SECONDS)
    })?;
    Ok(Json(StatisticsView::new(book, window, statistics)))
}

fn window(
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    interval: Option<String>,
    time_zone: Option<String>,
) -> Result<Window, Problem> {
    let window = Window {
        from: time("from", from)?,
        to: time("to", to)?,
        interval: word("interval", interval, Interval::parse, INTERVALS)?.unwrap_or(Interval::Day),
        time_zone: plain("timeZone", time_zone)?.unwrap_or_else(|| DEFAULT_TIME_ZONE.to_owned()),
    };
    window.check(Utc::now())?;
    Ok(window)
}
