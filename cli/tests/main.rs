//! The `cuponera` command as people run it: a process of its own, with its own Postgres in a data folder of its own.

mod support;

mod admin;
mod client;
mod crash;
mod doctor;
mod fleet;
mod queue;
mod secrets;
mod start;
mod telemetry;
