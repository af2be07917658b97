//! Options records: what they tell about sampling, time and interfaces, read by netflow_parser.

use netflow_parser::variable_versions::field_value::{DataNumber, FieldValue};
use netflow_parser::variable_versions::{ipfix, v9};
use netflow_parser::{NetflowPacket, NetflowParser};

use super::cursor::{number, u8_at, u16_at};
use super::sampling::interval_of;
use super::template::{Definition, Field, Style, VARIABLE};
use crate::enrich::interface::Told;

/// What one options record tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The sampler that it is about.
    pub(crate) selector: Option<u64>,
    /// The interface that it is about.
    pub(crate) interface: Option<u32>,
    /// Packets that each sampled one stands for.
    pub(crate) interval: Option<u32>,
    /// When the exporter was started, unix milliseconds.
    pub(crate) system_init_milliseconds: Option<u64>,
    /// `interfaceName(82)` of the interface, empty if it is not told.
    pub(crate) interface_name: Box<str>,
    /// `interfaceDescription(83)` of the interface, likewise.
    pub(crate) interface_description: Box<str>,
}

impl Facts {
    /// What is told of an interface.
    pub(crate) fn told(self) -> Option<Told> {
        let Self { interface: Some(interface), interface_name: name, interface_description: description, .. } = self else {
            return None;
        };
        (!name.is_empty() || !description.is_empty()).then(|| Told { interface, name, description, ..Told::default() })
    }
}

/// One record of an options data set as a data set of its own, header and all.
///
/// netflow_parser 1.0.6 ends a set at a value of variable length that has no octets: such a value is handed over as one NUL,
/// which means the same in the texts where it occurs.
pub(crate) fn to_set(definition: &Definition, record: &[u8]) -> Option<Vec<u8>> {
    let mut set = Vec::with_capacity(record.len() + 8);
    set.extend(definition.id.to_be_bytes());
    set.extend([0, 0]);
    let mut position = 0;
    for field in &definition.fields {
        let (prefix, length) = match (field.length, u8_at(record, position)) {
            (VARIABLE, Some(255)) => (3, usize::from(u16_at(record, position + 1)?)),
            (VARIABLE, length) => (1, usize::from(length?)),
            (length, _) => (0, usize::from(length)),
        };
        let value = record.get(position..position + prefix + length)?;
        if field.length == VARIABLE && length == 0 {
            set.extend([1, 0]);
        } else {
            set.extend(value);
        }
        position += prefix + length;
    }
    let length = u16::try_from(set.len()).ok()?.to_be_bytes();
    set.iter_mut().skip(2).zip(length).for_each(|(octet, length)| *octet = length);
    Some(set)
}

/// What the options record in `message` tells, which holds that one record; `None` if netflow_parser cannot read it.
pub(crate) fn read(parser: &mut NetflowParser, message: &[u8], definition: &Definition) -> Option<Facts> {
    let values = match parser.parse_bytes(message).packets.into_iter().next()? {
        NetflowPacket::V9(packet) => packet.flowsets.into_iter().find_map(|set| match set.body {
            v9::FlowSetBody::OptionsData(data) => Some(netflow9_values(data)),
            _ => None,
        }),
        NetflowPacket::IPFix(packet) => packet.flowsets.into_iter().find_map(|set| match set.body {
            ipfix::FlowSetBody::OptionsData(data) => {
                Some(data.fields.into_iter().next()?.into_iter().map(|(_, value)| Value::of(value)).collect())
            }
            ipfix::FlowSetBody::V9OptionsData(data) => Some(netflow9_values(data)),
            _ => None,
        }),
        _ => None,
    }?;
    Some(facts(definition, &values))
}

/// A field's value as far as it is of use.
#[derive(Clone, Debug)]
enum Value {
    Whole(u64),
    Text(Box<str>),
    Real(f64),
    Other,
}

impl Value {
    fn of(value: FieldValue) -> Self {
        match value {
            FieldValue::Float64(value) => Self::Real(value),
            FieldValue::String(text) => Self::Text(String::from_utf8_lossy(&text.raw).into()),
            FieldValue::Vec(octets) | FieldValue::DataNumber(DataNumber::Vec(octets)) => Self::Whole(number(&octets)),
            value => value.as_u64().map_or(Self::Other, Self::Whole),
        }
    }
}

fn netflow9_values(data: v9::OptionsData) -> Vec<Value> {
    let Some(record) = data.fields.into_iter().next() else {
        return Vec::new();
    };
    let scopes = record.scope_fields.into_iter().map(|field| match field {
        v9::ScopeDataField::System(octets)
        | v9::ScopeDataField::Interface(octets)
        | v9::ScopeDataField::LineCard(octets)
        | v9::ScopeDataField::NetFlowCache(octets)
        | v9::ScopeDataField::Template(octets)
        | v9::ScopeDataField::Unknown(_, octets) => Value::Whole(number(&octets)),
    });
    scopes.chain(record.options_fields.into_iter().map(|(_, value)| Value::of(value))).collect()
}

/// The scope type "interface" of version 9 (RFC 3954 §6.1); types above the five of the RFC are elements.
const NETFLOW9_SCOPE_INTERFACE: u16 = 2;
const NETFLOW9_SCOPE_MAX: u16 = 5;

fn facts(definition: &Definition, values: &[Value]) -> Facts {
    let scopes = usize::from(definition.scope_fields.unwrap_or(0));
    let mut facts = Facts::default();
    let (mut taken, mut left, mut population) = (None, None, None);
    for (index, (field, value)) in definition.fields.iter().zip(values).enumerate() {
        let Field { enterprise: 0, element, .. } = *field else {
            continue;
        };
        let in_scope = index < scopes;
        match (element, value) {
            (82, Value::Text(text)) => facts.interface_name = text.trim_matches('\0').into(),
            (83, Value::Text(text)) => facts.interface_description = text.trim_matches('\0').into(),
            (NETFLOW9_SCOPE_INTERFACE, &Value::Whole(value)) if in_scope && definition.style == Style::Netflow9 => {
                facts.interface = u32::try_from(value).ok();
            }
            (..=NETFLOW9_SCOPE_MAX, _) if in_scope && definition.style == Style::Netflow9 => {}
            (10 | 14, &Value::Whole(value)) => facts.interface = facts.interface.or(u32::try_from(value).ok()),
            (48 | 302, &Value::Whole(value)) => facts.selector = Some(value),
            // An exporter that announces an interval of 0 does not sample.
            (34 | 50, &Value::Whole(value)) => facts.interval = Some(u32::try_from(value).unwrap_or(u32::MAX).max(1)),
            (305 | 309, &Value::Whole(value)) => taken = Some(value),
            (306, &Value::Whole(value)) => left = Some(value),
            (310, &Value::Whole(value)) => population = Some(value),
            (311, &Value::Real(probability)) => facts.interval = facts.interval.or(interval_of_probability(probability)),
            // A real may be sent with half its octets (RFC 7011 §6.2), which netflow_parser gives as they are.
            (311, &Value::Whole(bits)) if field.length == 4 => {
                let probability = u32::try_from(bits).map_or(0.0, |bits| f64::from(f32::from_bits(bits)));
                facts.interval = facts.interval.or(interval_of_probability(probability));
            }
            (160, &Value::Whole(value)) => facts.system_init_milliseconds = Some(value),
            _ => {}
        }
    }
    let population = population.or_else(|| Some(taken?.saturating_add(left?)));
    if let (None, Some(taken), Some(population)) = (facts.interval, taken, population) {
        facts.interval = interval_of(taken, population);
    }
    facts
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a real saturates")]
fn interval_of_probability(probability: f64) -> Option<u32> {
    (probability > 0.0 && probability <= 1.0).then(|| (1.0 / probability).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(elements: &[(u16, u16)]) -> Definition {
        let fields = elements.iter().map(|&(element, length)| Field { enterprise: 0, element, length }).collect();
        Definition { id: 256, style: Style::Ipfix, scope_fields: Some(1), fields }
    }

    #[test]
    fn sampling_is_told_in_five_ways() {
        let whole = |values: &[u64]| values.iter().map(|&value| Value::Whole(value)).collect::<Vec<_>>();
        let told = |elements: &[u16], values: &[u64]| {
            let elements: Vec<_> = std::iter::once(149).chain(elements.iter().copied()).map(|element| (element, 4)).collect();
            facts(&definition(&elements), &whole(&[[0].as_slice(), values].concat()))
        };
        assert_eq!(told(&[34, 35], &[512, 2]).interval, Some(512));
        assert_eq!(told(&[48, 49, 50], &[7, 2, 128]), Facts { selector: Some(7), interval: Some(128), ..Facts::default() });
        // One of every 1 + 999.
        assert_eq!(told(&[302, 305, 306], &[3, 1, 999]), Facts { selector: Some(3), interval: Some(1_000), ..Facts::default() });
        assert_eq!(told(&[309, 310], &[10, 5_000]).interval, Some(500));
        assert_eq!(told(&[34], &[0]).interval, Some(1));
        let probability = facts(&definition(&[(149, 4), (311, 8)]), &[Value::Whole(0), Value::Real(0.01)]);
        assert_eq!(probability.interval, Some(100));
        assert_eq!(facts(&definition(&[(149, 4), (311, 8)]), &[Value::Whole(0), Value::Real(f64::NAN)]).interval, None);
    }

    #[test]
    fn a_value_without_octets_is_handed_over_as_nul() {
        let definition = definition(&[(10, 4), (82, VARIABLE), (34, 1)]);
        // Interface 9, no name, interval 5.
        assert_eq!(to_set(&definition, &[0, 0, 0, 9, 0, 5]).unwrap(), [1, 0, 0, 11, 0, 0, 0, 9, 1, 0, 5]);
        assert_eq!(to_set(&definition, &[0, 0, 0, 9, 4, 5]), None, "a record that its own length cuts");
    }
}
