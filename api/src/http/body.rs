//! JSON bodies. Text that is not JSON is 400. JSON is checked field by field, and all faults are reported at once.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use cuponera_domain::book::Change;
use cuponera_domain::json;
use cuponera_domain::number::exact_f64;
use cuponera_domain::principal::parse_user_id;
use cuponera_domain::rejection::{FieldError, Rejection};
use poem::http::StatusCode;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::http::edge::unsupported_type;
use crate::http::problem::Problem;
use crate::http::received::received;
use crate::http::spelling::not_known;

/// Maximum number of reported faults, so that the response does not become much larger than the body.
pub(crate) const MAX_FAULTS: usize = 100;

/// A checked JSON body. The OpenAPI document shows it with the schema of `S`.
#[derive(Debug)]
pub(crate) struct Body<T, S = T> {
    /// The value read from its fields.
    pub(crate) value: T,
    /// A hash of its bytes.
    pub(crate) fingerprint: Uuid,
    schema: PhantomData<S>,
}

/// An optional body. An absent body is read as an object without fields.
#[derive(Debug)]
pub(crate) struct OptionalBody<T>(pub(crate) Body<T>);

/// A value that is read from the fields of a JSON object.
pub(crate) trait FromFields: Sized {
    /// Reads the fields and records faults. None if a fault leaves no value.
    fn read(fields: &mut Fields) -> Option<Self>;
}

/// The fields of a JSON object as they are read.
#[derive(Debug)]
pub(crate) struct Fields {
    prefix: String,
    object: Map<String, Value>,
    known: BTreeSet<&'static str>,
    faults: Vec<FieldError>,
    /// Faults to report only together with others.
    likely_faults: Vec<FieldError>,
}

/// The type of a field.
pub(crate) trait Field: Sized {
    /// The expected value, for the message of a fault.
    const EXPECTED: &'static str;
    fn read(value: Value) -> Option<Self>;
}

impl Field for String {
    const EXPECTED: &'static str = "a string without control characters";
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::String(text)
                if !text.contains(|char: char| char.is_control() && char != '\n' && char != '\t') =>
            {
                Some(text)
            }
            _ => None,
        }
    }
}

/// A user id or an email. It is trimmed, which removes control characters at its ends; its own rule checks the rest.
pub(crate) struct Identifier(pub(crate) String);

impl Field for Identifier {
    const EXPECTED: &'static str = "a string";
    fn read(value: Value) -> Option<Self> {
        value.as_str().filter(|text| !text.contains('\0')).map(|text| Self(text.to_owned()))
    }
}

impl Field for bool {
    const EXPECTED: &'static str = "true or false";
    fn read(value: Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Field for i32 {
    const EXPECTED: &'static str = "an integer of at most 2147483647";
    fn read(value: Value) -> Option<Self> {
        integer(&value).and_then(|number| number.try_into().ok())
    }
}

impl Field for i64 {
    const EXPECTED: &'static str = "an integer";
    fn read(value: Value) -> Option<Self> {
        integer(&value)
    }
}

/// Reads an integer. In JSON Schema `5.0` is one, and some clients send it.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
    let of_float =
        |number: f64| (number.fract() == 0.0 && number.abs() <= MAX_EXACT).then_some(number as i64);
    value.as_i64().or_else(|| value.as_f64().filter(|_| value.is_f64()).and_then(of_float))
}

impl Field for f64 {
    const EXPECTED: &'static str = "a number of at most 15 digits";
    /// A JSON integer may have more digits than a double.
    fn read(value: Value) -> Option<Self> {
        value.as_f64().filter(|_| exact_f64(&value.to_string()).is_some())
    }
}

impl Field for Uuid {
    const EXPECTED: &'static str = "an id (a UUID)";
    fn read(value: Value) -> Option<Self> {
        value.as_str().and_then(|text| text.parse().ok())
    }
}

impl Field for Vec<String> {
    const EXPECTED: &'static str = "an array of strings without control characters";
    fn read(value: Value) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        values.into_iter().map(<String as Field>::read).collect()
    }
}

impl Field for Vec<Uuid> {
    const EXPECTED: &'static str = "an array of ids (UUIDs)";
    fn read(value: Value) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        values.into_iter().map(<Uuid as Field>::read).collect()
    }
}

impl Field for DateTime<Utc> {
    const EXPECTED: &'static str = "a time as in RFC 3339, such as 2026-12-31T23:59:59Z";
    fn read(value: Value) -> Option<Self> {
        let time = DateTime::parse_from_rfc3339(value.as_str()?).ok()?.to_utc();
        // Postgres and RFC 3339 both end at the year 9999 for our purposes.
        (0..=9999).contains(&chrono::Datelike::year(&time)).then_some(time)
    }
}

impl Field for Map<String, Value> {
    const EXPECTED: &'static str = "an object";
    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }
}

impl Field for Vec<Map<String, Value>> {
    const EXPECTED: &'static str = "an array of objects";
    fn read(value: Value) -> Option<Self> {
        let Value::Array(values) = value else { return None };
        values.into_iter().map(<Map<String, Value> as Field>::read).collect()
    }
}

impl Fields {
    /// The fields of an object. `faults` are those of its text.
    fn new(prefix: &str, object: Map<String, Value>, faults: Vec<FieldError>) -> Self {
        Self { prefix: prefix.to_owned(), object, known: BTreeSet::new(), faults, likely_faults: Vec::new() }
    }

    /// A required field.
    pub(crate) fn required<T: Field>(&mut self, name: &'static str) -> Option<T> {
        match self.take(name) {
            Some(value) if !value.is_null() => self.parse(name, value),
            _ => {
                self.fault(name, "is required");
                None
            }
        }
    }

    /// An optional field. Null counts as absent.
    pub(crate) fn optional<T: Field>(&mut self, name: &'static str) -> Option<T> {
        let value = self.take(name)?;
        if value.is_null() { None } else { self.parse(name, value) }
    }

    /// A change to a field that cannot be null.
    pub(crate) fn change<T: Field>(&mut self, name: &'static str) -> Change<T> {
        match self.take(name) {
            None => Change::Keep,
            Some(value) if value.is_null() => {
                self.fault(name, "must not be null");
                Change::Keep
            }
            Some(value) => self.parse(name, value).map_or(Change::Keep, Change::Set),
        }
    }

    /// A change to a field that null clears.
    pub(crate) fn change_or_clear<T: Field>(&mut self, name: &'static str) -> Change<Option<T>> {
        match self.take(name) {
            None => Change::Keep,
            Some(value) if value.is_null() => Change::Set(None),
            Some(value) => self.parse(name, value).map_or(Change::Keep, |value| Change::Set(Some(value))),
        }
    }

    /// The required id of a holder.
    pub(crate) fn holder(&mut self, name: &'static str) -> Option<String> {
        let id = self.required::<Identifier>(name);
        self.check_holder(name, id)
    }

    /// The optional id of a holder.
    pub(crate) fn optional_holder(&mut self, name: &'static str) -> Option<String> {
        let id = self.optional::<Identifier>(name);
        self.check_holder(name, id)
    }

    fn check_holder(&mut self, name: &'static str, id: Option<Identifier>) -> Option<String> {
        let Identifier(id) = id?;
        match parse_user_id(&id) {
            Ok(id) => Some(id.to_owned()),
            Err(message) => {
                self.fault(name, message);
                None
            }
        }
    }

    /// Reads a nested object. The names of its faults begin with the field and a dot.
    pub(crate) fn nested<T: FromFields>(&mut self, name: &str, object: Map<String, Value>) -> Option<T> {
        let mut inner = Self::new(name, object, std::mem::take(&mut self.faults));
        let value = T::read(&mut inner);
        inner.reject_unknown();
        self.faults = inner.faults;
        value
    }

    /// Reads the objects of an array. The names of their faults begin with the field and their index.
    pub(crate) fn nested_all<T: FromFields>(
        &mut self,
        name: &str,
        objects: Vec<Map<String, Value>>,
    ) -> Option<Vec<T>> {
        let read = |(index, object)| self.nested(&format!("{name}.{index}"), object);
        let all: Vec<Option<T>> = objects.into_iter().enumerate().map(read).collect();
        all.into_iter().collect()
    }

    /// Records a fault of a field. Of several faults of one field the first is kept.
    pub(crate) fn fault(&mut self, name: &str, message: impl Into<String>) {
        let name = if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) };
        let is_known = self.faults.iter().any(|fault| fault.field == name);
        if !is_known && self.faults.len() < MAX_FAULTS {
            self.faults.push(FieldError::new(name, message));
        }
    }

    /// Records a fault that only the database can decide. It is reported only together with other faults.
    pub(crate) fn likely_fault(&mut self, name: &str, message: impl Into<String>) {
        self.likely_faults.push(FieldError::new(name, message));
    }

    /// Parses a string that must be one of `words`.
    pub(crate) fn word<T>(
        &mut self,
        name: &'static str,
        text: &str,
        parse: impl Fn(&str) -> Option<T>,
        words: &str,
    ) -> Option<T> {
        let word = parse(text);
        if word.is_none() {
            self.fault(name, format!("must be one of {words}"));
        }
        word
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.insert(name);
        self.object.remove(name)
    }

    fn parse<T: Field>(&mut self, name: &'static str, value: Value) -> Option<T> {
        let parsed = T::read(value);
        if parsed.is_none() {
            self.fault(name, format!("must be {}", T::EXPECTED));
        }
        parsed
    }

    fn reject_unknown(&mut self) {
        let known: Vec<_> = self.known.iter().copied().collect();
        for name in std::mem::take(&mut self.object).keys() {
            if self.faults.len() >= MAX_FAULTS {
                return;
            }
            self.fault(name, not_known(name, &known));
        }
    }
}

/// Reads an object. `faults` are those of its text.
fn read<T: FromFields>(object: Map<String, Value>, faults: Vec<FieldError>) -> Result<T, Problem> {
    let mut fields = Fields::new("", object, faults);
    let value = T::read(&mut fields);
    fields.reject_unknown();
    match value {
        Some(value) if fields.faults.is_empty() => Ok(value),
        _ => {
            fields.faults.append(&mut fields.likely_faults);
            Err(Rejection::Invalid { faults: fields.faults }.into())
        }
    }
}

/// The first half of a SHA-256 of the parts: the form in which keys and fingerprints are stored.
pub(crate) fn half_hash(parts: &[&[u8]]) -> Uuid {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    half(hasher)
}

/// The first half of a hash.
pub(crate) fn half(hasher: Sha256) -> Uuid {
    let digest = hasher.finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Uuid::from_bytes(bytes)
}

fn parse<T: FromFields, S>(bytes: &[u8]) -> Result<Body<T, S>, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| bad_json("the body is not JSON: it is not UTF-8"))?;
    let value: Value = serde_json::from_str(text).map_err(|error| not_read(text, &error))?;
    let Value::Object(object) = value else {
        return Err(bad_json("the body must be a JSON object"));
    };
    let value = read(object, json::faults(text, MAX_FAULTS))?;
    Ok(Body { value, fingerprint: half_hash(&[bytes]), schema: PhantomData })
}

/// The problem of a text that cannot be parsed: it is not JSON, or has a number beyond the range of a double.
fn not_read(text: &str, error: &serde_json::Error) -> Problem {
    let faults = if serde_json::from_str::<IgnoredAny>(text).is_ok() {
        json::faults(text, MAX_FAULTS)
    } else {
        Vec::new()
    };
    if faults.iter().any(|fault| fault.message == json::ROUNDED) {
        return Rejection::Invalid { faults }.into();
    }
    bad_json(&format!("the body is not JSON: line {}, column {}", error.line(), error.column()))
}

fn bad_json(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_json", detail)
}

/// Rejects a body that is not JSON by its media type.
pub(crate) fn must_be_json(request: &Request) -> Result<(), Problem> {
    if is_json(request) { Ok(()) } else { Err(unsupported_type("application/json")) }
}

/// Whether the body is JSON, by its type.
pub(crate) fn is_json(request: &Request) -> bool {
    let media = request.content_type().and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/json") || media.to_ascii_lowercase().ends_with("+json")
}

fn meta<T: Type>(required: bool) -> MetaRequest {
    let content = MetaMediaType { content_type: "application/json", schema: T::schema_ref() };
    MetaRequest { description: None, content: vec![content], required }
}

impl<'a, T: FromFields + Send, S: Type> ApiExtractor<'a> for Body<T, S> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        S::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(meta::<S>(true))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        must_be_json(request)?;
        Ok(parse(&received(request))?)
    }
}

impl<'a, T: FromFields + Type> ApiExtractor<'a> for OptionalBody<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(meta::<T>(false))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = received(request);
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(parse(b"{}")?));
        }
        must_be_json(request)?;
        Ok(Self(parse(&bytes)?))
    }
}
