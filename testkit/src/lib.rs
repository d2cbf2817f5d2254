//! Shared code of the tests: a database for each test, setup in a few lines, races, and invariants.
//!
//! Run tests with `make test`. It starts a private Postgres and sets `CUPONERA_TEST_DATABASE_URL`; any
//! other server works too.

mod address;
mod adversary;
mod bucket;
mod database;
mod dump;
mod emulator;
mod import_cases;
mod invariants;
mod programs;
mod race;
mod receiver;
mod redis;
mod rules;
mod server;
mod soak;
mod template;
mod work;
mod world;

pub use address::URL_VARIABLE;
pub use adversary::{Adversary, FaultConfig};
pub use bucket::TestBucket;
pub use database::TestDatabase;
pub use dump::Dump;
pub use emulator::{Emulator, TestQueue, free_address};
pub use import_cases::{Counts, Expected, ImportCase, import_cases, import_files};
pub use invariants::{assert_invariants, invariant_violations, seal_findings};
pub use programs::programs_beside;
pub use race::{eventually, race, waits_for};
pub use receiver::{Answer, Received, Receiver};
pub use redis::Redis;
pub use rules::{active, rules};
pub use soak::{bound, is_soak};
pub use work::{claim, codes_of, generate, generation_of, no_lines, read_as, work_generation};
pub use world::{CallExt, World, key};
