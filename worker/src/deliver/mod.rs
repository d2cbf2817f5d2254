//! Delivers events to webhooks: claims due deliveries, attempts them, and records the ends of the attempts.
//!
//! **Invariant.** A receiver that does not answer delays no other one: it has a bounded number of attempts at a time. The receivers of a
//! business together have at most a quarter of all, and so have all receivers whose last attempt failed. A worker that dies loses no event, because its leases end.

mod resolve;
mod sender;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cuponera_domain::id::WebhookId;
use cuponera_domain::webhook::delivery::{Attempt, Verdict};
use cuponera_domain::webhook::schedule::next_delay;
use cuponera_platform::telemetry::metrics::{self, AttemptEnd};
use cuponera_store::{AttemptOutcome, ClaimLimits, ClaimedDelivery, Finish, Result, Store};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use resolve::SystemResolver;
pub use sender::{Sender, Sent, TIMEOUT};

/// Interval of claims without a notification.
const PERIOD: Duration = Duration::from_millis(250);
/// Minimum interval of claims: under load, one claim replaces many attempts that have ended.
const MIN_PERIOD: Duration = Duration::from_millis(10);
/// Duration of a claim: an attempt, and the time to record its end.
const LEASE: Duration = Duration::from_secs(30);
/// How long a worker tries to record the end of an attempt.
const RECORDING: Duration = Duration::from_secs(15);
/// How long a shutdown waits for running attempts. Those that are abandoned are made again.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of attempts at a time.
const MAX_ATTEMPTS: usize = 256;
/// Of these, attempts for webhooks whose last attempt failed.
const MAX_FAILING: usize = 64;
/// Maximum number of attempts for the webhooks of one business.
const MAX_EACH_BUSINESS: i64 = 64;
/// Maximum number of attempts for one webhook.
const MAX_EACH: i64 = 4;
/// The same for one whose last attempt failed.
const MAX_EACH_FAILING: i64 = 2;
/// Maximum number of ends that are recorded at a time, each of which uses a connection.
const MAX_RECORDING: usize = 2;

/// The parts that deliver.
pub(crate) struct Delivering {
    pub(crate) store: Store,
    pub(crate) sender: Sender,
    /// Notified of new deliveries.
    pub(crate) wake: Arc<Notify>,
}

/// What each attempt uses.
struct Parts {
    store: Store,
    sender: Sender,
    recording: Semaphore,
    /// Cancelled when running attempts are abandoned.
    give_up: CancellationToken,
}

/// The running attempts, with their webhooks, and whether the webhooks' last attempts had failed.
#[derive(Default)]
struct Running {
    tasks: JoinSet<()>,
    webhooks: HashMap<Id, (WebhookId, bool)>,
}

impl Delivering {
    /// Delivers until `stop`, then waits for running attempts.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Self { store, sender, wake } = self;
        let (recording, give_up) = (Semaphore::new(MAX_RECORDING), CancellationToken::new());
        let parts = Arc::new(Parts { store, sender, recording, give_up });
        let mut running = Running::default();
        let mut is_bad = false;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            match parts.store.claim_deliveries(&running.limits(), LEASE).await {
                Ok(claimed) => {
                    is_bad = false;
                    for delivery in claimed {
                        running.spawn(delivery, begun, parts.clone());
                    }
                }
                Err(failure) => {
                    if !is_bad {
                        warn!(error = failure.chain(), "cannot claim deliveries of webhooks");
                    }
                    is_bad = true;
                }
            }
            tokio::select! {
                Some(done) = running.tasks.join_next_with_id() => running.forget(done),
                () = wake.notified() => {}
                () = sleep(PERIOD) => {}
                () = stop.cancelled() => break,
            }
            let _ = timeout(MIN_PERIOD.saturating_sub(begun.elapsed()), stop.cancelled()).await;
            while let Some(done) = running.tasks.try_join_next_with_id() {
                running.forget(done);
            }
        }
        running.end(&parts.give_up).await;
    }
}

impl Running {
    /// What can be claimed beside the running attempts.
    fn limits(&self) -> ClaimLimits {
        let mut running: HashMap<WebhookId, i64> = HashMap::new();
        for (webhook, _) in self.webhooks.values() {
            *running.entry(*webhook).or_default() += 1;
        }
        let failing = self.webhooks.values().filter(|(_, is_failing)| *is_failing).count();
        let room = |most: usize, used: usize| i64::try_from(most.saturating_sub(used)).unwrap_or(0);
        ClaimLimits {
            all: room(MAX_ATTEMPTS, self.webhooks.len()),
            failing: room(MAX_FAILING, failing),
            each_business: MAX_EACH_BUSINESS,
            each: MAX_EACH,
            each_failing: MAX_EACH_FAILING,
            running: running.into_iter().collect(),
        }
    }

    fn spawn(&mut self, delivery: ClaimedDelivery, claimed_at: Instant, parts: Arc<Parts>) {
        let webhook = (delivery.webhook, delivery.is_failing);
        let task = self.tasks.spawn(async move { parts.deliver(&delivery, claimed_at).await });
        self.webhooks.insert(task.id(), webhook);
    }

    fn forget(&mut self, done: Result<(Id, ()), JoinError>) {
        let id = match done {
            Ok((id, ())) => id,
            Err(error) => {
                warn!(%error, "an attempt of a webhook ended early; it is made again when its lease ends");
                error.id()
            }
        };
        self.webhooks.remove(&id);
    }

    /// Waits for the attempts, then abandons the others.
    async fn end(mut self, give_up: &CancellationToken) {
        let mut waiting = pin!(async {
            while let Some(done) = self.tasks.join_next_with_id().await {
                self.forget(done);
            }
        });
        if timeout(SHUTDOWN_TIMEOUT, &mut waiting).await.is_err() {
            give_up.cancel();
            waiting.await;
        }
    }
}

impl Parts {
    /// Attempts a delivery and records the end.
    async fn deliver(&self, delivery: &ClaimedDelivery, claimed_at: Instant) {
        // A process that was frozen has lost its lease, and another worker makes the attempt.
        if claimed_at.elapsed() + TIMEOUT >= LEASE {
            return;
        }
        let Some(Sent { attempt, verdict }) =
            self.give_up.run_until_cancelled(self.sender.send(delivery)).await
        else {
            return self.release(delivery).await;
        };
        metrics::webhook_attempted(Duration::from_millis(attempt.duration_ms.into()));
        let tries = usize::try_from(delivery.tries).unwrap_or(usize::MAX).saturating_add(1);
        let outcome = match verdict {
            Verdict::Delivered => AttemptOutcome::Delivered,
            Verdict::Gone => AttemptOutcome::Gone,
            Verdict::Failed { retry_after } => next_delay(tries, retry_after, &mut rand::rng())
                .map_or(AttemptOutcome::Failed, AttemptOutcome::Retry),
        };
        self.record(delivery, &attempt, outcome).await;
    }

    /// Records the end of an attempt, again while the database is unavailable. It is not cancelled, because it begins a transaction.
    async fn record(&self, delivery: &ClaimedDelivery, attempt: &Attempt, outcome: AttemptOutcome) {
        let begun = Instant::now();
        loop {
            let recorded = {
                let Ok(_permit) = self.recording.acquire().await else { return };
                self.store.finish_attempt_if_held(delivery, attempt, outcome).await
            };
            match recorded {
                Ok(finish) => return note(delivery, outcome, finish),
                Err(failure)
                    if failure.is_retryable()
                        && begun.elapsed() < RECORDING
                        && !self.give_up.is_cancelled() => {}
                Err(failure) => {
                    warn!(error = failure.chain(), "cannot record an attempt of a webhook; it is made again");
                    return;
                }
            }
            sleep(PERIOD).await;
        }
    }

    /// Releases a claim whose attempt is abandoned, so that another worker need not wait for the end of its lease.
    async fn release(&self, delivery: &ClaimedDelivery) {
        info!(delivery = %delivery.id, "abandoned an attempt of a webhook; it is made again");
        if let Err(failure) = self.store.release_delivery_if_held(delivery).await {
            warn!(error = failure.chain(), "cannot release a delivery; its lease ends");
        }
    }
}

fn note(delivery: &ClaimedDelivery, outcome: AttemptOutcome, finish: Finish) {
    let end = match (finish, outcome) {
        (Finish::Lost, _) => AttemptEnd::Lost,
        (_, AttemptOutcome::Delivered) => AttemptEnd::Delivered,
        (_, AttemptOutcome::Retry(_)) => AttemptEnd::Retried,
        (_, AttemptOutcome::Failed | AttemptOutcome::Gone) => AttemptEnd::Failed,
    };
    metrics::webhook_attempt_ended(end);
    debug!(delivery = %delivery.id, webhook = %delivery.webhook, ?end, "an attempt of a webhook has ended");
    if let Finish::Disabled(reason) = finish {
        metrics::webhook_disabled(reason);
        info!(webhook = %delivery.webhook, reason = reason.as_str(), "a webhook is disabled");
    }
}
