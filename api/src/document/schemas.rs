//! Completes the schemas with what types cannot express: enum values, null, closed objects. Converts them to the form of
//! OpenAPI 3.1 (JSON Schema 2020-12).

use std::collections::BTreeSet;

use cuponera_domain::admin_event;
use cuponera_domain::book::{BookStatus, CodeKind};
use cuponera_domain::coupon::state::{ACTIONS, CouponStatus};
use cuponera_domain::distribution::{Mode, OnShortage};
use cuponera_domain::export::ExportKind;
use cuponera_domain::job::{JobKind, JobStatus};
use cuponera_domain::principal::MAX_USER_ID_BYTES;
use cuponera_domain::statistics::Interval;
use cuponera_domain::webhook::DisabledReason;
use cuponera_domain::webhook::delivery::DeliveryStatus;
use cuponera_domain::webhook::event_type::{ALL_EVENTS, EventType};
use serde_json::{Map, Value, json};

use crate::http::body::integer;

/// Text as bodies may contain it: no control characters except line feed and tab.
const PLAIN_TEXT: &str = r"^[^\x00-\x08\x0B-\x1F\x7F-\x9F]*$";

/// Fields that are always present and may be null.
const NULL_OR: &[(&str, &[&str])] = &[
    ("Audit", &["sealedThrough"]),
    ("CouponBook", &["description", "maxCodesPerUser", "startsAt", "expiresAt", "codeValidDays", "discount"]),
    ("Progress", &["total", "percent", "ratePerSecond", "etaSeconds"]),
    ("Rates", &["assignedOfGenerated", "redeemedOfAssigned", "lockToRedeem"]),
    ("Statistics", &["topHoldersAsOf"]),
    ("TimeToRedeem", &["medianSeconds", "p90Seconds"]),
];

/// Fields that only some callers get, and that may then be null.
const NULL_OR_ABSENT: &[(&str, &[&str])] = &[("CouponBook", &["totalCodesExpected", "metadata"])];

/// Fields of requests that may be absent but not null.
const NEVER_NULL: &[(&str, &[&str])] = &[
    ("BookChange", &["status", "name", "codeKind", "maxRedeemsPerUser", "lockTtlSeconds", "requireLock"]),
    ("CodeChange", &["suspended"]),
    ("PoolChange", &["name"]),
    ("WebhookChange", &["url", "eventTypes", "perCode", "enabled"]),
];

/// Fields that hold any object.
const OBJECTS: &[(&str, &str)] = &[
    ("AdminEvent", "after"),
    ("AdminEvent", "before"),
    ("BookChange", "metadata"),
    ("Code", "metadata"),
    ("Coupon", "metadata"),
    ("CouponBook", "metadata"),
    ("Job", "result"),
    ("NewBook", "metadata"),
    ("NewCode", "metadata"),
    ("PastRedemption", "metadata"),
    ("RedeemRequest", "metadata"),
    ("WebhookDelivery", "request"),
];

/// A schema, a field, and the pattern or format of its text.
const TEXTS: &[(&str, &str, &str, &str)] = &[
    ("BookChange", "name", "pattern", BLANK_IS_NOTHING),
    ("BookVoid", "reason", "pattern", BLANK_IS_NOTHING),
    ("CloneRequest", "name", "pattern", BLANK_IS_NOTHING),
    ("Generation", "pattern", "pattern", CODE_PATTERN),
    ("LockRequest", "userId", "pattern", BLANK_IS_NOTHING),
    ("NamedAssignment", "userId", "pattern", BLANK_IS_NOTHING),
    ("NewBook", "name", "pattern", BLANK_IS_NOTHING),
    ("NewCode", "code", "pattern", "^[A-Za-z0-9_-]{3,64}$"),
    ("NewExport", "delimiter", "pattern", "^(,|;|tab|\\|)$"),
    ("NewExport", "linkTemplate", "pattern", LINK_TEMPLATE),
    ("NewKey", "name", "pattern", ONE_LINE),
    ("NewPool", "name", "pattern", BLANK_IS_NOTHING),
    ("PoolChange", "name", "pattern", BLANK_IS_NOTHING),
    ("NewUser", "email", "format", "email"),
    ("NewUser", "userId", "pattern", BLANK_IS_NOTHING),
    ("RandomAssignment", "recipientKey", "pattern", BLANK_IS_NOTHING),
    ("RandomAssignment", "userId", "pattern", BLANK_IS_NOTHING),
    ("RedeemRequest", "userId", "pattern", BLANK_IS_NOTHING),
    ("UndoRequest", "reason", "pattern", BLANK_IS_NOTHING),
    ("UndoRequest", "userId", "pattern", BLANK_IS_NOTHING),
    ("UnlockRequest", "userId", "pattern", BLANK_IS_NOTHING),
    ("ValidateRequest", "userId", "pattern", BLANK_IS_NOTHING),
    ("VoidFilter", "prefix", "pattern", BLANK_IS_NOTHING),
    ("VoidRequest", "reason", "pattern", BLANK_IS_NOTHING),
    ("NewWebhook", "url", "format", "uri"),
    ("WebhookChange", "url", "format", "uri"),
];

/// Password fields, with their minimum and maximum number of characters.
const PASSWORDS: &[(&str, &str, (u32, u32))] = &[
    ("Login", "password", (0, 200)),
    ("NewUser", "password", (10, 200)),
    ("PasswordChange", "currentPassword", (0, 200)),
    ("PasswordChange", "newPassword", (10, 200)),
    ("UserChange", "password", (10, 200)),
];

/// Splits a discount into its two kinds: a share of at most 100 percent, or an amount in a currency.
fn split_discount(schema: &mut Value) {
    let Value::Object(mut percent) = std::mem::take(schema) else { return };
    let about = percent.remove("description").unwrap_or_default();
    percent.remove("title");
    let (mut percent, mut fixed) = (json!(percent), json!(percent));
    percent["properties"]["type"] = json!({"const": "PERCENT", "description": "A share of the price."});
    percent["properties"]["value"]["maximum"] = json!(100);
    fixed["properties"]["type"] = json!({"const": "FIXED", "description": "An amount."});
    fixed["properties"]["currency"]["type"] = json!("string");
    fixed["required"] = json!(["type", "value", "currency"]);
    *schema = json!({"title": "Discount", "description": about, "oneOf": [percent, fixed]});
}

/// A bulk void has exactly one of its three selections.
fn require_one_selection(schema: &mut Value) {
    let only =
        |(field, form): (&str, &str)| json!({"required": [field], "properties": {field: {"type": form}}});
    let selections = [("codes", "array"), ("jobId", "string"), ("filter", "object")];
    schema["oneOf"] = selections.into_iter().map(only).collect();
}

/// A schema, a field, and the values that it may have.
fn words() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let book = || BookStatus::ALL.map(BookStatus::as_str).to_vec();
    let coupon = || CouponStatus::ALL.map(CouponStatus::as_str).to_vec();
    let held = || coupon().into_iter().filter(|word| *word != "AVAILABLE").collect();
    let kind = || CodeKind::ALL.map(CodeKind::as_str).to_vec();
    let connection = || vec!["connected", "disconnected", "disabled"];
    vec![
        ("AdminEvent", "action", admin_event::ACTIONS.to_vec()),
        ("AdminEvent", "subject", admin_event::SUBJECTS.to_vec()),
        ("ApiKey", "role", vec!["ADMIN", "SERVICE"]),
        ("Assignment", "status", held()),
        ("BookChange", "codeKind", kind()),
        ("BookChange", "status", book()),
        ("Code", "status", coupon()),
        ("Coupon", "kind", kind()),
        ("Coupon", "status", coupon()),
        ("CouponBook", "codeKind", kind()),
        ("CouponBook", "status", book()),
        ("CouponEvent", "action", ACTIONS.to_vec()),
        ("CouponEvent", "fromStatus", coupon()),
        ("CouponEvent", "toStatus", coupon()),
        ("Distribution", "mode", Mode::ALL.map(Mode::as_str).to_vec()),
        ("Distribution", "onShortage", OnShortage::ALL.map(OnShortage::as_str).to_vec()),
        ("Distribution", "status", job_statuses()),
        ("NewBook", "codeKind", kind()),
        ("NewExport", "kind", ExportKind::ALL.map(ExportKind::as_str).to_vec()),
        ("NewExport", "status", coupon()),
        ("NewDistribution", "mode", Mode::ALL.map(Mode::as_str).to_vec()),
        ("NewDistribution", "onShortage", OnShortage::ALL.map(OnShortage::as_str).to_vec()),
        ("Health", "status", vec!["ok", "degraded"]),
        ("Health", "database", connection()),
        ("Health", "redis", connection()),
        ("Health", "queue", connection()),
        ("HealthWord", "status", vec!["ok", "unavailable"]),
        ("Job", "kind", job_kinds()),
        ("Job", "status", job_statuses()),
        ("Lock", "status", vec!["LOCKED"]),
        ("Me", "role", vec!["ADMIN", "SERVICE", "USER"]),
        ("Membership", "role", vec!["ADMIN", "USER"]),
        ("NewKey", "role", vec!["SERVICE", "ADMIN"]),
        ("NewUser", "role", vec!["ADMIN", "USER"]),
        ("Problem", "type", vec!["about:blank"]),
        ("Redemption", "status", vec!["AVAILABLE", "ASSIGNED", "REDEEMED"]),
        ("Revocation", "status", vec!["AVAILABLE"]),
        ("Rollback", "status", vec!["AVAILABLE", "ASSIGNED", "LOCKED", "VOID"]),
        ("Session", "tokenType", vec!["Bearer"]),
        ("Statistics", "interval", Interval::ALL.map(Interval::as_str).to_vec()),
        ("Unlock", "status", vec!["ASSIGNED", "AVAILABLE"]),
        ("User", "role", vec!["ADMIN", "USER"]),
        ("UserChange", "role", vec!["ADMIN", "USER"]),
        ("VoidFilter", "status", vec!["AVAILABLE", "ASSIGNED", "LOCKED"]),
        ("VoidedCode", "status", vec!["VOID"]),
        ("LastDelivery", "status", DeliveryStatus::ALL.map(DeliveryStatus::as_str).to_vec()),
        ("Webhook", "disabledReason", DisabledReason::ALL.map(DisabledReason::as_str).to_vec()),
        ("WebhookDelivery", "status", DeliveryStatus::ALL.map(DeliveryStatus::as_str).to_vec()),
    ]
}

fn job_kinds() -> Vec<&'static str> {
    JobKind::ALL.map(JobKind::as_str).to_vec()
}

fn job_statuses() -> Vec<&'static str> {
    JobStatus::ALL.map(JobStatus::as_str).to_vec()
}

/// The constraints of a parameter: those of all parameters with the name, or of this operation's.
pub(super) fn of_parameter(operation: &str, name: &str) -> Option<Value> {
    let words = |words: &[&str]| Some(json!({"enum": words}));
    match (operation, name) {
        (_, "limit") => Some(json!({"minimum": 1, "maximum": 500, "default": 50})),
        (_, "Idempotency-Key") => Some(json!({"minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"})),
        (_, "code") => Some(json!({"pattern": "^[A-Za-z0-9_-]{3,64}$"})),
        (_, "userId") => Some(json!({"minLength": 1, "maxLength": 128, "pattern": BLANK_IS_NOTHING})),
        ("findCoupons", "q") => Some(json!({"pattern": BLANK_IS_NOTHING})),
        (_, "q" | "prefix" | "cursor" | "actor" | "timeZone" | "subjectId") => {
            Some(json!({"pattern": r"^[^\x00]*$"}))
        }
        (_, "pattern") => Some(json!({"pattern": CODE_PATTERN, "maxLength": 192})),
        (_, "interval") => words(&Interval::ALL.map(Interval::as_str)),
        ("listEvents", "action") => words(&admin_event::actions_of_all_events().collect::<Vec<_>>()),
        ("listEvents", "kind") => words(&["COUPON", "ADMIN"]),
        ("listEvents", "subject") => words(&admin_event::SUBJECTS),
        ("listJobs", "status") => words(&job_statuses()),
        ("listJobs", "kind") => words(&job_kinds()),
        ("listCouponBooks", "status") => words(&BookStatus::ALL.map(BookStatus::as_str)),
        ("exportCodes", "delimiter") => words(&[",", ";", "tab", "|"]),
        ("exportCodes", "linkTemplate") => Some(json!({"pattern": LINK_TEMPLATE, "maxLength": 1000})),
        ("exportCodes" | "listCodes" | "listUserCoupons", "status") => {
            words(&CouponStatus::ALL.map(CouponStatus::as_str))
        }
        _ => None,
    }
}

/// Text with at least one visible character.
const BLANK_IS_NOTHING: &str =
    r"^[^\x00-\x08\x0B-\x1F\x7F-\x9F]*[^\x00-\x1F\x7F-\x9F\s][^\x00-\x08\x0B-\x1F\x7F-\x9F]*$";

/// The same, on one line.
const ONE_LINE: &str = r"^[^\x00-\x1F\x7F-\x9F]*[^\x00-\x1F\x7F-\x9F\s][^\x00-\x1F\x7F-\x9F]*$";

/// A URL with the place of a code.
const LINK_TEMPLATE: &str = r"^https?://[!-~]*\{code\}[!-~]*$";

/// Literal text and groups of `X`, `9` and `A` in braces.
const CODE_PATTERN: &str = r"^([A-Za-z0-9_-]|\{[XxAa9]+\})+$";

/// Completes all schemas. `requests` has the names of the schemas of request bodies. Returns the fields that do not exist.
pub(super) fn complete(schemas: &mut Map<String, Value>, requests: &BTreeSet<String>) -> Vec<String> {
    let mut missing = Vec::new();
    let mut change = |schema: &str, field: &str, change: &dyn Fn(&mut Value)| {
        let properties = schemas.get_mut(schema).and_then(|schema| schema.get_mut("properties"));
        match properties.and_then(|properties| properties.get_mut(field)) {
            Some(field) => change(field),
            None => missing.push(format!("{schema}.{field}")),
        }
    };
    for (schema, field, words) in words() {
        change(schema, field, &|field| field["enum"] = json!(words));
    }
    for (schema, field) in OBJECTS {
        change(schema, field, &|field| field["type"] = json!("object"));
    }
    let types: Vec<_> = EventType::ALL.into_iter().map(EventType::as_str).chain([ALL_EVENTS]).collect();
    for schema in ["NewWebhook", "WebhookChange"] {
        change(schema, "eventTypes", &|field| field["items"]["enum"] = json!(types));
    }
    for (schema, field, keyword, value) in TEXTS {
        change(schema, field, &|field| field[*keyword] = json!(value));
        if *field == "userId" {
            change(schema, field, &|field| field["maxLength"] = json!(MAX_USER_ID_BYTES));
        }
    }
    for (schema, field, length) in PASSWORDS {
        change(schema, field, &|field| {
            field["format"] = json!("password");
            field["writeOnly"] = json!(true);
            field["minLength"] = json!(length.0);
            field["maxLength"] = json!(length.1);
        });
    }
    change("NewUser", "email", &|field| {
        field["minLength"] = json!(5);
        field["maxLength"] = json!(254);
    });
    for (schema, fields) in NULL_OR.iter().chain(NULL_OR_ABSENT) {
        for field in *fields {
            change(schema, field, &or_null);
        }
    }
    for (schema, fields) in NULL_OR {
        require(schemas, schema, fields);
    }
    complete_lists(schemas);
    for name in requests {
        if let Some(schema) = schemas.get_mut(name) {
            complete_request(name, schema);
        }
    }
    // The two kinds of discount contain its values.
    schemas.remove("DiscountKind");
    schemas.get_mut("Discount").into_iter().for_each(split_discount);
    schemas.get_mut("VoidRequest").into_iter().for_each(require_one_selection);
    missing
}

/// A list always has `nextCursor`; it is null on the last page.
fn complete_lists(schemas: &mut Map<String, Value>) {
    for (_, schema) in schemas.iter_mut().filter(|(name, _)| name.starts_with("List_")) {
        if let Some(cursor) = schema.pointer_mut("/properties/nextCursor") {
            or_null(cursor);
        }
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.push(json!("nextCursor"));
        }
    }
}

fn require(schemas: &mut Map<String, Value>, schema: &str, fields: &[&str]) {
    if let Some(required) =
        schemas.get_mut(schema).and_then(|schema| schema.get_mut("required")?.as_array_mut())
    {
        required.extend(fields.iter().map(|field| json!(field)));
    }
}

/// The schema of a form is closed, like those of other bodies.
pub(super) fn close(schema: &mut Value) {
    if schema["type"] == "object" {
        schema["additionalProperties"] = json!(false);
    }
}

/// The schema of a body is closed, its text has no control characters, and optional fields may be null.
fn complete_request(name: &str, schema: &mut Value) {
    schema["additionalProperties"] = json!(false);
    let required: BTreeSet<String> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let never = NEVER_NULL.iter().find(|(schema, _)| *schema == name).map_or(&[][..], |(_, fields)| *fields);
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for (field, schema) in properties {
        let is_free_text = schema["type"] == "string"
            && schema.get("format").is_none_or(|format| format == "password")
            && schema.get("pattern").is_none()
            && schema.get("enum").is_none();
        if is_free_text {
            schema["pattern"] = json!(PLAIN_TEXT);
        }
        if schema["type"] == "integer" {
            limit_integer(schema);
        }
        if !required.contains(field) && !never.contains(&field.as_str()) {
            or_null(schema);
        }
    }
}

/// Writes the range of an integer format as limits, for tools that do not know the format.
fn limit_integer(schema: &mut Value) {
    let (min, max) = match schema["format"].as_str() {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    for (keyword, limit) in [("minimum", min), ("maximum", max)] {
        if schema.get(keyword).is_none() {
            schema[keyword] = json!(limit);
        }
    }
}

/// Allows null in addition.
fn or_null(schema: &mut Value) {
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    match schema.get("type").cloned() {
        Some(Value::String(kind)) => schema["type"] = json!([kind, "null"]),
        Some(_) => {}
        None => {
            let mut either = std::mem::take(schema);
            let description = either.as_object_mut().and_then(|schema| schema.remove("description"));
            *schema = json!({"anyOf": [either, {"type": "null"}]});
            if let Some(description) = description {
                schema["description"] = description;
            }
        }
    }
}

/// Rewrites what OpenAPI 3.0 expresses differently from 3.1 (an exclusive limit is a number, not a flag), and integral limits
/// as integers.
pub(super) fn to_json_schema(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (flag, limit) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
                match map.get(flag) {
                    Some(Value::Bool(true)) => {
                        let limit = map.remove(limit).unwrap_or_default();
                        map.insert(flag.to_owned(), limit);
                    }
                    Some(Value::Bool(false)) => {
                        map.remove(flag);
                    }
                    _ => {}
                }
            }
            for limit in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
                if let Some(limit) = map.get_mut(limit)
                    && let Some(whole) = integer(limit)
                {
                    *limit = json!(whole);
                }
            }
            map.values_mut().for_each(to_json_schema);
        }
        Value::Array(items) => items.iter_mut().for_each(to_json_schema),
        _ => {}
    }
}
