//! No answer contains data of another business or of another end user.

use futures::FutureExt;

use super::{Oracle, Verdict};
use crate::evidence::Evidence;
use crate::world::Tenant;

pub(super) const ISOLATION: Oracle =
    Oracle { name: "isolation", check: |evidence, _| async move { Ok(check(evidence)) }.boxed_local() };

fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    // Ids that only answers to the business itself may contain.
    let names: Vec<Vec<&str>> = evidence
        .world
        .tenants
        .iter()
        .map(|tenant| {
            let flyers = tenant.flyers.as_deref();
            let Tenant { id, held, once, free, given, pool, made, .. } = tenant;
            let names = [id, held, once, free, given, pool, made].map(String::as_str);
            names.into_iter().chain(flyers).collect()
        })
        .collect();
    for entry in evidence.history {
        let Some(answer) = &entry.answer else { continue };
        if entry.ask.about.is_foreign {
            verdict.check(!answer.is_success(), || {
                format!("a request for foreign data succeeded: {}", entry.description())
            });
        } else if answer.is_success() {
            let body = answer.body.to_string();
            let foreign = names[1 - entry.ask.caller.tenant()].iter().find(|name| body.contains(**name));
            verdict.check(foreign.is_none(), || {
                format!("the answer contains {foreign:?} of another business: {}", entry.description())
            });
        }
    }
    verdict
}
