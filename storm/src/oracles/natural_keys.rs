//! A permanent key has one effect: the reference of a redemption, and the key of a recipient.

use std::collections::HashMap;

use futures::FutureExt;
use sqlx::{PgConnection, query_as};

use super::{Oracle, Verdict};
use crate::Result;
use crate::evidence::Evidence;
use crate::history::Entry;

pub(super) const NATURAL_KEYS: Oracle = Oracle {
    name: "natural_keys",
    check: |evidence, database| {
        async move {
            let mut verdict = check_answers(evidence);
            check_redemptions(database, &mut verdict).await?;
            Ok(verdict)
        }
        .boxed_local()
    },
};

/// All answers to requests with one key name the same redemption, or the same code.
fn check_answers(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut first: HashMap<(usize, &str, &str), &Entry> = HashMap::new();
    for entry in evidence.history {
        let Some(key) = &entry.ask.about.natural_key else { continue };
        let Some(effect) = effect_of(entry) else { continue };
        let code = entry.ask.about.code.as_deref().unwrap_or_default();
        let other = *first.entry((entry.ask.caller.tenant(), code, key)).or_insert(entry);
        verdict.check(effect_of(other) == Some(effect), || {
            format!("one key had two effects: {}\n    {}", other.description(), entry.description())
        });
    }
    verdict
}

/// The id of the redemption, or the code that was assigned.
fn effect_of(entry: &Entry) -> Option<&str> {
    let answer = entry.answer.as_ref().filter(|answer| answer.is_success())?;
    let name = if entry.ask.about.code.is_some() { "redemptionId" } else { "code" };
    answer.body[name].as_str()
}

async fn check_redemptions(database: &mut PgConnection, verdict: &mut Verdict) -> Result<()> {
    let uses: Vec<(String, String, i64)> = query_as(
        "select code, reference, count(*) from redemption where reference is not null group by business_id, code, reference",
    )
    .fetch_all(database)
    .await?;
    for (code, reference, count) in uses {
        verdict.check(count == 1, || {
            format!("{code} was redeemed {count} times with the reference {reference}")
        });
    }
    Ok(())
}
