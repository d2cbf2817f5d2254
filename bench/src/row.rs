//! A row of the bench: its measurement, unit and yardstick, and the ratio that it must reach.

use std::future::Future;
use std::pin::Pin;

use crate::Result;
use crate::context::Context;

/// One round of a row: our figure and the yardstick's, both in the row's unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    pub(crate) ours: f64,
    /// None for rows that are bounds.
    pub(crate) yardstick: Option<f64>,
}

/// The unit of a figure, and whether more or less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Operations a second: more is better.
    PerSecond,
    /// Seconds: less is better.
    Seconds,
    /// Milliseconds at the 99th percentile: less is better.
    Milliseconds,
    /// MiB at the peak: less is better.
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

    /// How good ours is against the yardstick: more than 1 is better than the yardstick, in every unit.
    pub(crate) fn ratio(self, ours: f64, yardstick: f64) -> f64 {
        match self {
            Self::PerSecond => ours / yardstick,
            Self::Seconds | Self::Milliseconds | Self::Mebibytes => yardstick / ours,
        }
    }
}

type Measured<'a> = Pin<Box<dyn Future<Output = Result<Vec<Round>>> + 'a>>;

/// A row. Adding one is an entry in [`crate::rows::ROWS`] and a file beside the others.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    /// Our side.
    pub(crate) ours: &'static str,
    /// The other side: a statement or a command, as it runs. Empty for bounds.
    pub(crate) yardstick: &'static str,
    /// The ratio that a run must reach; for bounds, the figure that it must not pass.
    pub(crate) floor: f64,
    /// The ratio, or figure, that we want.
    pub(crate) aim: f64,
    /// Measures all rounds, and checks after each that the work was done.
    pub(crate) measure: for<'a> fn(&'a Context) -> Measured<'a>,
}

impl Row {
    /// Whether the row is a bound on our own figure, without a yardstick.
    pub(crate) fn is_bound(&self) -> bool {
        self.yardstick.is_empty()
    }
}

/// Measures both sides in each round, one after the other, and the other way round in every second round. After each round
/// `check` fails unless the work was done.
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
