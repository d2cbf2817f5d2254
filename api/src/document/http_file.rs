//! All operations as a `.http` file, from which editors can send requests: variables first, then each request with
//! the example of its body.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::parameters::variable;
use super::{DOCUMENT, operations_of};

const HEAD: &str =
    "# The operations of Cuponera, for the HTTP clients of editors (REST Client, Visual Studio, JetBrains).
# Log in first: operations for administrators use the access token, the others an API key (see `createApiKey`).
# This file is generated from the OpenAPI document by `make openapi`.

@host = http://127.0.0.1:8080
@email = admin@example.com
@password =
@accessToken =
@refreshToken =
@apiKey =
";

/// Tags of operations that need an access token; the other operations use an API key.
const FOR_PEOPLE: [&str; 5] = ["Auth", "Users", "API keys", "Webhooks", "Audit"];

pub(crate) fn http_file() -> String {
    let document = &DOCUMENT.value;
    let mut file = HEAD.to_owned();
    let variables = variables(document);
    for (name, example) in &variables {
        let _ = writeln!(file, "@{name} = {example}");
    }
    for tag in document["tags"].as_array().into_iter().flatten() {
        let of_tag = |operation: &Value| operation["tags"][0] == tag["name"];
        for (path, method, operation) in operations_of(document).into_iter().filter(|(_, _, it)| of_tag(it)) {
            write_request(&mut file, path, method, operation, &variables);
        }
    }
    file
}

/// The variables for parameters, with their initial values.
fn variables(document: &Value) -> BTreeMap<&'static str, &'static str> {
    operations_of(document)
        .into_iter()
        .flat_map(|(path, _, operation)| {
            parameters(operation).filter_map(move |parameter| variable(path, parameter["name"].as_str()?))
        })
        .collect()
}

fn parameters(operation: &Value) -> impl Iterator<Item = &Value> {
    operation["parameters"].as_array().into_iter().flatten()
}

fn write_request(
    file: &mut String,
    path: &str,
    method: &str,
    operation: &Value,
    variables: &BTreeMap<&str, &str>,
) {
    let text = |field: &str| operation[field].as_str().unwrap_or_default();
    let _ = write!(file, "\n### {}\n# @name {}\n", text("summary"), text("operationId"));
    let _ = writeln!(file, "{} {{{{host}}}}{}", method.to_uppercase(), target(path, operation));
    if operation["security"].as_array().is_some_and(|ways| !ways.is_empty()) {
        let for_people = FOR_PEOPLE.iter().any(|tag| operation["tags"][0] == *tag);
        file.push_str(if for_people {
            "Authorization: Bearer {{accessToken}}\n"
        } else {
            "X-API-Key: {{apiKey}}\n"
        });
    }
    if parameters(operation).any(|parameter| parameter["name"] == "Idempotency-Key") {
        file.push_str("Idempotency-Key: {{$guid}}\n");
    }
    let content = &operation["requestBody"]["content"];
    if let Some(example) = content["application/json"].get("example") {
        let body = serde_json::to_string_pretty(example).unwrap_or_default();
        let _ = write!(file, "Content-Type: application/json\n\n{}\n", with_variables(body, variables));
    } else if let Some(example) = content["text/csv"]["example"].as_str() {
        let _ = write!(file, "Content-Type: text/csv\n\n{}\n", example.trim_end());
    }
}

/// The path and its required query parameters, with variables for both. Uploads get all query parameters that have a
/// variable.
fn target(path: &str, operation: &Value) -> String {
    let mut target = path.to_owned();
    let mut query = Vec::new();
    for parameter in parameters(operation) {
        let name = parameter["name"].as_str().unwrap_or_default();
        let Some((variable, _)) = variable(path, name) else { continue };
        match parameter["in"].as_str() {
            Some("path") => target = target.replace(&format!("{{{name}}}"), &format!("{{{{{variable}}}}}")),
            Some("query") if parameter["required"] == true || path.ends_with("/upload") => {
                query.push(format!("{name}={{{{{variable}}}}}"));
            }
            _ => {}
        }
    }
    if query.is_empty() { target } else { format!("{target}?{}", query.join("&")) }
}

/// The body, with variables in place of their initial values and of passwords.
fn with_variables(body: String, variables: &BTreeMap<&str, &str>) -> String {
    let body = variables.iter().fold(body, |body, (name, example)| {
        body.replace(&format!("\"{example}\""), &format!("\"{{{{{name}}}}}\""))
    });
    body.replace("\"correct horse battery\"", "\"{{password}}\"")
        .replace("\"ana@example.com\"", "\"{{email}}\"")
        .replace("\"9f86d081884c7d65\"", "\"{{refreshToken}}\"")
}
