//! The document of the operations on health: examples and rejections.

use serde_json::{Value, json};

use crate::document::Operation;
use crate::document::examples::NOW;

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("getHealth")
            .answers(200, "The database is connected.", report("ok", "connected"))
            .answers(503, "The database is disconnected.", report("degraded", "disconnected")),
        Operation::of("getLiveness").answers(200, "The process is running.", json!({"status": "ok"})),
        Operation::of("getReadiness")
            .answers(200, "The process can serve requests.", json!({"status": "ok"}))
            .answers(503, "The process cannot serve requests now.", json!({"status": "unavailable"})),
    ]
}

fn report(status: &str, database: &str) -> Value {
    json!({
        "status": status, "timestamp": NOW, "database": database, "redis": "disabled", "queue": database,
        "uptime": 86_400_000, "version": env!("CARGO_PKG_VERSION"),
    })
}
