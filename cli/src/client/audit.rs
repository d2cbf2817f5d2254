//! `cuponera audit status`: the state of the audit chain.

use clap::Args;

use super::exchange::Request;
use super::fault::ClientError;
use super::show::{CellFormat, Column, card};
use super::{Client, RunCommand};

const STATE: [Column; 5] = [
    Column("Seals", "/seals", CellFormat::Count),
    Column("Sealed through", "/sealedThrough", CellFormat::Time),
    Column("Lag in seconds", "/lagSeconds", CellFormat::Text),
    Column("Verified at", "/verifiedAt", CellFormat::Time),
    Column("Without findings", "/verified", CellFormat::Text),
];

/// Options of `audit status`.
#[derive(Debug, Args)]
pub(crate) struct Status {}

impl RunCommand for Status {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let answer = client.ask(Request::get(&["audit"])).await?;
        client.show(&answer, |state| card(&STATE, state))
    }
}
