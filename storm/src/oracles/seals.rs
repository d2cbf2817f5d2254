//! The seals over the event logs are valid under their key, and there are seals: the events of the storm's beginning are sealed.

use cuponera_testkit::seal_findings;
use futures::FutureExt;

use super::{Oracle, Verdict};

pub(super) const SEALS: Oracle = Oracle {
    name: "seals",
    check: |evidence, database| {
        async move {
            let (seals, violations) = seal_findings(database, &evidence.installation.audit_key()?).await;
            let mut verdict = Verdict { checks: usize::try_from(seals)?, violations };
            verdict.check(seals > 0, || "no events were sealed".to_owned());
            Ok(verdict)
        }
        .boxed_local()
    },
};
