//! The bodies of requests about webhooks.

use chrono::{DateTime, Utc};
use cuponera_domain::book::Change;
use cuponera_domain::rejection::Rejection;
use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_domain::webhook::event_type::ALL_EVENTS;
use cuponera_domain::webhook::receiver::Receiver;
use cuponera_domain::webhook::{NewWebhook, WebhookPatch, check_description, check_event_types};
use poem_openapi::Object;

use crate::http::body::{Fields, FromFields};
use crate::http::time::Time;

/// A new webhook.
#[derive(Debug, Object)]
#[oai(rename = "NewWebhook", rename_all = "camelCase")]
pub(super) struct NewWebhookBody {
    /// The URL of the receiver: https, without credentials and fragment.
    #[oai(validator(min_length = 1, max_length = 2048))]
    url: String,
    #[oai(validator(max_length = 5000))]
    description: Option<String>,
    /// The types of its events, or only `*` for all, which is the default.
    #[oai(validator(min_items = 1, max_items = 20))]
    event_types: Option<Vec<String>>,
    /// Whether it gets the events that bulk jobs write for each code; false if absent.
    per_code: Option<bool>,
    /// Whether it gets events; true if absent.
    enabled: Option<bool>,
}

impl FromFields for NewWebhook {
    fn read(fields: &mut Fields) -> Option<Self> {
        let url = fields.required::<String>("url");
        note_url(fields, url.as_deref());
        let description = fields.optional::<String>("description");
        note_description(fields, description.as_deref());
        let types =
            fields.optional::<Vec<String>>("eventTypes").unwrap_or_else(|| vec![ALL_EVENTS.to_owned()]);
        let event_types = event_types(fields, &types);
        let per_code = fields.optional("perCode").unwrap_or(false);
        let enabled = fields.optional("enabled").unwrap_or(true);
        Some(Self { url: url?, description, event_types: event_types?, per_code, enabled })
    }
}

/// A change of a webhook. Absent fields keep their values; null removes the description.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct WebhookChange {
    #[oai(validator(min_length = 1, max_length = 2048))]
    url: Option<String>,
    #[oai(validator(max_length = 5000))]
    description: Option<String>,
    #[oai(validator(min_items = 1, max_items = 20))]
    event_types: Option<Vec<String>>,
    per_code: Option<bool>,
    enabled: Option<bool>,
}

impl FromFields for WebhookPatch {
    fn read(fields: &mut Fields) -> Option<Self> {
        let url = set(fields.change::<String>("url"));
        note_url(fields, url.as_deref());
        let description = set(fields.change_or_clear::<String>("description"));
        note_description(fields, description.as_ref().and_then(Option::as_deref));
        let types = set(fields.change::<Vec<String>>("eventTypes"));
        let event_types = types.and_then(|types| event_types(fields, &types));
        let (per_code, enabled) = (set(fields.change("perCode")), set(fields.change("enabled")));
        Some(Self { url, description, event_types, per_code, enabled })
    }
}

fn set<T>(change: Change<T>) -> Option<T> {
    match change {
        Change::Keep => None,
        Change::Set(value) => Some(value),
    }
}

/// Since when failed deliveries are attempted again.
#[derive(Debug, Object)]
#[oai(rename = "Replay", rename_all = "camelCase")]
pub(super) struct ReplayBody {
    /// Only deliveries that were created from this time on.
    pub(super) since: Time,
    #[oai(skip)]
    pub(super) since_at: DateTime<Utc>,
}

impl FromFields for ReplayBody {
    fn read(fields: &mut Fields) -> Option<Self> {
        let since_at = fields.required::<DateTime<Utc>>("since")?;
        Some(Self { since: since_at.into(), since_at })
    }
}

/// Reports a fault of the syntax with those of other fields. The networks of the installation are checked later.
fn note_url(fields: &mut Fields, url: Option<&str>) {
    let all = ["0.0.0.0/0", "::/0"].iter().filter_map(|network| network.parse().ok()).collect();
    if let Some(Err(fault)) = url.map(|url| Receiver::parse(url, &AllowedNetworks::new(all))) {
        fields.fault("url", fault);
    }
}

fn note_description(fields: &mut Fields, description: Option<&str>) {
    if let Some(Err(Rejection::Invalid { faults })) = description.map(check_description) {
        for fault in faults {
            fields.fault("description", fault.message);
        }
    }
}

fn event_types(fields: &mut Fields, types: &[String]) -> Option<Vec<String>> {
    check_event_types(types).map_err(|fault| fields.fault("eventTypes", fault)).ok()
}
