//! Completes parameters in the document: limits, an example, and the variable of the `.http` file.

use serde_json::{Value, json};

use super::{examples, schemas};

pub(super) fn complete(path: &str, operation: &str, parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    // poem-openapi writes these everywhere, with their default values.
    for default in ["deprecated", "explode"] {
        parameter.as_object_mut().map(|parameter| parameter.remove(default));
    }
    if let Some(limits) = schemas::of_parameter(operation, &name) {
        let limits = limits.as_object().cloned().unwrap_or_default();
        parameter["schema"].as_object_mut().into_iter().for_each(|schema| schema.extend(limits.clone()));
    }
    if let Some((_, example)) = variable(path, &name) {
        parameter["example"] = json!(example);
    }
}

/// The variable of the `.http` file for a parameter, and its initial value.
pub(super) fn variable(path: &str, parameter: &str) -> Option<(&'static str, &'static str)> {
    let of_id = || {
        [
            ("/user-pools/", "userPoolId", examples::POOL),
            ("/users/", "accountId", examples::ACCOUNT),
            ("/api-keys/", "apiKeyId", examples::API_KEY),
            ("/coupon-books/", "couponBookId", examples::BOOK),
            ("/jobs/", "jobId", examples::JOB),
            ("/redemptions/", "redemptionId", examples::REDEMPTION),
            ("/webhooks/", "webhookId", examples::WEBHOOK),
        ]
        .into_iter()
        .find(|(part, ..)| path.contains(part))
        .map(|(_, variable, example)| (variable, example))
    };
    match parameter {
        "id" => of_id(),
        "bookId" | "couponBookId" => Some(("couponBookId", examples::BOOK)),
        "poolId" => Some(("userPoolId", examples::POOL)),
        "jobId" => Some(("jobId", examples::JOB)),
        "deliveryId" => Some(("deliveryId", examples::DELIVERY)),
        "code" => Some(("code", examples::CODE)),
        "q" if path.ends_with("/coupons") => Some(("code", examples::CODE)),
        "userId" => Some(("userId", examples::USER)),
        _ => None,
    }
}
