//! The OpenAPI document: the part that poem-openapi derives from the types, completed with examples, the rejections
//! of each operation, headers and the order of tags. The page at `/docs`, the error page and the `.http` file are
//! generated from the completed document.

mod answers;
mod catalog;
mod error_page;
pub(crate) mod examples;
mod http_file;
mod operation;
mod page;
mod parameters;
mod permission_page;
mod schemas;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

pub(crate) use error_page::error_page;
pub(crate) use http_file::http_file;
pub(crate) use operation::Operation;
pub(crate) use page::page;
pub(crate) use permission_page::permission_page;

use crate::http::problem::CONTENT_TYPE;
use answers::{describe, headers, problem, problem_examples, rejection};
use catalog::Kind;
use operation::Shape;

/// The tags, in reading order.
const READING_ORDER: [&str; 17] = [
    "Auth",
    "Coupon books",
    "Coupon codes",
    "Assignments",
    "Coupons",
    "Redemptions",
    "Events",
    "Statistics",
    "User pools",
    "Distributions",
    "Exports",
    "Jobs",
    "Webhooks",
    "Users",
    "API keys",
    "Audit",
    "Health",
];

/// A response with more kinds of problem than this is not shared between operations.
const MAX_SHARED_KINDS: usize = 3;

/// The completed document, and the mismatches between the code and the tables of this module.
pub(crate) struct Document {
    pub(crate) value: Value,
    /// Operations without a row, rows without an operation, unknown fields, and codes outside the catalog.
    pub(crate) faults: Vec<String>,
}

pub(crate) static DOCUMENT: LazyLock<Document> = LazyLock::new(|| {
    let made = serde_json::from_str(&crate::routes::service().spec()).unwrap_or_default();
    Completion { document: made, shared: Map::new(), faults: Vec::new() }.complete()
});

struct Completion {
    document: Value,
    /// Rejections that several operations share, by name.
    shared: Map<String, Value>,
    faults: Vec<String>,
}

impl Completion {
    fn complete(mut self) -> Document {
        self.document["openapi"] = json!("3.1.0");
        self.order_tags();
        schemas::to_json_schema(&mut self.document);
        self.complete_schemas();
        self.complete_operations();
        self.document["components"]["responses"] = Value::Object(std::mem::take(&mut self.shared));
        self.document["components"]["headers"] = headers();
        self.document["components"]["examples"] = problem_examples();
        Document { value: self.document, faults: self.faults }
    }

    fn order_tags(&mut self) {
        let Some(tags) = self.document["tags"].as_array_mut() else { return };
        tags.sort_by_key(|tag| READING_ORDER.iter().position(|name| tag["name"] == *name));
        let strangers = tags.iter().filter(|tag| !READING_ORDER.iter().any(|name| tag["name"] == *name));
        self.faults
            .extend(strangers.map(|tag| format!("the tag {} is missing in READING_ORDER", tag["name"])));
    }

    fn complete_schemas(&mut self) {
        let mut requests = BTreeSet::new();
        for (_, _, operation) in operations_of(&self.document) {
            collect_references(&operation["requestBody"], &self.document, &mut requests);
        }
        if let Some(schemas) = self.document["components"]["schemas"].as_object_mut() {
            let missing = schemas::complete(schemas, &requests);
            self.faults.extend(missing.into_iter().map(|field| format!("unknown field {field}")));
        }
    }

    fn complete_operations(&mut self) {
        let mut rows: BTreeMap<_, _> =
            crate::routes::documentation().into_iter().map(|row| (row.id, row)).collect();
        let mut paths = std::mem::take(&mut self.document["paths"]);
        for (path, item) in paths.as_object_mut().into_iter().flatten() {
            for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
                let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
                match rows.remove(id.as_str()) {
                    Some(row) => self.complete_operation(path, operation, &row),
                    None => self.faults.push(format!("{id} has no row in a doc.rs of api/src/routes")),
                }
            }
        }
        self.document["paths"] = paths;
        self.faults.extend(rows.into_keys().map(|id| format!("unknown operation {id}")));
    }

    fn complete_operation(&mut self, path: &str, operation: &mut Value, row: &Operation) {
        let shape = shape_of(path, operation);
        if !shape.has_credentials {
            operation["security"] = json!([]);
        }
        let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            parameters::complete(path, row.id, parameter);
        }
        self.complete_body(operation, row);
        let mut answers = self.good_answers(operation, row);
        for (status, kinds) in self.kinds_by_status(row, shape) {
            match answers.get_mut(&status.to_string()) {
                // The row describes a response of its own under this status.
                Some(answer) => answer["content"][CONTENT_TYPE] = problem(status, &kinds),
                None => {
                    answers.insert(status.to_string(), self.rejection(status, &kinds));
                }
            }
        }
        operation["responses"] = Value::Object(answers);
    }

    /// Adds the examples of the body. Each media type must have an example, and each example a media type.
    fn complete_body(&mut self, operation: &mut Value, row: &Operation) {
        let mut content = Map::new();
        let made = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut);
        let made = made.unwrap_or(&mut content);
        for (media, example) in &row.bodies {
            match made.get_mut(*media) {
                Some(media) => media["example"] = example.clone(),
                None => self.faults.push(format!("{} does not accept {media}", row.id)),
            }
        }
        for media in made.values_mut() {
            schemas::close(&mut media["schema"]);
        }
        let lacking = made.iter().filter(|(_, media)| media.get("example").is_none());
        self.faults.extend(lacking.map(|(media, _)| format!("{} has no example of {media}", row.id)));
    }

    /// The responses of the operation, described by its row. The type and the row must have the same statuses.
    fn good_answers(&mut self, operation: &mut Value, row: &Operation) -> Map<String, Value> {
        let mut made = operation["responses"].as_object().cloned().unwrap_or_default();
        // One entry stands for all problems: see `ApiResponse for Problem`.
        made.remove("default");
        let mut answers = Map::new();
        for answer in &row.answers {
            let status = answer.status.to_string();
            match made.remove(&status) {
                Some(mut response) => {
                    describe(&mut response, answer);
                    answers.insert(status, response);
                }
                None => self.faults.push(format!("{} does not return {status}", row.id)),
            }
        }
        self.faults
            .extend(made.keys().map(|status| format!("{} returns {status} without a description", row.id)));
        answers
    }

    /// A rejection. If it has few kinds, it is stored once and referenced.
    fn rejection(&mut self, status: u16, kinds: &[&Kind]) -> Value {
        if kinds.len() > MAX_SHARED_KINDS {
            return rejection(status, kinds);
        }
        let name = kinds.iter().map(|kind| kind.code).collect::<Vec<_>>().join(".");
        let reference = json!({"$ref": format!("#/components/responses/{name}")});
        self.shared.entry(name).or_insert_with(|| rejection(status, kinds));
        reference
    }

    fn kinds_by_status(&mut self, row: &Operation, shape: Shape) -> BTreeMap<u16, Vec<&'static Kind>> {
        let mut by_status: BTreeMap<u16, Vec<_>> = BTreeMap::new();
        for code in row.refusals(shape) {
            match catalog::find(code) {
                Some(kind) => by_status.entry(kind.status).or_default().push(kind),
                None => self.faults.push(format!("{}: code {code} is not in the catalog", row.id)),
            }
        }
        by_status
    }
}

fn shape_of(path: &str, operation: &Value) -> Shape {
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let has = |test: &dyn Fn(&Value) -> bool| parameters.iter().any(test);
    let body = &operation["requestBody"]["content"];
    Shape {
        is_under_api: path.starts_with("/api/v1/"),
        has_credentials: operation["security"].as_array().is_some_and(|ways| !ways.is_empty()),
        has_path_parameters: has(&|parameter| parameter["in"] == "path"),
        has_body: body.is_object(),
        has_json_body: body.get("application/json").is_some(),
        has_key: has(&|parameter| parameter["name"] == "Idempotency-Key"),
    }
}

/// The codes of all problems that an operation may return.
fn codes_of<'a>(document: &'a Value, operation: &'a Value) -> impl Iterator<Item = &'a str> {
    let responses = operation["responses"].as_object().into_iter().flat_map(Map::values);
    responses.flat_map(|response| {
        let shared =
            response["$ref"].as_str().and_then(|path| document.pointer(path.trim_start_matches('#')));
        let examples = &shared.unwrap_or(response)["content"][CONTENT_TYPE]["examples"];
        examples.as_object().into_iter().flat_map(Map::keys).map(String::as_str)
    })
}

/// All operations with their paths and methods.
fn operations_of(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().into_iter().flatten();
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

/// Collects the names of all schemas that a value refers to, directly or through other schemas.
fn collect_references(value: &Value, document: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) = map
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|path| path.strip_prefix("#/components/schemas/"))
                && names.insert(name.to_owned())
            {
                collect_references(&document["components"]["schemas"][name], document, names);
            }
            map.values().for_each(|value| collect_references(value, document, names));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, document, names)),
        _ => {}
    }
}
