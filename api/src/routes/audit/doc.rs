//! The document of the operation on the audit chain: example and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::NOW;

pub(in crate::routes) fn operations() -> Vec<Operation> {
    let state =
        json!({"sealedThrough": NOW, "lagSeconds": 0.0, "seals": 4711, "verifiedAt": NOW, "verified": true});
    vec![
        Operation::of("getAudit")
            .answers(200, "The state of the audit chain.", state)
            .refuses(&["forbidden"]),
    ]
}
