//! Racing, and waiting for a condition.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream;

/// Acts on all items, `lanes` of them at a time; the answers stand in the order of the items. The race is between the
/// connections: one task drives them all, so nothing needs to be shared or cloned.
pub async fn race<I, T, F>(lanes: usize, items: I, act: impl FnMut(I::Item) -> F) -> Vec<T>
where
    I: IntoIterator,
    F: Future<Output = T>,
{
    stream::iter(items).map(act).buffered(lanes).collect().await
}

/// How long a condition may take before the test is given up; reaching it is a failure, so it is generous.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(10);

/// Asks until the answer is there.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}
