//! What a client sends, read with every fault named: JSON bodies field by field, query parameters, pages.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};
use uuid::Uuid;

use schemas::net::{Address, Prefix};
use schemas::time::Timestamp;

use crate::error::{ApiError, Fault};
use crate::query::dimension::nearest;
use crate::query::fault::shown;
use crate::state::Page;

const REQUIRED: &str = "this field is required";

/// A JSON object whose fields are taken one by one; at the end, faults and unknown keys are an error.
#[derive(Debug)]
pub struct Form {
    fields: Map<String, Value>,
    asked: BTreeSet<&'static str>,
    faults: Vec<Fault>,
}

/// What a field of a change says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<T> {
    /// It is not there: leave the value.
    Leave,
    /// It is null, or there with a value.
    To(Option<T>),
}

impl<T> Change<T> {
    /// Writes the change to a value that may be absent.
    pub fn apply(self, value: &mut Option<T>) {
        if let Self::To(new) = self {
            *value = new;
        }
    }
}

impl Form {
    /// Reads the body of a request.
    ///
    /// # Errors
    ///
    /// [`ApiError::UnsupportedMediaType`], [`ApiError::InvalidRequest`] for malformed JSON, [`ApiError::Validation`] for another value than an object.
    pub fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, ApiError> {
        let media_type = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
        let is_json = |text: &str| text.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"));
        if media_type.map_or(!body.is_empty(), |text| !is_json(text)) {
            return Err(ApiError::UnsupportedMediaType);
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self { fields, asked: BTreeSet::new(), faults: Vec::new() }),
            Ok(_) => Err(ApiError::validation("", "the body must be an object")),
            Err(error) => Err(ApiError::InvalidRequest { message: format!("malformed JSON: {error}"), details: Vec::new() }),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// [`ApiError::Validation`] with every fault and every key that was not asked for, by field.
    pub fn finish(self) -> Result<(), ApiError> {
        let (asked, mut faults) = (self.asked, self.faults);
        faults.extend(self.fields.keys().filter(|key| !asked.contains(key.as_str())).map(|key| Fault::new(key, "unknown key")));
        faults.sort_by(|one, other| one.field.cmp(&other.field));
        if faults.is_empty() { Ok(()) } else { Err(ApiError::Validation(faults)) }
    }

    /// Names a fault of `field`.
    pub fn fault(&mut self, field: &str, message: impl Into<String>) {
        self.faults.push(Fault::new(field, message));
    }

    /// Whether `field` is absent, null, or a text without a visible character.
    pub fn is_blank(&mut self, field: &'static str) -> bool {
        match self.look(field) {
            None | Some(Value::Null) => true,
            Some(Value::String(text)) => text.trim().is_empty(),
            Some(_) => false,
        }
    }

    fn look(&mut self, field: &'static str) -> Option<&Value> {
        self.asked.insert(field);
        self.fields.get(field)
    }

    /// A field read by `read`, whose error is the fault's message; `None` if absent or null.
    pub fn take<T>(&mut self, field: &'static str, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        match self.look(field) {
            None | Some(Value::Null) => None,
            Some(value) => match read(value) {
                Ok(value) => Some(value),
                Err(message) => {
                    self.fault(field, message);
                    None
                }
            },
        }
    }

    /// [`Form::take`] for a field that must be there.
    pub fn need<T>(&mut self, field: &'static str, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        if matches!(self.look(field), None | Some(Value::Null)) {
            self.fault(field, REQUIRED);
        }
        self.take(field, read)
    }

    /// A field of a change that may be cleared by null.
    pub fn change<T>(&mut self, field: &'static str, read: impl FnOnce(&Value) -> Result<T, String>) -> Change<T> {
        match self.look(field) {
            None => Change::Leave,
            Some(Value::Null) => Change::To(None),
            Some(_) => self.take(field, read).map_or(Change::Leave, |value| Change::To(Some(value))),
        }
    }

    /// A field of a change that must keep a value.
    pub fn replace<T>(&mut self, field: &'static str, read: impl FnOnce(&Value) -> Result<T, String>) -> Option<T> {
        if matches!(self.look(field), Some(Value::Null)) {
            self.fault(field, "must not be null");
        }
        self.take(field, read)
    }
}

/// A text of 1 to `max` characters after trimming, without control characters.
pub fn text(max: usize) -> impl Fn(&Value) -> Result<String, String> {
    move |value| {
        let text = value.as_str().ok_or("must be a text")?.trim();
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        if text.chars().count() > max {
            return Err(format!("at most {max} characters"));
        }
        if text.chars().any(|character| character.is_control() && character != '\n' && character != '\t') {
            return Err("must not have control characters".to_owned());
        }
        Ok(text.to_owned())
    }
}

/// One of `words`.
pub fn one_of(words: &'static [&'static str]) -> impl Fn(&Value) -> Result<&'static str, String> {
    move |value| {
        let text = value.as_str().ok_or("must be a text")?;
        words.iter().copied().find(|word| *word == text).ok_or_else(|| format!("must be one of {}", words.join(", ")))
    }
}

/// An address that a host can have.
pub fn address(value: &Value) -> Result<Address, String> {
    let address: Address = value.as_str().and_then(|text| text.trim().parse().ok()).ok_or("not an IP address")?;
    let address = Address::from(address.ip().to_canonical());
    let ip = address.ip();
    let broadcast = matches!(ip, std::net::IpAddr::V4(v4) if v4.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || broadcast { Err("not the address of a host".to_owned()) } else { Ok(address) }
}

/// An address or a prefix without bits behind its length.
pub fn prefix(value: &Value) -> Result<Prefix, String> {
    let text = value.as_str().ok_or("must be a text")?;
    text.trim().parse::<Prefix>().map_err(|error| match error {
        schemas::net::PrefixError::Syntax(_) => "not an IP address or prefix".to_owned(),
        error @ schemas::net::PrefixError::HostBits(..) => error.to_string(),
    })
}

/// A whole number within `range`.
pub fn number(range: std::ops::RangeInclusive<u64>) -> impl Fn(&Value) -> Result<u64, String> {
    move |value| {
        let fault = || format!("must be a whole number from {} to {}", range.start(), range.end());
        value.as_u64().filter(|number| range.contains(number)).ok_or_else(fault)
    }
}

/// True or false.
pub fn boolean(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "must be true or false".to_owned())
}

/// A uuid.
pub fn uuid(value: &Value) -> Result<Uuid, String> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| "not a uuid".to_owned())
}

/// A moment in ISO 8601.
pub fn moment(value: &Value) -> Result<Timestamp, String> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| "not an ISO 8601 time like 2026-11-20T12:00:00Z".to_owned())
}

/// Unknown and repeated parameters that are told at once.
const UNKNOWN_MAX: usize = 10;

/// The parameters behind the question mark: those that the route knows, each at most once.
#[derive(Debug)]
pub struct Query {
    known: &'static [&'static str],
    values: BTreeMap<String, String>,
    faults: Vec<Fault>,
}

impl Query {
    /// The parameters of a request to a route that knows these.
    ///
    /// # Errors
    ///
    /// [`ApiError::InvalidParameter`] if they are not `application/x-www-form-urlencoded`, or with each that is unknown or repeated: a filter
    /// that is mistyped must not answer for everything.
    pub fn read(uri: &axum::http::Uri, known: &'static [&'static str]) -> Result<Self, ApiError> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| ApiError::InvalidParameter(vec![Fault::new("", error.to_string())]))?;
        let mut query = Self { known, values: BTreeMap::new(), faults: Vec::new() };
        for (name, value) in pairs.0 {
            if query.values.contains_key(&name) {
                query.refuse(&name, "is given more than once".to_owned());
            } else if !known.contains(&name.as_str()) {
                query.refuse(&name, unknown(&name, known));
            }
            query.values.insert(name, value);
        }
        query.finish().map(|()| query)
    }

    fn refuse(&mut self, name: &str, message: String) {
        let field = shown(name);
        if self.faults.len() < UNKNOWN_MAX && self.faults.iter().all(|fault| fault.field != field) {
            self.faults.push(Fault { field, message });
        }
    }

    /// A parameter read by `read`, whose error is the fault's message; `None` if absent or empty.
    ///
    /// # Panics
    ///
    /// If the route does not name the parameter as one of its own, since whoever gave it would have been refused.
    pub fn take<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        assert!(self.known.contains(&name), "the route does not know the parameter {name}");
        let text = self.values.get(name).map(String::as_str).filter(|text| !text.is_empty())?;
        match read(text) {
            Ok(value) => Some(value),
            Err(message) => {
                self.faults.push(Fault::new(name, message));
                None
            }
        }
    }

    /// `limit` from 1 to `max`, and `offset`.
    pub fn page(&mut self, default: u32, max: u32) -> Page {
        let limit = |text: &str| {
            text.parse().ok().filter(|limit| (1..=max).contains(limit)).ok_or_else(|| format!("must be a whole number from 1 to {max}"))
        };
        let offset = |text: &str| text.parse().map_err(|_| format!("must be a whole number from 0 to {}", u32::MAX));
        Page { limit: self.take("limit", limit).unwrap_or(default), offset: self.take("offset", offset).unwrap_or(0) }
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// [`ApiError::InvalidParameter`] with every fault.
    pub fn finish(&mut self) -> Result<(), ApiError> {
        let faults = std::mem::take(&mut self.faults);
        if faults.is_empty() { Ok(()) } else { Err(ApiError::InvalidParameter(faults)) }
    }
}

/// Why a parameter is refused that a route does not know, with those that it knows.
fn unknown(name: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return "there is no such parameter: this path takes none".to_owned();
    }
    let meant = nearest(name, known.iter().copied()).map(|word| format!(", did you mean {word}?")).unwrap_or_default();
    format!("there is no such parameter{meant}; the parameters are {}", known.join(", "))
}
