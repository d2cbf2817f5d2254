//! A request is stored exactly as sent, or rejected: repeated fields, numbers that would be rounded, U+0000.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, Server, document, operations, resolved};

/// Sends JSON exactly as given.
async fn send(server: &Server, method: Method, path: &str, body: &str) -> Reply {
    let request = server.admin().request(method, path).header("Content-Type", "application/json");
    Reply::to(request.body(body.to_owned())).await
}

async fn post(server: &Server, path: &str, body: &str) -> Reply {
    send(server, Method::POST, path, body).await
}

/// The faults of a 422.
#[track_caller]
fn faults(reply: Reply) -> Vec<(String, String)> {
    let problem = reply.expect(422);
    assert_eq!(problem["code"], "invalid", "{problem}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let errors = problem["errors"].as_array().into_iter().flatten();
    errors.map(|error| (text(&error["field"]), text(&error["message"]))).collect()
}

/// The fields that a 422 names.
#[track_caller]
fn fields(reply: Reply) -> Vec<String> {
    faults(reply).into_iter().map(|(field, _)| field).collect()
}

/// A path of an object that does not exist: the body is checked before the object is looked up.
fn nowhere(template: &str) -> String {
    let path = template.replace("{id}", "01890000-0000-7000-8000-000000000000");
    path.replace("{code}", "ABC-1")
        .replace("{userId}", "ann")
        .replace("{bookId}", "01890000-0000-7000-8000-000000000000")
}

/// Method, path and field names of each operation with a JSON body.
fn bodies() -> Vec<(Method, String, Vec<String>)> {
    let document = document();
    let mut bodies = Vec::new();
    for (path, method, operation) in operations(&document) {
        let Some(body) = operation["requestBody"]["content"].get("application/json") else { continue };
        let schema = resolved(&document, &body["schema"]);
        let mut properties: Vec<_> =
            schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        for part in ["allOf", "anyOf", "oneOf"] {
            for part in schema[part].as_array().into_iter().flatten() {
                let part = resolved(&document, part);
                properties.extend(
                    part["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()),
                );
            }
        }
        assert!(!properties.is_empty(), "the body of {method} {path} has no fields: {schema}");
        let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
        bodies.push((method, nowhere(path), properties));
    }
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_given_twice_is_422_in_every_operation_that_takes_json() {
    let server = Server::start().await;
    let bodies = bodies();
    assert!(bodies.len() > 12, "only {} operations have a JSON body", bodies.len());
    for (method, path, names) in bodies {
        for name in names {
            let body = format!(r#"{{"{name}": null, "{name}": null}}"#);
            let found = faults(send(&server, method.clone(), &path, &body).await);
            let expected = (name.clone(), "must be given only once".to_owned());
            assert!(found.contains(&expected), "{method} {path} {name}: {found:?}");
        }
        let body = r#"{"surprise": {"a": [{"b": 1, "\u0062": 2}]}}"#;
        let found = fields(send(&server, method.clone(), &path, body).await);
        assert!(found.contains(&"surprise.a.0.b".to_owned()), "{method} {path}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_field_is_refused_with_the_nearest_one_there_is() {
    let server = Server::start().await;
    let body = r#"{"name": "B", "max_codes_per_user": 1, "discount": {"type": "PERCENT", "Value": 1, "value": 1}, "zzz": 1}"#;
    let found = faults(post(&server, "coupon-books", body).await);
    let message = |field: &str| {
        let fault = found.iter().find(|(name, _)| name == field);
        fault.unwrap_or_else(|| panic!("no {field} in {found:?}")).1.clone()
    };
    assert!(
        message("max_codes_per_user").starts_with("is not known; did you mean maxCodesPerUser? known are: ")
    );
    assert_eq!(
        message("discount.Value"),
        "is not known; did you mean value? known are: currency, maxDiscount, minAmount, type, value"
    );
    assert!(message("zzz").starts_with("is not known; known are: businessId, "));
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_of_metadata_and_discounts_are_kept_or_refused_and_never_rounded() {
    let server = Server::start().await;
    for number in
        ["0.1234567890123456789", "12345678901234567890123", "18446744073709551616", "1e400", "-1e-400"]
    {
        let book = |metadata: &str| format!(r#"{{"name": "B", "metadata": {metadata}}}"#);
        let deep = post(&server, "coupon-books", &book(&format!(r#"{{"a": [1, {{"b": {number}}}]}}"#))).await;
        assert_eq!(fields(deep), ["metadata.a.1.b"], "{number}");
        let redeem = format!(r#"{{"userId": "ann", "metadata": {{"till": {number}}}}}"#);
        let found = faults(post(&server, "coupons/ABC-1/redeem", &redeem).await);
        assert_eq!(found[0].0, "metadata.till", "{number}");
        assert!(found[0].1.starts_with("has more digits than can be stored exactly: "), "{found:?}");
        let discount = format!(
            r#"{{"name": "B", "discount": {{"type": "FIXED", "value": {number}, "currency": "EUR"}}}}"#
        );
        assert_eq!(fields(post(&server, "coupon-books", &discount).await), ["discount.value"], "{number}");
    }
    // Exact as a JSON integer, but not as an `f64`.
    let discount =
        r#"{"name": "B", "discount": {"type": "FIXED", "value": 9007199254740993, "currency": "EUR"}}"#;
    assert_eq!(fields(post(&server, "coupon-books", discount).await), ["discount.value"]);
    let quantity =
        r#"{"couponBookId": "01890000-0000-7000-8000-000000000000", "quantity": 5.00000000000000000001}"#;
    assert_eq!(fields(post(&server, "coupon-codes/generate", quantity).await), ["quantity"]);
    let ttl = r#"{"userId": "ann", "ttlSeconds": 60.00000000000000000001}"#;
    assert_eq!(fields(post(&server, "coupons/ABC-1/lock", ttl).await), ["ttlSeconds"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_at_the_edges_and_numbers_written_in_other_ways_are_read_back_the_same() {
    let server = Server::start().await;
    let numbers = r#"{"huge": 1e308, "most": 1.7976931348623157e308, "least": 5e-324, "normal": 2.2250738585072014e-308,
        "unsigned": 18446744073709551615, "signed": -9223372036854775808, "zeros": 1.10, "exponent": 1e2, "whole": 5.0,
        "zero": -0, "twenty": 100000000000000000000, "third": 0.30000000000000004, "odd": 9007199254740993}"#;
    let body = format!(
        r#"{{"name": "B", "metadata": {numbers}, "discount": {{"type": "PERCENT", "value": 1.10}}}}"#
    );
    let made = post(&server, "coupon-books", &body).await.expect(201);
    let book = server
        .admin()
        .get(&format!("coupon-books/{}", made["id"].as_str().expect("an id")))
        .await
        .expect(200);
    let given: Value = serde_json::from_str(numbers).expect("JSON");
    for (name, number) in given.as_object().expect("an object") {
        for read in [&made, &book] {
            let read = &read["metadata"][name];
            let is_same = match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => read.as_u64() == Some(number),
                (_, Some(number)) => read.as_i64() == Some(number),
                _ => read.as_f64() == number.as_f64(),
            };
            assert!(is_same, "{name}: {number} became {read}");
        }
    }
    assert_eq!(book["discount"]["value"], json!(1.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backslash_is_no_zero_and_a_zero_is_refused_at_any_depth() {
    let server = Server::start().await;
    let text = r#"{"path": "C:\\u0000", "\\u0000": ["\\\\u0000"]}"#;
    let given: Value = serde_json::from_str(text).expect("JSON");
    let made = post(&server, "coupon-books", &format!(r#"{{"name": "B \\u0000", "metadata": {text}}}"#))
        .await
        .expect(201);
    assert_eq!((&made["metadata"], &made["name"]), (&given, &json!("B \\u0000")));
    let read = server
        .admin()
        .get(&format!("coupon-books/{}", made["id"].as_str().expect("an id")))
        .await
        .expect(200);
    assert_eq!(read["metadata"], given);

    let book = server.book(json!({})).await;
    server.plant(&book, &["ZERO-1"]).await;
    server.give("ZERO-1", "ann").await;
    let redeem = |metadata: &str| format!(r#"{{"userId": "ann", "metadata": {metadata}}}"#);
    for (metadata, field) in [
        (r#"{"a": "\u0000"}"#, "metadata.a"),
        (r#"{"a": [{"b": "x\u0000y"}]}"#, "metadata.a.0.b"),
        (r#"{"a": {"b\u0000": 1}}"#, "metadata.a.b\0"),
        (r#"{"a": "\\\u0000"}"#, "metadata.a"),
    ] {
        assert_eq!(fields(post(&server, "coupons/ZERO-1/redeem", &redeem(metadata)).await), [field]);
        let body = format!(r#"{{"name": "B", "metadata": {metadata}}}"#);
        assert_eq!(fields(post(&server, "coupon-books", &body).await), [field]);
        let change = format!(r#"{{"metadata": {metadata}}}"#);
        assert_eq!(
            fields(send(&server, Method::PATCH, &format!("coupon-books/{book}"), &change).await),
            [field]
        );
    }
    post(&server, "coupons/ZERO-1/redeem", &redeem(text)).await.expect(200);
    let stored: Value = sqlx::query_scalar("select metadata from redemption")
        .fetch_one(server.database.pool())
        .await
        .expect("a row");
    assert_eq!(stored, given);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zero_in_any_field_is_422_under_its_name() {
    let server = Server::start().await;
    for (method, path, names) in bodies() {
        for name in names {
            let body = format!(r#"{{"{name}": "a\u0000b"}}"#);
            let found = fields(send(&server, method.clone(), &path, &body).await);
            assert!(found.contains(&name), "{method} {path} {name}: {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zero_in_a_path_or_query_is_404_or_422() {
    let server = Server::start().await;
    let document = document();
    for (template, method, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().expect("a name");
            let path = match parameter["in"].as_str() {
                Some("path") => nowhere(&template.replace(&format!("{{{name}}}"), "AB%00C")),
                Some("query") => format!("{}?{name}=AB%00C", nowhere(template)),
                _ => continue,
            };
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).expect("a method");
            let request = server.admin().request(method, &path).header("Content-Type", "application/json");
            let reply = Reply::to(request.body(r#"{"userId": "ann"}"#)).await;
            assert!([404, 415, 422].contains(&reply.status), "{path}: {} {}", reply.status, reply.text);
        }
    }
}
