//! Statistics as the API shows them.

use cuponera_domain::book::Counts;
use cuponera_domain::id::BookId;
use cuponera_domain::money::Currency;
use cuponera_domain::money::sums::{AmountSums, CurrencySums};
use cuponera_domain::statistics::{EventSums, Funnel, TopHolder, Window};
use cuponera_store::Statistics;
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::time::Time;
use crate::routes::books::CountsView;

/// The statistics of a book, or of all books.
#[derive(Debug, Object)]
#[oai(rename = "Statistics", rename_all = "camelCase")]
pub(super) struct StatisticsView {
    /// Absent for all books.
    #[oai(skip_serializing_if_is_none)]
    coupon_book_id: Option<Uuid>,
    /// When the numbers were read.
    as_of: Time,
    /// Begin of the first interval.
    from: Time,
    /// End of the last interval.
    to: Time,
    /// `hour`, `day`, `week` or `month`.
    interval: String,
    time_zone: String,
    counts: CountsView,
    totals: TotalsView,
    funnel: FunnelView,
    rates: RatesView,
    time_to_redeem: TimeToRedeemView,
    /// The sums of the redemptions of the window that have amounts, by currency.
    amounts: Vec<CurrencySumsView>,
    /// Every interval of the window, also those without events.
    series: Vec<IntervalView>,
    /// The 20 users that hold or have redeemed the most codes.
    top_holders: Vec<TopHolderView>,
    /// When these users had the most codes: at most a minute ago, unless the list takes longer than 6 s to make. Null before they are
    /// listed for the first time.
    top_holders_as_of: Option<Time>,
}

/// The events of a window.
#[derive(Debug, Object)]
#[oai(rename = "EventTotals", rename_all = "camelCase")]
struct TotalsView {
    assigned: i64,
    /// Locks, without their renewals.
    locked: i64,
    unlocked: i64,
    lock_expired: i64,
    redeemed: i64,
    revoked: i64,
    rolled_back: i64,
    voided: i64,
}

/// The current number of codes by stage.
#[derive(Debug, Object)]
#[oai(rename = "Funnel")]
struct FunnelView {
    /// All codes.
    generated: i64,
    /// Codes that have or had a holder and are not revoked.
    assigned: i64,
    /// Codes that were locked at least once since they were assigned.
    locked: i64,
    /// Codes with a use that is not rolled back.
    redeemed: i64,
}

/// Ratios of the totals of the window; null without a denominator.
#[derive(Debug, Object)]
#[oai(rename = "Rates", rename_all = "camelCase")]
struct RatesView {
    /// Assignments by the number of all codes.
    assigned_of_generated: Option<f64>,
    /// Redemptions by assignments.
    redeemed_of_assigned: Option<f64>,
    /// Redemptions by locks.
    lock_to_redeem: Option<f64>,
}

/// The time from assignment to first redemption, with an error of at most 2.5 %, of the first redemptions in the window; null if
/// there is none. Times under a second count as one.
#[derive(Debug, Object)]
#[oai(rename = "TimeToRedeem", rename_all = "camelCase")]
struct TimeToRedeemView {
    median_seconds: Option<f64>,
    p90_seconds: Option<f64>,
}

/// The sums of redemptions in one currency.
#[derive(Debug, Object)]
#[oai(rename = "CurrencySums", rename_all = "camelCase")]
struct CurrencySumsView {
    /// ISO 4217.
    currency: String,
    /// The redemptions of the window, including those that were rolled back.
    redeemed: AmountSumsView,
    /// The redemptions that were rolled back in the window.
    rolled_back: AmountSumsView,
}

/// The number of redemptions with an amount, and the sums of their amounts.
#[derive(Debug, Object)]
#[oai(rename = "AmountSums")]
struct AmountSumsView {
    redemptions: i64,
    /// The sum of the amounts before the discounts.
    amount: String,
    discount: String,
    /// The sum of the amounts after the discounts.
    total: String,
}

/// The events of an interval.
#[derive(Debug, Object)]
#[oai(rename = "StatisticsInterval", rename_all = "camelCase")]
struct IntervalView {
    /// When it begins.
    at: Time,
    assigned: i64,
    locked: i64,
    redeemed: i64,
    revoked: i64,
    rolled_back: i64,
}

/// A user, and the number of codes that it holds or has redeemed.
#[derive(Debug, Object)]
#[oai(rename = "TopHolder", rename_all = "camelCase")]
struct TopHolderView {
    user_id: String,
    held: i64,
}

impl StatisticsView {
    pub(super) fn new(book: Option<BookId>, window: Window, statistics: Statistics) -> Self {
        let Statistics { as_of, edges, series, amounts, redeem_times, counts, funnel, .. } = statistics;
        let mut totals = EventSums::default();
        for sums in &series {
            totals += *sums;
        }
        Self {
            coupon_book_id: book.map(|book| book.0),
            as_of: as_of.into(),
            from: edges.first().copied().unwrap_or(as_of).into(),
            to: edges.last().copied().unwrap_or(as_of).into(),
            interval: window.interval.as_str().to_owned(),
            time_zone: window.time_zone,
            counts: counts.into(),
            rates: RatesView::of(totals, counts),
            totals: totals.into(),
            funnel: funnel.into(),
            time_to_redeem: TimeToRedeemView {
                median_seconds: redeem_times.quantile_seconds(500),
                p90_seconds: redeem_times.quantile_seconds(900),
            },
            amounts: amounts.into_iter().map(CurrencySumsView::from).collect(),
            series: edges
                .iter()
                .zip(series)
                .map(|(at, sums)| IntervalView::new((*at).into(), sums))
                .collect(),
            top_holders: statistics.top_holders.into_iter().map(TopHolderView::from).collect(),
            top_holders_as_of: statistics.top_holders_as_of.map(Time::from),
        }
    }
}

impl From<EventSums> for TotalsView {
    fn from(sums: EventSums) -> Self {
        Self {
            assigned: sums.assigned,
            locked: sums.locked,
            unlocked: sums.unlocked,
            lock_expired: sums.lock_expired,
            redeemed: sums.redeemed,
            revoked: sums.revoked,
            rolled_back: sums.rolled_back,
            voided: sums.voided,
        }
    }
}

impl From<Funnel> for FunnelView {
    fn from(funnel: Funnel) -> Self {
        Self {
            generated: funnel.generated,
            assigned: funnel.assigned,
            locked: funnel.locked,
            redeemed: funnel.redeemed,
        }
    }
}

impl RatesView {
    fn of(totals: EventSums, counts: Counts) -> Self {
        Self {
            assigned_of_generated: ratio(totals.assigned, counts.all()),
            redeemed_of_assigned: ratio(totals.redeemed, totals.assigned),
            lock_to_redeem: ratio(totals.redeemed, totals.locked),
        }
    }
}

/// The ratio to four decimals.
#[expect(clippy::cast_precision_loss, reason = "numbers of events are below 2^53")]
fn ratio(part: i64, of: i64) -> Option<f64> {
    (of != 0).then(|| (part as f64 / of as f64 * 10_000.0).round() / 10_000.0)
}

impl IntervalView {
    fn new(at: Time, sums: EventSums) -> Self {
        Self {
            at,
            assigned: sums.assigned,
            locked: sums.locked,
            redeemed: sums.redeemed,
            revoked: sums.revoked,
            rolled_back: sums.rolled_back,
        }
    }
}

impl From<CurrencySums> for CurrencySumsView {
    fn from(sums: CurrencySums) -> Self {
        Self {
            currency: sums.currency.code().into(),
            redeemed: AmountSumsView::new(sums.redeemed, sums.currency),
            rolled_back: AmountSumsView::new(sums.rolled_back, sums.currency),
        }
    }
}

impl AmountSumsView {
    fn new(sums: AmountSums, currency: Currency) -> Self {
        Self {
            redemptions: sums.redemptions,
            amount: currency.decimal_text(sums.amount),
            discount: currency.decimal_text(sums.discount),
            total: currency.decimal_text(sums.total()),
        }
    }
}

impl From<TopHolder> for TopHolderView {
    fn from(holder: TopHolder) -> Self {
        Self { user_id: holder.user_id, held: holder.held }
    }
}
