//! The events of a range of a log, in their canonical forms.

use chrono::{DateTime, Utc};
use futures::stream::{BoxStream, StreamExt};
use sqlx::{PgConnection, query_file};
use uuid::Uuid;

use cuponera_domain::audit::{AdminEventForm, CouponEventForm, EventName, Hash, Log, Position, Salt};
use cuponera_domain::id::{BookId, BusinessId};

use crate::error::{Error, Result};
use crate::stored_status::StoredStatus;

/// An event of a log.
pub(super) enum Event {
    Coupon(Box<CouponEventForm>),
    Admin(Box<AdminEventForm>),
}

/// The event of a row.
macro_rules! coupon_event {
    ($row:ident) => {{
        let tx = $row.tx.parse().map_err(Error::internal)?;
        Event::Coupon(Box::new(CouponEventForm {
            position: Position { epoch: $row.epoch, tx, id: $row.id },
            at: $row.at,
            business: BusinessId($row.business_id),
            book: BookId($row.book_id),
            place: $row.position,
            version: $row.version,
            from: $row.from_status.0,
            to: $row.to_status.0,
            action: $row.action,
            redeem_count: $row.redeem_count,
            reason: $row.reason,
            request_id: $row.request_id,
            holder: $row.user_id,
            actor: $row.actor,
            ip: $row.ip,
            user_agent: $row.user_agent,
        }))
    }};
}
pub(super) use coupon_event;

/// The same of an admin event.
macro_rules! admin_event {
    ($row:ident) => {{
        let tx = $row.tx.parse().map_err(Error::internal)?;
        Event::Admin(Box::new(AdminEventForm {
            position: Position { epoch: $row.epoch, tx, id: $row.id },
            at: $row.at,
            business: BusinessId($row.business_id),
            subject: $row.subject,
            subject_id: $row.subject_id,
            action: $row.action,
            request_id: $row.request_id,
            before: $row.before,
            after: $row.after,
            actor: $row.actor,
            ip: $row.ip,
            user_agent: $row.user_agent,
        }))
    }};
}
pub(super) use admin_event;

impl Event {
    pub(super) fn position(&self) -> Position {
        match self {
            Self::Coupon(event) => event.position,
            Self::Admin(event) => event.position,
        }
    }

    pub(super) fn id(&self) -> Uuid {
        self.position().id
    }

    pub(super) fn leaf(&self, salt: &Salt) -> Hash {
        match self {
            Self::Coupon(event) => event.leaf(salt),
            Self::Admin(event) => event.leaf(salt),
        }
    }

    /// The coupon's book.
    pub(super) fn book(&self) -> Option<BookId> {
        match self {
            Self::Coupon(event) => Some(event.book),
            Self::Admin(_) => None,
        }
    }

    pub(super) fn name(&self) -> EventName {
        match self {
            Self::Coupon(event) => EventName::Coupon {
                id: event.position.id,
                book: event.book.0,
                place: event.place,
                version: event.version,
            },
            Self::Admin(event) => EventName::Admin {
                id: event.position.id,
                subject: event.subject.clone(),
                subject_id: event.subject_id.clone(),
                action: event.action.clone(),
            },
        }
    }
}

/// The last event of a page of a log.
pub(super) struct PageEnd {
    pub(super) position: Position,
    pub(super) at: DateTime<Utc>,
    /// Number of events of the page.
    pub(super) found: i64,
    /// The time of the database.
    pub(super) now: DateTime<Utc>,
}

/// The last of the next committed events after a position, at most `limit`.
pub(super) async fn next_page(
    connection: &mut PgConnection,
    log: Log,
    after: Position,
    limit: i64,
) -> Result<Option<PageEnd>> {
    macro_rules! page {
        ($file:literal) => {{
            let row = query_file!($file, after.epoch, after.tx.to_string(), after.id, limit)
                .fetch_optional(connection)
                .await?;
            row.map(|row| {
                let tx = row.tx.parse().map_err(Error::internal)?;
                let position = Position { epoch: row.epoch, tx, id: row.id };
                Ok(PageEnd { position, at: row.at, found: row.found, now: row.now })
            })
            .transpose()
        }};
    }
    match log {
        Log::Coupon => page!("src/sql/coupon_events_to_seal.sql"),
        Log::Admin => page!("src/sql/admin_events_to_seal.sql"),
    }
}

/// The events after a position and up to another one, in order.
pub(super) fn events(
    connection: &mut PgConnection,
    log: Log,
    from: Position,
    through: Position,
) -> BoxStream<'_, Result<Event>> {
    match log {
        Log::Coupon => coupon_events(connection, from, through),
        Log::Admin => admin_events(connection, from, through),
    }
}

fn coupon_events(
    connection: &mut PgConnection,
    from: Position,
    through: Position,
) -> BoxStream<'_, Result<Event>> {
    let rows = query_file!(
        "src/sql/sealed_coupon_events.sql",
        from.epoch,
        from.tx.to_string(),
        from.id,
        through.epoch,
        through.tx.to_string(),
        through.id
    )
    .fetch(connection);
    rows.map(|row| {
        let row = row?;
        Ok(coupon_event!(row))
    })
    .boxed()
}

fn admin_events(
    connection: &mut PgConnection,
    from: Position,
    through: Position,
) -> BoxStream<'_, Result<Event>> {
    let rows = query_file!(
        "src/sql/sealed_admin_events.sql",
        from.epoch,
        from.tx.to_string(),
        from.id,
        through.epoch,
        through.tx.to_string(),
        through.id
    )
    .fetch(connection);
    rows.map(|row| {
        let row = row?;
        Ok(admin_event!(row))
    })
    .boxed()
}
