//! The effects of a batch, as columns of the statement that writes them.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, query_file};
use uuid::Uuid;

use cuponera_domain::coupon::shared::SharedEvent;
use cuponera_domain::id::{EventId, RedemptionId};
use cuponera_domain::principal::AuditContext;

use super::SharedAsk;
use super::state::{BatchState, CodeState, UserState};
use crate::GenerateId;
use crate::request_key::IdempotencyKey;

/// The rows that a batch adds beside those of its codes and users.
#[derive(Debug, Default)]
pub(super) struct Writes {
    events: EventColumns,
    redemptions: RedemptionColumns,
    rolled_back: Vec<Uuid>,
    rolled_back_at: Vec<DateTime<Utc>>,
    keys: Vec<Uuid>,
    fingerprints: Vec<Uuid>,
    answers: Vec<Value>,
}

#[derive(Debug, Default)]
struct EventColumns {
    id: Vec<Uuid>,
    at: Vec<DateTime<Utc>>,
    business: Vec<Uuid>,
    book: Vec<Uuid>,
    position: Vec<i32>,
    version: Vec<i32>,
    from: Vec<String>,
    to: Vec<String>,
    action: Vec<String>,
    user: Vec<String>,
    redeem_count: Vec<Option<i32>>,
    reason: Vec<Option<String>>,
    actor: Vec<String>,
    ip: Vec<Option<String>>,
    user_agent: Vec<Option<String>>,
    request: Vec<Option<String>>,
}

#[derive(Debug, Default)]
struct RedemptionColumns {
    id: Vec<Uuid>,
    at: Vec<DateTime<Utc>>,
    business: Vec<Uuid>,
    book: Vec<Uuid>,
    code: Vec<String>,
    use_number: Vec<i32>,
    user: Vec<String>,
    reference: Vec<Option<String>>,
    metadata: Vec<Option<Value>>,
}

impl Writes {
    /// Adds an event. Their ids are generated in the order of their versions, which is the order of the log.
    pub(super) fn event(
        &mut self,
        audit: &AuditContext,
        code: &CodeState,
        user: &str,
        event: &SharedEvent,
        reason: Option<&str>,
    ) {
        let columns = &mut self.events;
        columns.id.push(EventId::generate().0);
        columns.at.push(event.at);
        columns.business.push(code.business.0);
        columns.book.push(code.book.0);
        columns.position.push(code.position);
        columns.version.push(event.version);
        columns.from.push(event.from.as_str().to_owned());
        columns.to.push(event.to.as_str().to_owned());
        columns.action.push(event.action.to_owned());
        columns.user.push(user.to_owned());
        columns.redeem_count.push(event.redeem_count);
        columns.reason.push(reason.or(event.reason).map(str::to_owned));
        columns.actor.push(audit.actor.clone());
        columns.ip.push(audit.ip.map(|ip| ip.to_string()));
        columns.user_agent.push(audit.user_agent.clone());
        columns.request.push(audit.request_id.clone());
    }

    /// Adds the last redemption of a code.
    pub(super) fn redemption(
        &mut self,
        id: RedemptionId,
        at: DateTime<Utc>,
        code: &CodeState,
        user: &UserState,
        ask: &SharedAsk,
    ) {
        let metadata = match ask {
            SharedAsk::Redeem { metadata, .. } => metadata.clone(),
            SharedAsk::Lock { .. } | SharedAsk::Unlock { .. } | SharedAsk::RollBack { .. } => None,
        };
        let columns = &mut self.redemptions;
        columns.id.push(id.0);
        columns.at.push(at);
        columns.business.push(code.business.0);
        columns.book.push(code.book.0);
        columns.code.push(code.name.clone());
        columns.use_number.push(code.code.last_use);
        columns.user.push(user.id.clone());
        columns.reference.push(ask.reference().map(str::to_owned));
        columns.metadata.push(metadata);
    }

    /// Adds the rollback of a redemption.
    pub(super) fn rollback(&mut self, redemption: RedemptionId, at: DateTime<Utc>) {
        self.rolled_back.push(redemption.0);
        self.rolled_back_at.push(at);
    }

    /// Adds the answer of a call with a key.
    pub(super) fn answer(&mut self, key: &IdempotencyKey, answer: Value) {
        self.keys.push(key.id);
        self.fingerprints.push(key.fingerprint);
        self.answers.push(answer);
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.events.id.is_empty() && self.keys.is_empty()
    }

    /// Writes all of it with the codes and users that have changed. Returns whether each code still had the version that was read, and each
    /// redemption stood.
    pub(super) async fn write(
        &self,
        executor: impl PgExecutor<'_>,
        state: &BatchState,
    ) -> sqlx::Result<bool> {
        let codes: Vec<&CodeState> =
            state.codes.iter().filter(|code| code.code.version != code.version_read).collect();
        let users: Vec<&UserState> = state.users.iter().filter(|user| user.is_changed).collect();
        let code_of = |user: &UserState| &state.codes[user.code];
        let (events, redemptions) = (&self.events, &self.redemptions);
        let written = query_file!(
            "src/sql/shared_write.sql",
            &column(&codes, |code| code.business.0),
            &column(&codes, |code| code.name.clone()),
            &column(&codes, |code| code.version_read),
            &column(&codes, |code| code.code.version),
            &column(&codes, |code| code.status_read.as_str().to_owned()),
            &column(&codes, |code| code.code.status.as_str().to_owned()),
            &column(&codes, |code| code.code.redeem_count),
            &column(&codes, |code| code.code.lock_count),
            &column(&codes, |code| code.code.last_use),
            &column(&codes, |code| code.code.redeemed_at) as _,
            &column(&codes, |code| code.was_locked_read),
            &column(&codes, |code| code.code.was_locked),
            &column(&users, |user| code_of(user).business.0),
            &column(&users, |user| code_of(user).name.clone()),
            &column(&users, |user| user.id.clone()),
            &column(&users, |user| code_of(user).book.0),
            &column(&users, |user| user.user.used),
            &column(&users, |user| user.user.lock.map(|lock| lock.id.0)) as _,
            &column(&users, |user| user.user.lock.map(|lock| lock.at)) as _,
            &column(&users, |user| user.user.lock.map(|lock| lock.until).or(user.user.expired_at)) as _,
            &column(&users, |user| user.user.first_at.unwrap_or(code_of(user).code.now)),
            &events.id,
            &events.at,
            &events.business,
            &events.book,
            &events.position,
            &events.version,
            &events.from,
            &events.to,
            &events.action,
            &events.user,
            &events.redeem_count as _,
            &events.reason as _,
            &events.actor,
            &events.ip as _,
            &events.user_agent as _,
            &events.request as _,
            &redemptions.id,
            &redemptions.at,
            &redemptions.business,
            &redemptions.book,
            &redemptions.code,
            &redemptions.use_number,
            &redemptions.user,
            &redemptions.reference as _,
            &redemptions.metadata as _,
            &self.rolled_back,
            &self.rolled_back_at,
            &self.keys,
            &self.fingerprints,
            &self.answers
        )
        .fetch_one(executor)
        .await?;
        let are_all = |count: i64, expected: usize| usize::try_from(count).is_ok_and(|count| count == expected);
        Ok(are_all(written.coupons, codes.len()) && are_all(written.rollbacks, self.rolled_back.len()))
    }
}

fn column<R, C>(rows: &[&R], value: impl Fn(&R) -> C) -> Vec<C> {
    rows.iter().map(|row| value(row)).collect()
}
