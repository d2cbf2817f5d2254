//! The state on which the calls of a batch are decided.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, query_file_as};
use uuid::Uuid;

use cuponera_domain::coupon::shared::{SharedCode, SharedLock, SharedRules, SharedUser, SharedUse};
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::{BookId, BusinessId, LockId, RedemptionId};

use super::SharedAsk;
use super::round::fault;
use crate::batch::parameters::WhyColumns;
use crate::batch::{Call, Transition, rejection};
use crate::stored_status::StoredStatus;

/// A call of a batch, with its code.
pub(crate) struct Item<'c, T> {
    pub(super) call: &'c Call<T>,
    pub(super) code: &'c str,
    pub(super) ask: SharedAsk,
}

impl<'c, T: Transition> Item<'c, T> {
    /// The call as one for a SHARED code, if there is such a call.
    pub(crate) fn of(call: &'c Call<T>) -> Option<Self> {
        Some(Self { call, code: call.ask.code()?, ask: call.ask.of_shared()? })
    }
}

/// The codes and users of a batch.
#[derive(Debug, Default)]
pub(super) struct BatchState {
    pub(super) codes: Vec<CodeState>,
    pub(super) users: Vec<UserState>,
    /// The number of codes of a book that a user uses.
    codes_of_users: HashMap<(BookId, String), i32>,
    code_places: HashMap<(BusinessId, String), usize>,
    user_places: HashMap<(usize, String), usize>,
}

/// A code, and its row as it was read.
#[derive(Debug)]
pub(super) struct CodeState {
    pub(super) business: BusinessId,
    pub(super) name: String,
    pub(super) book: BookId,
    pub(super) position: i32,
    pub(super) code: SharedCode,
    pub(super) version_read: i32,
    pub(super) status_read: CouponStatus,
    pub(super) was_locked_read: bool,
}

/// The uses of a code by a user.
#[derive(Debug)]
pub(super) struct UserState {
    pub(super) code: usize,
    pub(super) id: String,
    pub(super) user: SharedUser,
    pub(super) is_changed: bool,
}

/// What was read for a call.
#[derive(Debug)]
pub(super) struct Found {
    /// The index of the call in the batch.
    pub(super) n: usize,
    /// The places of its code and its user in the state.
    pub(super) code: usize,
    pub(super) user: Option<usize>,
    /// The user that the call names.
    pub(super) named_user: Option<String>,
    /// The answer that is stored under the call's key: its fingerprint and its JSON.
    pub(super) stored: Option<(Uuid, Value)>,
    /// The redemption with the call's reference, or the one to roll back.
    pub(super) redemption: Option<FoundRedemption>,
}

/// A redemption.
#[derive(Debug, Clone)]
pub(super) struct FoundRedemption {
    pub(super) id: RedemptionId,
    pub(super) at: DateTime<Utc>,
    pub(super) user: String,
    pub(super) use_number: i32,
    pub(super) rolled_back_at: Option<DateTime<Utc>>,
}

/// A row of shared_read.sql.
struct ReadRow {
    n: i32,
    now: DateTime<Utc>,
    business_id: Uuid,
    code: String,
    book_id: Uuid,
    position: i32,
    version: i32,
    status: StoredStatus,
    redeem_count: i32,
    last_redeemed_at: Option<DateTime<Utc>>,
    was_locked: bool,
    expires_at: Option<DateTime<Utc>>,
    max_redemptions: Option<i32>,
    lock_count: i32,
    last_use: i32,
    max_redeems_per_user: i32,
    max_codes_per_user: Option<i32>,
    require_lock: bool,
    lock_ttl_seconds: i32,
    expired_count: i32,
    first_end: Option<DateTime<Utc>>,
    verdict: Option<String>,
    user_id: Option<String>,
    named_user: Option<String>,
    used: Option<i32>,
    lock_id: Option<Uuid>,
    locked_at: Option<DateTime<Utc>>,
    locked_until: Option<DateTime<Utc>>,
    first_at: Option<DateTime<Utc>>,
    codes_of_user: Option<i32>,
    stored_fingerprint: Option<Uuid>,
    stored_answer: Option<Value>,
    redemption_id: Option<Uuid>,
    redeemed_at: Option<DateTime<Utc>>,
    redeemed_by: Option<String>,
    use_number: Option<i32>,
    rolled_back_at: Option<DateTime<Utc>>,
}

impl ReadRow {
    fn code(&self) -> sqlx::Result<CodeState> {
        let rejection = self.verdict.as_deref().map(|verdict| rejection(verdict, None));
        let rejection = rejection.transpose().map_err(fault)?;
        let rules = SharedRules {
            rejection,
            max_redemptions: self.max_redemptions,
            max_redeems_per_user: self.max_redeems_per_user,
            max_codes_per_user: self.max_codes_per_user,
            require_lock: self.require_lock,
            lock_ttl_seconds: self.lock_ttl_seconds,
            expires_at: self.expires_at,
        };
        let code = SharedCode {
            rules,
            now: self.now,
            next_at: self.now,
            status: self.status.0,
            version: self.version,
            redeem_count: self.redeem_count,
            last_use: self.last_use,
            lock_count: self.lock_count,
            expired_count: self.expired_count,
            first_end: self.first_end,
            redeemed_at: self.last_redeemed_at,
            was_locked: self.was_locked,
        };
        Ok(CodeState {
            business: BusinessId(self.business_id),
            name: self.code.clone(),
            book: BookId(self.book_id),
            position: self.position,
            code,
            version_read: self.version,
            status_read: self.status.0,
            was_locked_read: self.was_locked,
        })
    }

    fn user(&self) -> SharedUser {
        let lock = self.lock_id.zip(self.locked_at).zip(self.locked_until);
        let lock = lock.map(|((id, at), until)| SharedLock { id: LockId(id), at, until });
        let expired_at = self.locked_until.filter(|_| lock.is_none());
        SharedUser { used: self.used.unwrap_or(0), lock, expired_at, first_at: self.first_at }
    }

    fn redemption(&self) -> Option<FoundRedemption> {
        Some(FoundRedemption {
            id: RedemptionId(self.redemption_id?),
            at: self.redeemed_at?,
            user: self.redeemed_by.clone()?,
            use_number: self.use_number?,
            rolled_back_at: self.rolled_back_at,
        })
    }
}

impl BatchState {
    /// Reads what the calls depend on. Calls for codes that are not SHARED are absent from the result.
    pub(super) async fn read<T>(
        executor: impl PgExecutor<'_>,
        items: &[Item<'_, T>],
    ) -> sqlx::Result<(Self, Vec<Found>)> {
        let calls: Vec<&Call<T>> = items.iter().map(|item| item.call).collect();
        let WhyColumns { n, business, key, .. } = WhyColumns::of(&calls);
        let of = |value: fn(&SharedAsk) -> Option<&str>| -> Vec<Option<String>> {
            items.iter().map(|item| value(&item.ask).map(str::to_owned)).collect()
        };
        let codes: Vec<String> = items.iter().map(|item| item.code.to_owned()).collect();
        let redemptions: Vec<_> = items.iter().map(|item| item.ask.redemption().map(|id| id.0)).collect();
        let locks: Vec<_> = items.iter().map(|item| item.ask.forced_lock().map(|id| id.0)).collect();
        let rows = query_file_as!(
            ReadRow,
            "src/sql/shared_read.sql",
            &n,
            &business,
            &codes,
            &of(SharedAsk::user) as _,
            &key as _,
            &of(SharedAsk::reference) as _,
            &redemptions as _,
            &locks as _
        )
        .fetch_all(executor)
        .await?;
        let mut state = Self::default();
        let found = rows.into_iter().map(|row| state.add(row)).collect::<sqlx::Result<_>>()?;
        Ok((state, found))
    }

    fn add(&mut self, row: ReadRow) -> sqlx::Result<Found> {
        let code = self.place_of_code(row.code()?);
        let user = row.user_id.clone().map(|id| self.place_of_user(code, id, &row));
        let redemption = row.redemption();
        let n = usize::try_from(row.n).map_err(fault)?;
        let stored = row.stored_fingerprint.zip(row.stored_answer);
        Ok(Found { n, code, user, named_user: row.named_user, stored, redemption })
    }

    /// The code and the user of a call, for a transition.
    pub(super) fn use_of(&mut self, code: usize, user: usize) -> SharedUse<'_> {
        let (of_code, of_user) = (&mut self.codes[code], &mut self.users[user]);
        let codes_of_user = self.codes_of_users.entry((of_code.book, of_user.id.clone())).or_default();
        SharedUse { code: &mut of_code.code, user: &mut of_user.user, codes_of_user }
    }

    /// The place of a code. What the first row says of it counts.
    fn place_of_code(&mut self, read: CodeState) -> usize {
        let key = (read.business, read.name.clone());
        *self.code_places.entry(key).or_insert_with(|| {
            self.codes.push(read);
            self.codes.len() - 1
        })
    }

    fn place_of_user(&mut self, code: usize, id: String, row: &ReadRow) -> usize {
        let book = self.codes[code].book;
        *self.user_places.entry((code, id.clone())).or_insert_with(|| {
            self.codes_of_users.entry((book, id.clone())).or_insert(row.codes_of_user.unwrap_or(0));
            self.users.push(UserState { code, id, user: row.user(), is_changed: false });
            self.users.len() - 1
        })
    }
}
