//! The rows in the order of measurement. Rows of one kind share a file.

mod bounds;
mod bulk;
mod deliveries;
mod distribute;
mod export;
mod flat;
mod hot;
mod latency;
mod lists;
mod poll;
mod seal;

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
    distribute::DISTRIBUTE,
    export::EXPORT,
    flat::ASSIGN_FLAT,
    lists::LISTS_FLAT,
    seal::SEAL,
    deliveries::DELIVERIES,
    bounds::MEMORY_WORKER,
    bounds::MEMORY_UPLOAD,
    bounds::START,
];
