//! A row of the bench: its measurement, unit and yardstick, and the ratio that it must reach.

use std::future::Future;
use std::pin::Pin;

use crate::Result;
use crate::context::Context;

/// One round of a row: our figure and the yardstick's, both in the row's unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) ours: f64,
    /// `None` for bounds.
    pub(crate) yardstick: Option<f64>,
}

/// The unit of a figure, and whether higher or lower is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations per second: higher is better.
    PerSecond,
    /// Seconds: lower is better.
    Seconds,
    /// Milliseconds at a percentile: lower is better.
    Milliseconds,
    /// MiB of peak memory: lower is better.
    Mebibytes,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "/s",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
        }
    }

    /// The ratio of our figure to the yardstick. In every unit, more than 1 is better than the yardstick.
    pub(crate) fn ratio(self, ours: f64, yardstick: f64) -> f64 {
        match self {
            Self::PerSecond => ours / yardstick,
            Self::Seconds | Self::Milliseconds | Self::Mebibytes => yardstick / ours,
        }
    }
}

type Measured<'a> = Pin<Box<dyn Future<Output = Result<Vec<Round>>> + 'a>>;

/// A row. To add one, add a file and an entry in [`crate::rows::ROWS`].
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    /// Description of our side.
    pub(crate) ours: &'static str,
    /// Description of the other side: a statement or a command, as it runs. Empty for bounds.
    pub(crate) yardstick: &'static str,
    /// The minimum ratio; for bounds, the maximum figure.
    pub(crate) floor: f64,
    /// The desired ratio or figure.
    pub(crate) aim: f64,
    /// Measures all rounds. Checks after each round that the work was done.
    pub(crate) measure: for<'a> fn(&'a Context) -> Measured<'a>,
}

impl Row {
    /// Whether the row limits our own figure, without a yardstick.
    pub(crate) fn is_bound(&self) -> bool {
        self.yardstick.is_empty()
    }
}

/// Measures both sides in each round, alternating which side is first. After each round `check` fails
/// unless the work was done.
pub(crate) async fn alternate(
    rounds: usize,
    ours: impl AsyncFn(u64) -> Result<f64>,
    yardstick: impl AsyncFn(u64) -> Result<f64>,
    check: impl AsyncFn(u64) -> Result<()>,
) -> Result<Vec<Round>> {
    let mut measured = Vec::new();
    for round in 0..u64::try_from(rounds)? {
        let (ours, yardstick) = if round % 2 == 0 {
            (ours(round).await?, yardstick(round).await?)
        } else {
            let yardstick = yardstick(round).await?;
            (ours(round).await?, yardstick)
        };
        check(round).await?;
        measured.push(Round { ours, yardstick: Some(yardstick) });
    }
    Ok(measured)
}
