//! Names beside numbers: what other parts know, and what everybody knows.

use std::fmt::Debug;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Map, Value};

use collector::enrich::SharedTables;
use collector::enrich::interface::Snapshot;
use schemas::net::{Address, Prefix};

use super::dimension::{Field, Kind};
use super::question::width;
use super::value;

/// Who knows names that change with the network.
pub trait Names: Debug + Send + Sync {
    /// The name of an autonomous system.
    fn system(&self, _number: u32) -> Option<String> {
        None
    }

    /// The name of an exporter's interface.
    fn interface(&self, _exporter: Address, _interface: u32) -> Option<String> {
        None
    }
}

/// Nobody knows any.
#[derive(Debug)]
pub struct Nameless;

impl Names for Nameless {}

/// What the collector's tables and inventory tell.
#[derive(Debug)]
pub struct Known {
    /// Autonomous systems.
    pub tables: SharedTables,
    /// Interfaces.
    pub interfaces: Arc<ArcSwap<Snapshot>>,
}

impl Names for Known {
    fn system(&self, number: u32) -> Option<String> {
        self.tables.get().autonomous_system_name(number).map(str::to_owned)
    }

    fn interface(&self, exporter: Address, interface: u32) -> Option<String> {
        let snapshot = self.interfaces.load();
        let (name, _) = snapshot.interface(exporter, interface);
        (!name.is_empty()).then(|| name.to_owned())
    }
}

/// Writes the columns of a group as fields of an answer, and as `names` what those are called that have names.
pub fn write(fields: &mut Map<String, Value>, group_by: &[Field], columns: &[Value], names: &dyn Names) {
    let mut called = Map::new();
    let mut at = 0;
    let mut read: Vec<(Field, Value)> = Vec::new();
    for field in group_by {
        read.push((*field, key(*field, columns.get(at..).unwrap_or_default())));
        at += width(*field);
    }
    let exporter = read.iter().find(|(field, _)| *field == Field::Exporter).and_then(|(_, value)| value.as_str()?.parse().ok());
    for (field, value) in read {
        if let Some(name) = name(field, &value, exporter, names) {
            called.insert(field.word().to_owned(), Value::String(name));
        }
        fields.insert(field.word().to_owned(), value);
    }
    fields.insert("names".to_owned(), Value::Object(called));
}

fn key(field: Field, columns: &[Value]) -> Value {
    let first = columns.first().cloned().unwrap_or(Value::Null);
    let address = || first.as_str().and_then(|text| text.parse::<Address>().ok());
    match field.kind() {
        Kind::Address => address().map_or(Value::Null, |address| Value::String(address.to_string())),
        Kind::Prefix => {
            let length = columns.get(1).and_then(Value::as_u64).and_then(|length| u8::try_from(length).ok());
            let prefix = address().zip(length).map(|(address, length)| Prefix::of(address, length));
            // A host is written with its length: it stands among prefixes.
            prefix.map_or(Value::Null, |prefix| Value::String(format!("{}/{}", prefix.first(), prefix.length())))
        }
        _ => first,
    }
}

fn name(field: Field, value: &Value, exporter: Option<Address>, names: &dyn Names) -> Option<String> {
    let number = || value.as_u64().and_then(|number| u32::try_from(number).ok());
    match field.kind() {
        Kind::System => names.system(number()?),
        Kind::Number(_) if matches!(field, Field::IngressInterface | Field::EgressInterface) => names.interface(exporter?, number()?),
        Kind::Flags => Some(flags(value.as_u64()?)),
        kind => value::names(kind).iter().find(|(_, own)| Some(*own) == value.as_u64()).map(|(name, _)| (*name).to_owned()),
    }
}

/// `syn+ack`.
fn flags(bits: u64) -> String {
    let set: Vec<&str> = value::FLAGS.iter().filter(|(_, bit)| bits & bit != 0).map(|(name, _)| *name).collect();
    if set.is_empty() { "none".to_owned() } else { set.join("+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Book;

    impl Names for Book {
        fn system(&self, number: u32) -> Option<String> {
            (number == 64_500).then(|| "Example".to_owned())
        }

        fn interface(&self, exporter: Address, interface: u32) -> Option<String> {
            Some(format!("{exporter} ge-0/0/{interface}"))
        }
    }

    #[test]
    fn keys_are_canonical_and_numbers_have_their_names_beside_them() {
        let group = [Field::SourceAs, Field::DestinationPrefix, Field::Exporter, Field::IngressInterface, Field::Protocol, Field::TcpFlags];
        let columns = serde_json::json!([64500, "::ffff:203.0.113.0", 24, "::ffff:192.0.2.1", 3, 17, 18]);
        let mut fields = Map::new();
        write(&mut fields, &group, columns.as_array().unwrap(), &Book);
        let expected = serde_json::json!({
            "src_as": 64500, "dst_prefix": "203.0.113.0/24", "exporter": "192.0.2.1", "in_if": 3, "protocol": 17, "tcp_flags": 18,
            "names": {"src_as": "Example", "in_if": "192.0.2.1 ge-0/0/3", "protocol": "udp", "tcp_flags": "syn+ack"},
        });
        assert_eq!(Value::Object(fields), expected);
    }
}
