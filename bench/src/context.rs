//! The context of a run: the programs, the sizes, and a running installation.

use std::path::PathBuf;

use crate::installation::Installation;

/// A run of the bench.
pub(crate) struct Context {
    pub(crate) installation: Installation,
    /// The folder of the programs: `cuponera`, `cuponera-api`, `cuponera-worker`.
    pub(crate) programs: PathBuf,
    pub(crate) sizes: Sizes,
    pub(crate) rounds: usize,
}

/// The amount of work of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Calls of one side in a round of a hot row.
    pub(crate) calls: u64,
    /// Codes that are generated, imported and copied.
    pub(crate) codes: u64,
    /// Codes that are distributed.
    pub(crate) distributed: u64,
    /// Codes of the large book of `assign_flat` and `lists_flat`.
    pub(crate) large_book: u64,
    /// Deliveries of a round of `deliveries`.
    pub(crate) deliveries: u64,
    /// Seconds of open-loop load.
    pub(crate) open_loop_seconds: u64,
    /// Codes of the job during which the worker's memory is measured.
    pub(crate) memory_codes: u64,
    /// Bytes of the upload during which the API's memory is measured.
    pub(crate) memory_upload_bytes: u64,
}

impl Sizes {
    /// The sizes in the documents.
    pub(crate) const FULL: Self = Self {
        calls: 64_000,
        codes: 1_000_000,
        distributed: 250_000,
        large_book: 10_000_000,
        deliveries: 32_000,
        open_loop_seconds: 20,
        memory_codes: 10_000_000,
        memory_upload_bytes: 1 << 30,
    };
    /// Smaller sizes, for a quick check.
    pub(crate) const QUICK: Self = Self {
        calls: 16_000,
        codes: 200_000,
        distributed: 50_000,
        large_book: 1_000_000,
        deliveries: 8_000,
        open_loop_seconds: 5,
        memory_codes: 1_000_000,
        memory_upload_bytes: 100 << 20,
    };
}
