//! Shared code of the API's tests: a server, its clients, and checks of answers.

mod client;
mod contract;
mod raw;
mod server;
mod setting;

pub(crate) use client::{Client, Reply, Unchecked};
pub(crate) use contract::{document, operations, resolved, validator};
pub(crate) use raw::{ask, connect_from, read_all};
pub(crate) use server::{ADMIN_EMAIL, ADMIN_PASSWORD, JWT_SECRET, Limits, Server};
pub(crate) use setting::{csv_form, id_of, wait_for_job};
