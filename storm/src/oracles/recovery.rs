//! All programs recovered: each fault ended by itself, and each API is ready.

use futures::FutureExt;

use super::{Oracle, Verdict};
use crate::installation::wait_until_ready;

pub(super) const RECOVERY: Oracle = Oracle {
    name: "recovery",
    check: |evidence, _| {
        async move {
            let mut verdict = Verdict { checks: 0, violations: evidence.unrecovered.to_vec() };
            let ready = wait_until_ready(&evidence.installation.apis).await;
            verdict.check(ready.is_ok(), || format!("{ready:?}"));
            for program in &evidence.installation.programs {
                let is_running = program.exclusive().await.pid().is_ok();
                verdict
                    .check(is_running, || format!("{} ended unexpectedly: {}", program.name, program.log()));
            }
            Ok(verdict)
        }
        .boxed_local()
    },
};
