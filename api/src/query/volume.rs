//! Sums as answers show them: with sampling undone, and with the error that sampling brings.

use std::ops::{AddAssign, SubAssign};

use serde_json::{Map, Value};

/// Standard deviations within which 95 of 100 estimates lie.
const DEVIATIONS: f64 = 1.96;

/// How much traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Volume {
    /// IP octets.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
    /// Flow records.
    pub flows: u64,
    /// Records whose sampling rate is not known and that count as they are.
    pub unknown_flows: u64,
    /// Variance of the octets.
    pub octets_variance: f64,
    /// Variance of the packets.
    pub packets_variance: f64,
}

impl Volume {
    /// Reads the six columns of sums.
    #[must_use]
    pub fn read(columns: &[Value]) -> Self {
        let number = |index: usize| columns.get(index).and_then(Value::as_u64).unwrap_or(0);
        let real = |index: usize| columns.get(index).and_then(Value::as_f64).unwrap_or(0.0);
        Self {
            octets: number(0),
            packets: number(1),
            flows: number(2),
            unknown_flows: number(3),
            octets_variance: real(4),
            packets_variance: real(5),
        }
    }

    /// The half-width of the interval that holds the octets in 95 of 100 cases.
    #[must_use]
    pub fn octets_error(&self) -> f64 {
        DEVIATIONS * self.octets_variance.max(0.0).sqrt()
    }

    /// The same of the packets.
    #[must_use]
    pub fn packets_error(&self) -> f64 {
        DEVIATIONS * self.packets_variance.max(0.0).sqrt()
    }

    /// Writes it as fields of an answer.
    pub fn write(&self, fields: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("octets", self.octets.into());
        put("packets", self.packets.into());
        put("flows", self.flows.into());
        put("unknown_flows", self.unknown_flows.into());
        put("octets_error", rounded(self.octets_error()));
        put("packets_error", rounded(self.packets_error()));
        put("octets_error_relative", relative(self.octets_error(), self.octets));
        put("packets_error_relative", relative(self.packets_error(), self.packets));
    }

    /// It as an object.
    #[must_use]
    pub fn shown(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        self.write(&mut fields);
        fields
    }
}

impl AddAssign for Volume {
    fn add_assign(&mut self, other: Self) {
        self.octets = self.octets.saturating_add(other.octets);
        self.packets = self.packets.saturating_add(other.packets);
        self.flows = self.flows.saturating_add(other.flows);
        self.unknown_flows = self.unknown_flows.saturating_add(other.unknown_flows);
        self.octets_variance += other.octets_variance;
        self.packets_variance += other.packets_variance;
    }
}

impl SubAssign for Volume {
    fn sub_assign(&mut self, other: Self) {
        self.octets = self.octets.saturating_sub(other.octets);
        self.packets = self.packets.saturating_sub(other.packets);
        self.flows = self.flows.saturating_sub(other.flows);
        self.unknown_flows = self.unknown_flows.saturating_sub(other.unknown_flows);
        self.octets_variance -= other.octets_variance;
        self.packets_variance -= other.packets_variance;
    }
}

/// A number without more digits than it is sure of.
#[must_use]
pub fn rounded(value: f64) -> Value {
    Value::from((value * 1_000.0).round() / 1_000.0)
}

#[expect(clippy::cast_precision_loss, reason = "a ratio needs no more than 53 bits")]
fn relative(error: f64, of: u64) -> Value {
    if of == 0 { Value::Null } else { Value::from((error / of as f64 * 1e6).round() / 1e6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 in 1 000: k packets have a variance of 1 000 × 999 × k; of 10 000 sampled ones the error is 1.96 × √(9.99 × 10⁹) ≈ 195 901 in 10 000 000.
    #[test]
    fn the_error_is_that_of_95_of_100_cases() {
        let volume = Volume { packets: 10_000_000, packets_variance: 1_000.0 * 999.0 * 10_000.0, ..Volume::default() };
        assert_eq!(volume.packets_error().round(), 195_902.0);
        assert_eq!(volume.shown()["packets_error_relative"], 0.01959);
        assert_eq!(volume.shown()["octets_error_relative"], Value::Null);
    }
}
