//! Times as the API writes them: RFC 3339 in UTC, ending in `Z`.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};
use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ParseError, ParseFromJSON, ParseResult, ToJSON, Type};
use serde_json::Value;

/// Whether Postgres and RFC 3339 both have the time.
pub(crate) fn is_storable(time: DateTime<Utc>) -> bool {
    (0..=9999).contains(&time.year())
}

/// An instant in a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(DateTime<Utc>);

impl From<DateTime<Utc>> for Time {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}

impl Type for Time {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "string_date-time".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", "date-time")))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ToJSON for Time {
    fn to_json(&self) -> Option<Value> {
        Some(self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true).into())
    }
}

// poem-openapi requires this for fields of objects; no request contains this type.
impl ParseFromJSON for Time {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        let value = value.unwrap_or_default();
        let at = value.as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        at.map(|at| Self(at.to_utc())).ok_or_else(|| ParseError::expected_type(value))
    }
}
