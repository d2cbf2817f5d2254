//! No statistics of the storm have a total above the number of events at its end. At the end they are exact, which is an
//! invariant of the database.

use std::collections::HashMap;

use futures::FutureExt;

use super::{Oracle, Verdict};
use crate::evidence::Evidence;

pub(super) const STATISTICS: Oracle =
    Oracle { name: "statistics", check: |evidence, _| async move { Ok(check(evidence)) }.boxed_local() };

/// Totals, and the actions that they count.
const TOTALS: [(&str, &str); 8] = [
    ("assigned", "ASSIGN"),
    ("locked", "LOCK"),
    ("unlocked", "UNLOCK"),
    ("lockExpired", "EXPIRE"),
    ("redeemed", "REDEEM"),
    ("rolledBack", "ROLLBACK"),
    ("revoked", "REVOKE"),
    ("voided", "VOID"),
];

fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    // By business or book, and action.
    let mut events: HashMap<(&str, &str), u64> = HashMap::new();
    for event in &evidence.events {
        for scope in [&event.business, &event.book] {
            *events.entry((scope, &event.action)).or_default() += 1;
        }
    }
    for entry in evidence.history {
        let Some(scope) = entry.ask.about.statistics_of.as_deref() else { continue };
        let Some(answer) = entry.verdict().filter(|answer| answer.is_success()) else { continue };
        for (total, action) in TOTALS {
            let counted = answer.body["totals"][total].as_u64();
            let happened = events.get(&(scope, action)).copied().unwrap_or(0);
            verdict.check(counted.is_some_and(|counted| counted <= happened), || {
                format!("{total} is {counted:?} of {happened}: {}", entry.description())
            });
        }
    }
    verdict
}
