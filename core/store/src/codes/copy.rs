//! Rows for `COPY … (FORMAT binary)`, as PostgreSQL's documentation of COPY describes it.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::postgres::PgCopyIn;
use uuid::Uuid;

use crate::error::Result;

/// Bytes sent in one message: large enough that the cost of messages does not matter, small enough for memory.
const FLUSH_BYTES: usize = 128 * 1024;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// A running COPY. After an error the state of the connection is unknown: close it.
pub(super) struct CopyRows<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    buffer: Vec<u8>,
    columns: i16,
}

impl<'c> CopyRows<'c> {
    /// Starts `COPY target (columns) FROM STDIN`.
    pub(super) async fn start(connection: &'c mut PgConnection, target: &str, columns: i16) -> Result<Self> {
        let copy = connection.copy_in_raw(&format!("copy {target} from stdin (format binary)")).await?;
        Ok(Self { copy, buffer: SIGNATURE.to_vec(), columns })
    }

    /// Begins the next row. One field for each column must follow.
    pub(super) fn row(&mut self) -> &mut Self {
        self.buffer.extend_from_slice(&self.columns.to_be_bytes());
        self
    }

    pub(super) fn uuid(&mut self, value: Uuid) -> &mut Self {
        self.field(value.as_bytes())
    }

    pub(super) fn int(&mut self, value: i32) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    pub(super) fn bigint(&mut self, value: i64) -> &mut Self {
        self.field(&value.to_be_bytes())
    }

    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        self.field(value.as_bytes())
    }

    /// Microseconds since 2000, as Postgres stores times.
    pub(super) fn timestamp(&mut self, value: DateTime<Utc>) -> &mut Self {
        self.bigint(value.timestamp_micros() - 946_684_800_000_000)
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.buffer.extend_from_slice(&(-1_i32).to_be_bytes());
        self
    }

    pub(super) fn jsonb(&mut self, value: Option<&str>) -> &mut Self {
        let Some(json) = value else { return self.null() };
        self.length(json.len() + 1);
        self.buffer.push(1); // The only version of the binary form of jsonb.
        self.buffer.extend_from_slice(json.as_bytes());
        self
    }

    /// Sends the buffer if it is full.
    pub(super) async fn flush_if_full(&mut self) -> Result<()> {
        if self.buffer.len() >= FLUSH_BYTES {
            self.copy.send(self.buffer.as_slice()).await?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Ends the COPY. A violated constraint is an error here.
    pub(super) async fn finish(mut self) -> Result<u64> {
        self.buffer.extend_from_slice(&(-1_i16).to_be_bytes());
        self.copy.send(self.buffer.as_slice()).await?;
        Ok(self.copy.finish().await?)
    }

    fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.length(bytes.len());
        self.buffer.extend_from_slice(bytes);
        self
    }

    fn length(&mut self, bytes: usize) {
        let bytes = i32::try_from(bytes).expect("a field of a code's row is far below 2 GiB");
        self.buffer.extend_from_slice(&bytes.to_be_bytes());
    }
}
