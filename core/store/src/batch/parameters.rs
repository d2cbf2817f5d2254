//! The parameters of batch statements: arrays with one value for each call. The parameters common to all statements are
//! listed here once.

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use uuid::Uuid;

use crate::GenerateId;
use cuponera_domain::id::EventId;
use cuponera_domain::money::Money;

use super::Call;

/// The parameters `$1` to `$9` of each batch statement, as arrays.
pub(crate) struct BatchColumns {
    pub n: Vec<i32>,
    pub business: Vec<Uuid>,
    pub event: Vec<Uuid>,
    pub actor: Vec<String>,
    pub ip: Vec<Option<String>>,
    pub user_agent: Vec<Option<String>>,
    pub request: Vec<Option<String>>,
    pub key: Vec<Option<Uuid>>,
    pub fingerprint: Vec<Option<Uuid>>,
}

impl BatchColumns {
    pub(crate) fn of<T>(calls: &[&Call<T>]) -> Self {
        let WhyColumns { n, business, key, fingerprint } = WhyColumns::of(calls);
        Self {
            n,
            business,
            event: column(calls, |_| EventId::generate().0),
            actor: column(calls, |call| call.audit.actor.clone()),
            ip: column(calls, |call| call.audit.ip.map(|ip| ip.to_string())),
            user_agent: column(calls, |call| call.audit.user_agent.clone()),
            request: column(calls, |call| call.audit.request_id.clone()),
            key,
            fingerprint,
        }
    }

    /// Binds the parameters to a statement that the macros of sqlx cannot check.
    pub(crate) fn bind<O>(self, statement: Unchecked<O>) -> Unchecked<O> {
        statement
            .bind(self.n)
            .bind(self.business)
            .bind(self.event)
            .bind(self.actor)
            .bind(self.ip)
            .bind(self.user_agent)
            .bind(self.request)
            .bind(self.key)
            .bind(self.fingerprint)
    }
}

/// The amounts of calls: in minor units, with their currencies and the minor units of one unit of these.
pub(crate) struct AmountColumns {
    pub amount: Vec<Option<i64>>,
    pub currency: Vec<Option<&'static str>>,
    pub minor_units: Vec<Option<i32>>,
}

impl AmountColumns {
    pub(crate) fn of<T>(calls: &[&Call<T>], amount: impl Fn(&Call<T>) -> Option<Money>) -> Self {
        Self {
            amount: column(calls, |call| amount(call).map(Money::minor_units)),
            currency: column(calls, |call| amount(call).map(|amount| amount.currency().code())),
            minor_units: column(calls, |call| amount(call).map(|amount| amount.currency().minor_units())),
        }
    }
}

type Unchecked<O> = QueryAs<'static, Postgres, O, PgArguments>;

/// The parameters `$1` to `$4` of each why-statement, as arrays.
pub(crate) struct WhyColumns {
    pub n: Vec<i32>,
    pub business: Vec<Uuid>,
    pub key: Vec<Option<Uuid>>,
    pub fingerprint: Vec<Option<Uuid>>,
}

impl WhyColumns {
    pub(crate) fn of<T>(calls: &[&Call<T>]) -> Self {
        Self {
            n: (0..).take(calls.len()).collect(),
            business: column(calls, |call| call.business.0),
            key: column(calls, |call| call.key.map(|key| key.id)),
            fingerprint: column(calls, |call| call.key.map(|key| key.fingerprint)),
        }
    }
}

/// Executes the checked batch statement of a file, with the common parameters and then its own. Returns the indexes and
/// outcomes of the items that it changed.
macro_rules! apply_batch {
    ($pool:expr, $calls:expr, $file:tt, $($own:tt)*) => {{
        let columns = BatchColumns::of($calls);
        let changed = sqlx::query_file!(
            $file,
            &columns.n,
            &columns.business,
            &columns.event,
            &columns.actor,
            &columns.ip as _,
            &columns.user_agent as _,
            &columns.request as _,
            &columns.key as _,
            &columns.fingerprint as _,
            $($own)*
        );
        let changed = changed.fetch_all($pool).await?;
        Ok(changed.into_iter().map(|row| (row.n, row.outcome)).collect())
    }};
}
pub(crate) use apply_batch;

/// Executes the checked why-statement of a file, with the common parameters and then its own. `$foreign` is the value
/// of [`Why::foreign`] for a row.
macro_rules! why_batch {
    ($pool:expr, $calls:expr, $file:tt, |$row:pat_param| $foreign:expr, $($own:tt)*) => {{
        let columns = WhyColumns::of($calls);
        let found = sqlx::query_file!(
            $file,
            &columns.n,
            &columns.business,
            &columns.key as _,
            &columns.fingerprint as _,
            $($own)*
        );
        let found = found.fetch_all($pool).await?;
        let why = found.into_iter().map(|row| {
            let foreign = { let $row = &row; $foreign };
            Why { n: row.n, verdict: row.verdict, detail: row.detail, foreign }
        });
        Ok(why.collect())
    }};
}
pub(crate) use why_batch;

/// A parameter of a batch statement: one value for each call.
pub(crate) fn column<T, C>(calls: &[&Call<T>], value: impl Fn(&Call<T>) -> C) -> Vec<C> {
    calls.iter().map(|call| value(call)).collect()
}
