//! Tests that run the `cuponera` program as a process, with a private Postgres in a temporary data folder.

mod support;

mod admin;
mod archive;
mod audit;
mod client;
mod crash;
mod doctor;
mod fleet;
mod forget;
mod own_payments;
mod queue;
mod reconcile;
mod secrets;
mod start;
mod telemetry;
