//! The invariants of each database between two commits, which all tests check.

use cuponera_testkit::invariant_violations;
use futures::FutureExt;
use sqlx::postgres::PgPoolOptions;

use super::{Oracle, Verdict};

pub(super) const INVARIANTS: Oracle = Oracle {
    name: "invariants",
    check: |evidence, _| {
        async move {
            let pool = PgPoolOptions::new().max_connections(1).connect(&evidence.installation.url()?).await?;
            let violations = invariant_violations(&pool).await;
            pool.close().await;
            Ok(Verdict { checks: evidence.events.len(), violations })
        }
        .boxed_local()
    },
};
