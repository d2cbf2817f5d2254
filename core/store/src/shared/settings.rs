//! Creation of single SHARED codes, and changes of the limits and the suspension of a code.

use serde_json::{Value, json};
use sqlx::{PgTransaction, query_file, query_scalar};

use cuponera_domain::book::CodeKind;
use cuponera_domain::coupon::limits::{CodePatch, CodeSettings, SharedLimits};
use cuponera_domain::coupon::state::Coupon;
use cuponera_domain::id::{BookId, BusinessId, EventId};
use cuponera_domain::principal::AuditContext;
use cuponera_domain::rejection::Rejection;

use crate::error::{Error, Result};
use crate::job::submit::reserve_positions;
use crate::request_key::{CallResult, IdempotencyKey, KeyedChange};
use crate::stored_kind::StoredKind;
use crate::stored_status::StoredStatus;
use crate::{GenerateId, Store, coupon};

/// A SHARED code to create.
#[derive(Debug, Clone)]
pub struct NewSharedCode {
    /// Its book.
    pub book: BookId,
    /// The code, as it is stored.
    pub code: String,
    /// Its limits.
    pub limits: SharedLimits,
    /// Data that the owner stores with it.
    pub metadata: Option<Value>,
}

/// The settings of a code, and the version of its row.
struct LockedSettings {
    version: i32,
    settings: CodeSettings,
}

impl Store {
    /// Creates a SHARED code.
    pub async fn create_shared_code(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        new: &NewSharedCode,
    ) -> Result<CallResult<Coupon>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            new.limits.check()?;
            insert(&mut open.transaction, business, new).await?;
            coupon::get(&mut *open.transaction, business, &new.code).await
        }
        .await;
        open.commit(outcome).await
    }

    /// Changes the limits or the suspension of a code under the lock of its row.
    pub async fn change_code(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        code: &str,
        patch: CodePatch,
        audit: &AuditContext,
    ) -> Result<CallResult<Coupon>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let before = lock_settings(&mut open.transaction, business, code).await?;
            let after = patch.apply(&before.settings)?;
            if let Some(change) = before.settings.change_to(&after) {
                write(&mut open.transaction, business, code, &before, &after, &change, audit).await?;
            }
            coupon::get(&mut *open.transaction, business, code).await
        }
        .await;
        open.commit(outcome).await
    }
}

/// Inserts the code at the next position of its book. The rollback of a rejected call gives the position back.
async fn insert(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    new: &NewSharedCode,
) -> Result<()> {
    let position = reserve_positions(transaction, business, new.book, 1).await?;
    let kind = query_scalar!(
        r#"select code_kind as "code_kind: StoredKind" from coupon_book where id = $1"#,
        new.book.0
    )
    .fetch_one(&mut **transaction)
    .await?;
    if kind.0 != CodeKind::Shared {
        return Err(Rejection::invalid("couponBookId", "must be a book with the codeKind SHARED").into());
    }
    let limits = &new.limits;
    let settings = json!({
        "couponBookId": new.book,
        "maxRedemptions": limits.max_redemptions,
        "maxRedeemsPerUser": limits.max_redeems_per_user,
        "startsAt": limits.starts_at,
        "expiresAt": limits.expires_at,
    });
    let made = query_file!(
        "src/sql/create_shared_code.sql",
        business.0,
        new.book.0,
        new.code,
        position,
        limits.max_redemptions,
        limits.max_redeems_per_user,
        limits.starts_at,
        limits.expires_at,
        new.metadata,
        settings
    )
    .fetch_one(&mut **transaction)
    .await?;
    if made.made > 0 {
        return Ok(());
    }
    let exists = query_scalar!(
        r#"select exists (select from coupon where business_id = $1 and code = $2) as "exists!""#,
        business.0,
        new.code
    );
    let rejection = if exists.fetch_one(&mut **transaction).await? {
        Rejection::CodeExists
    } else {
        Rejection::invalid("expiresAt", "must be in the future")
    };
    Err(rejection.into())
}

/// Locks the code, and reads its settings with a new snapshot.
async fn lock_settings(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    code: &str,
) -> Result<LockedSettings> {
    query_scalar!(
        "select version from coupon where business_id = $1 and code = $2 for update",
        business.0,
        code
    )
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(|| Rejection::not_found("coupon"))?;
    let row =
        query_file!("src/sql/code_settings.sql", business.0, code).fetch_one(&mut **transaction).await?;
    let limits = match row.code_kind.0 {
        CodeKind::Shared => SharedLimits {
            max_redemptions: row.max_redemptions,
            max_redeems_per_user: row.max_redeems_per_user,
            starts_at: row.starts_at,
            expires_at: row.expires_at,
        },
        CodeKind::Unique | CodeKind::Bearer => SharedLimits::default(),
    };
    let settings = CodeSettings {
        kind: row.code_kind.0,
        status: row.status.0,
        limits,
        is_suspended: row.is_suspended,
        redeem_count: row.redeem_count,
        uses: row.uses,
        uses_of_a_user: row.uses_of_a_user,
    };
    Ok(LockedSettings { version: row.version, settings })
}

async fn write(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    code: &str,
    before: &LockedSettings,
    after: &CodeSettings,
    change: &str,
    audit: &AuditContext,
) -> Result<()> {
    let (limits, version) = (&after.limits, before.version);
    let changed = query_file!(
        "src/sql/change_code.sql",
        business.0,
        code,
        version,
        after.status.as_str(),
        after.is_suspended,
        after.kind == CodeKind::Shared,
        limits.max_redemptions,
        limits.max_redeems_per_user,
        limits.starts_at,
        limits.expires_at,
        EventId::generate().0,
        change,
        before.settings.recorded(),
        after.recorded(),
        audit.actor,
        audit.ip.map(|ip| ip.to_string()),
        audit.user_agent,
        audit.request_id
    )
    .fetch_one(&mut **transaction)
    .await?;
    if changed.changed == 1 { Ok(()) } else { Err(Error::internal("a locked code has another version")) }
}
