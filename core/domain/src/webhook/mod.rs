//! Webhooks: which events a receiver gets, in which form, when it gets them, and which receivers are allowed.
//!
//! The form is that of Standard Webhooks (<https://www.standardwebhooks.com>).

pub mod address;
pub mod delivery;
pub mod event_type;
pub mod payload;
pub mod receiver;
pub mod schedule;
pub mod signature;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::book::MAX_DESCRIPTION_CHARS;
use crate::id::{BusinessId, DeliveryId, WebhookId};
use crate::rejection::{FieldError, Rejection};
use delivery::DeliveryStatus;
use event_type::{ALL_EVENTS, EventType};
use uuid::Uuid;

/// Maximum number of webhooks of a business: the reader of events compares each event with all of them.
pub const MAX_WEBHOOKS: i64 = 100;

/// A webhook, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Its owner.
    pub business: BusinessId,
    /// The URL of the receiver, in normalized form.
    pub url: String,
    /// Shown to people.
    pub description: Option<String>,
    /// The event types, or only [`ALL_EVENTS`].
    pub event_types: Vec<String>,
    /// Whether it gets the events that bulk jobs write for each code.
    pub per_code: bool,
    /// Whether it gets events.
    pub enabled: bool,
    /// Why the service disabled it.
    pub disabled_reason: Option<DisabledReason>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
    /// The delivery that was attempted last.
    pub last_delivery: Option<LastDelivery>,
}

/// The delivery that was attempted last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// The event.
    pub event: Uuid,
    /// The type of the event.
    pub event_type: String,
    /// Its status.
    pub status: DeliveryStatus,
    /// The time of the attempt.
    pub at: DateTime<Utc>,
}

/// Why the service disabled a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DisabledReason {
    /// The receiver answered 410.
    Gone,
    /// All attempts failed for [`schedule::DISABLED_AFTER`].
    Failing,
}

impl DisabledReason {
    /// All reasons.
    pub const ALL: [Self; 2] = [Self::Gone, Self::Failing];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "GONE",
            Self::Failing => "FAILING",
        }
    }

    /// The reason of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// A webhook to be created. Its URL was checked with [`receiver::Receiver::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhook {
    /// The URL of the receiver, in normalized form.
    pub url: String,
    /// Shown to people.
    pub description: Option<String>,
    /// See [`check_event_types`].
    pub event_types: Vec<String>,
    /// Whether it gets the events that bulk jobs write for each code.
    pub per_code: bool,
    /// Whether it gets events.
    pub enabled: bool,
}

/// A change of a webhook. Absent fields stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebhookPatch {
    /// The new URL, in normalized form.
    pub url: Option<String>,
    /// The new description; `Some(None)` removes it.
    pub description: Option<Option<String>>,
    /// The new event types.
    pub event_types: Option<Vec<String>>,
    /// Whether it gets the events that bulk jobs write for each code.
    pub per_code: Option<bool>,
    /// Whether it gets events.
    pub enabled: Option<bool>,
}

/// Checks the event types of a webhook, and returns them without repetitions.
pub fn check_event_types(names: &[String]) -> Result<Vec<String>, String> {
    let mut types: Vec<String> = Vec::new();
    for name in names {
        if name != ALL_EVENTS && EventType::parse(name).is_none() {
            let valid: Vec<&str> = EventType::ALL.map(EventType::as_str).to_vec();
            return Err(format!(
                "`{name}` is not an event type: use {}, or only {ALL_EVENTS} for all of them",
                valid.join(", ")
            ));
        }
        if !types.contains(name) {
            types.push(name.clone());
        }
    }
    let has_all = types.iter().any(|name| name == ALL_EVENTS);
    if types.is_empty() || has_all && types.len() > 1 {
        return Err(format!("must have one event type or more, or only {ALL_EVENTS}"));
    }
    Ok(types)
}

/// Checks a description.
pub fn check_description(description: &str) -> Result<(), Rejection> {
    if description.chars().count() <= MAX_DESCRIPTION_CHARS {
        return Ok(());
    }
    let fault =
        FieldError::new("description", format!("must have at most {MAX_DESCRIPTION_CHARS} characters"));
    Err(Rejection::Invalid { faults: vec![fault] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str]) -> Result<Vec<String>, String> {
        check_event_types(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_types_that_are_delivered_are_accepted_and_the_error_names_them() {
        assert_eq!(check(&["*"]).unwrap(), ["*"]);
        assert_eq!(check(&["coupon.locked", "coupon.redeemed", "coupon.locked"]).unwrap().len(), 2);
        let error = check(&["coupon.redeemed", "book.opened"]).unwrap_err();
        assert!(error.contains("`book.opened`"), "{error}");
        for kind in EventType::ALL {
            assert!(error.contains(kind.as_str()), "{error}");
        }
        for names in [&[][..], &["*", "coupon.locked"], &["webhook.test"], &[""]] {
            check(names).unwrap_err();
        }
    }
}
