//! An incident in plain sentences, made from its evidence.

use schemas::counter::Direction;
use schemas::incident::{Incident, IncidentStatus, Metric, Unit};

/// Two to five sentences; `ratio` is the largest ratio of traffic to limit.
#[must_use]
pub fn of(incident: &Incident, ratio: f64) -> String {
    let mut sentences = vec![opening(incident, ratio)];
    if let Some(evidence) = incident.evidence.first() {
        let error = if evidence.sampling_error > 0.0 {
            format!(", with a sampling error of {:.0} %", evidence.sampling_error * 100.0)
        } else {
            String::new()
        };
        sentences.push(format!("The {} ({}){error}.", evidence.rule, rate(evidence.metric, evidence.value)));
    }
    sentences.extend(makeup(incident));
    if incident.status != IncidentStatus::Active
        && let Some(ended) = incident.ended_at
    {
        let packets = grouped(incident.total_packets);
        sentences.push(format!("It ended at {ended} after {} s and {packets} packets.", incident.duration_sec));
    }
    sentences.join(" ")
}

fn opening(incident: &Incident, ratio: f64) -> String {
    let kind = match &incident.subtype {
        Some(subtype) => format!("{} ({subtype})", incident.family.name()),
        None => incident.family.name().to_owned(),
    };
    let way = if incident.direction == Direction::Incoming { "to" } else { "from" };
    let limit = rate(incident.threshold.metric, incident.threshold.value);
    let over = format!("{ratio:.1} times the limit of {limit}");
    let in_second = match incident.threshold.metric {
        Metric::PacketsPerSecond => incident.peak_pps as f64,
        Metric::BitsPerSecond => incident.peak_bps as f64,
        metric => {
            let seconds = incident.evidence.iter().filter(|evidence| evidence.metric == metric && evidence.window_milliseconds == 1_000);
            seconds.map(|evidence| evidence.value).fold(0.0, f64::max)
        }
    };
    // In its first tenths, an attack has no whole second to be told of.
    let size = if in_second > incident.threshold.value {
        let (packets, bits) = (incident.peak_pps as f64, incident.peak_bps as f64);
        format!("{} and {} in its largest second, {over}", rate(Metric::PacketsPerSecond, packets), rate(Metric::BitsPerSecond, bits))
    } else {
        format!("at least {over}")
    };
    format!("{kind} {way} {} since {}: {size}.", incident.target, incident.started_at)
}

fn makeup(incident: &Incident) -> Option<String> {
    let (protocol, part) = incident.protocol_breakdown.iter().max_by(|one, other| one.1.total_cmp(other.1))?;
    let mut text = format!("{:.0} % of the packets are {protocol}", part * 100.0);
    if let Some(port) = incident.top_src_ports.first().filter(|port| port.share >= 0.3 && port.value != 0) {
        text += &format!(", {:.0} % come from port {}", port.share * 100.0, port.value);
    }
    if let Some(port) = incident.top_dst_ports.first().filter(|port| port.share >= 0.3 && port.value != 0) {
        text += &format!(", {:.0} % go to port {}", port.share * 100.0, port.value);
    }
    if let Some(sources) = incident.source_ip_count {
        text += &format!(", from about {} {}", grouped(sources), if sources == 1 { "source" } else { "sources" });
    }
    Some(text + ".")
}

/// A rate as people say it: `300,000 packets/s`, `2.4 Gbit/s`.
#[must_use]
pub fn rate(metric: Metric, value: f64) -> String {
    if metric.unit() == Unit::Bits {
        let units = [(1e12, "Tbit/s"), (1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s")];
        let unit = units.into_iter().find(|(scale, _)| value >= *scale);
        return unit
            .map_or_else(|| format!("{value:.0} bit/s"), |(scale, name)| format!("{} {name}", (value / scale * 100.0).round() / 100.0));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float cast saturates, which is what is wanted")]
    let count = value.round() as u64;
    if metric.unit() == Unit::Flows { format!("{} flows/s", grouped(count)) } else { format!("{} packets/s", grouped(count)) }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_as_people_say_them() {
        assert_eq!(rate(Metric::PacketsPerSecond, 1_234_567.4), "1,234,567 packets/s");
        assert_eq!(rate(Metric::BitsPerSecond, 2.4e9), "2.4 Gbit/s");
        assert_eq!(rate(Metric::BitsPerSecond, 999.0), "999 bit/s");
        assert_eq!(grouped(100), "100");
    }
}
