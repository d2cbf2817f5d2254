//! The rows in the order of measurement. Rows of one kind share a file.

mod bounds;
mod bulk;
mod flat;
mod hot;
mod latency;
mod poll;

use crate::row::Row;

pub(crate) const ROWS: &[Row] = &[
    hot::LOCK,
    hot::REDEEM,
    hot::ASSIGN_RANDOM,
    latency::P99,
    poll::POLL,
    bulk::GENERATE,
    bulk::IMPORT,
    bulk::IMPORT_HOLDERS,
    flat::ASSIGN_FLAT,
    bounds::MEMORY_WORKER,
    bounds::MEMORY_UPLOAD,
    bounds::START,
];
