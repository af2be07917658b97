//! Flows against counters: what crossed an interface by the flow records, what by its own counters, and what a difference may mean.

use serde_json::{Value, json};

/// How far flows and counters of a sound exporter may be apart besides the sampling error: counters are read within their minutes, a flow is told
/// when it ends, and not every device counts the same octets of a frame.
const TOLERANCE: f64 = 0.1;
/// How near a ratio must be to that of a known fault to be taken for it.
const NEAR: f64 = 0.15;
/// Standard errors within which 95 % of the estimates lie.
const STANDARD_ERRORS: f64 = 1.96;
/// An interface with less, in bits a second, is idle: a few frames that no flow tells of make no verdict.
const IDLE_BPS: f64 = 1_000.0;

/// What flow records tell of one direction of an interface, sampling undone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flows {
    /// IP octets.
    pub octets: f64,
    /// The variance of that, from sampling.
    pub octets_variance: f64,
    /// Records.
    pub flows: u64,
    /// Those whose sampling rate was not known.
    pub unknown_flows: u64,
    /// Whether they were observed where packets leave.
    pub at_egress: bool,
}

/// What the counters tell of one direction of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Octets, layer 2 included.
    pub octets: f64,
    /// Packets.
    pub packets: f64,
    /// The time in which they were counted.
    pub milliseconds: f64,
    /// Who counted: `sflow` or `snmp`.
    pub source: &'static str,
}

/// What holds for all interfaces of an exporter.
#[derive(Clone, Debug, Default)]
pub struct Exporter {
    /// Seconds in which the flows that are summed could come.
    pub seconds: f64,
    /// Octets of each packet that counters count and flows do not.
    pub layer_2_octets: f64,
    /// Its sampling intervals.
    pub intervals: Vec<u32>,
    /// The interval that the operator has set, whatever the exporter says.
    pub interval_set: Option<u32>,
    /// Datagrams or records that never came.
    pub lost_by_sequence: u64,
    /// Whether flows could be asked for.
    pub has_flows: bool,
    /// Whether its interfaces are polled, and so lately that nothing can have been counted between two answers.
    pub awaits_counters: bool,
}

/// One direction of an interface, held against itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    flows: Option<Flows>,
    counted: Option<Counted>,
    flows_bps: f64,
    flows_error_bps: f64,
    counters_bps: f64,
    counters_ip_bps: f64,
    ratio: Option<f64>,
    ratio_error: Option<f64>,
    /// `agrees`, `flows_low`, `flows_high`, `no_counters` or `no_flows`.
    pub verdict: &'static str,
    /// What that may mean.
    pub explanation: String,
}

impl Comparison {
    /// Holds flows against counters.
    #[must_use]
    pub fn of(flows: Option<Flows>, counted: Option<Counted>, exporter: &Exporter) -> Self {
        let rate = |octets: f64, seconds: f64| if seconds > 0.0 { octets * 8.0 / seconds } else { 0.0 };
        let flows_bps = flows.map_or(0.0, |flows| rate(flows.octets, exporter.seconds));
        let flows_error_bps = flows.map_or(0.0, |flows| rate(STANDARD_ERRORS * flows.octets_variance.sqrt(), exporter.seconds));
        let counters_bps = counted.map_or(0.0, |counted| rate(counted.octets, counted.milliseconds / 1_000.0));
        let layer_2 = counted.map_or(0.0, |counted| rate(counted.packets * exporter.layer_2_octets, counted.milliseconds / 1_000.0));
        let counters_ip_bps = (counters_bps - layer_2).max(0.0);
        let ratio = (flows.is_some() && counters_ip_bps > 0.0).then(|| flows_bps / counters_ip_bps);
        let ratio_error = ratio.map(|_| flows_error_bps / counters_ip_bps);
        let mut this = Self {
            flows,
            counted,
            flows_bps,
            flows_error_bps,
            counters_bps,
            counters_ip_bps,
            ratio,
            ratio_error,
            verdict: "agrees",
            explanation: String::new(),
        };
        (this.verdict, this.explanation) = this.judge(exporter);
        this
    }

    fn judge(&self, exporter: &Exporter) -> (&'static str, String) {
        let (Some(_), error) = (self.counted, self.ratio_error.unwrap_or(0.0)) else {
            let reason = if exporter.awaits_counters {
                "the first counters are awaited: the exporter is polled by SNMP, and what an interface counts is known from the second answer on"
            } else {
                "nobody tells what the interface counts: poll it by SNMP or let the exporter send sFlow counters"
            };
            return ("no_counters", reason.to_owned());
        };
        if !exporter.has_flows {
            return ("no_flows", "the store is away: only the interface's counters are known".to_owned());
        }
        if self.flows_bps < IDLE_BPS && self.counters_ip_bps < IDLE_BPS {
            return ("agrees", "the interface is idle".to_owned());
        }
        if self.counters_ip_bps <= 0.0 {
            let still = "flow records name the interface while its counters stand still: they are of another interface with this number, or \
                         counters that are not kept";
            return ("flows_high", still.to_owned());
        }
        let Some(ratio) = self.ratio.filter(|ratio| *ratio > 0.0) else {
            let side =
                "no flow record names the interface in this direction: sampling is not enabled on it, or only in the other direction";
            return ("no_flows", side.to_owned());
        };
        if (ratio - 1.0).abs() <= TOLERANCE + error {
            return ("agrees", "flows and counters agree within the sampling error".to_owned());
        }
        let verdict = if ratio > 1.0 { "flows_high" } else { "flows_low" };
        if let Some(interval) = exporter.interval_set {
            let fitting = (f64::from(interval) / ratio).max(1.0).round();
            return (
                verdict,
                format!(
                    "collector.decode.sampling sets the sampling interval of this exporter to {interval}: with {fitting} flows and counters \
                     would agree"
                ),
            );
        }
        let is_near = |expected: f64| (ratio / expected - 1.0).abs() <= NEAR + error / expected;
        let interval = exporter.intervals.iter().copied().filter(|interval| *interval > 1);
        if ratio > 1.0 {
            let wrong = interval.clone().find(|interval| is_near(f64::from(*interval)));
            return (
                verdict,
                match wrong {
                    Some(interval) => format!(
                        "flows are about {interval} times the counters, which is the sampling interval: the records hold totals already, or are \
                     not sampled; set collector.decode.sampling for this exporter"
                    ),
                    None if is_near(2.0) => {
                        "flows are about twice the counters: traffic is counted double, as where an interface reports what \
                     comes in and what goes out, or two samplers report the same packets"
                            .to_owned()
                    }
                    None => "flows are more than the counters: a sampling interval that is too large, traffic reported more than once, or \
                     counters that were reset"
                        .to_owned(),
                },
            );
        }
        let wrong = interval.clone().find(|interval| is_near(1.0 / f64::from(*interval)));
        let unknown = self.flows.is_some_and(|flows| flows.unknown_flows > 0);
        (
            verdict,
            match wrong {
                Some(interval) => format!(
                    "flows are about one {interval}th of the counters, which is the sampling interval: the rate is not applied; set \
                 collector.decode.sampling for this exporter"
                ),
                None if unknown => "some records came while their sampling rate was not known and count as they are".to_owned(),
                None if is_near(0.5) => {
                    "flows are about half of the counters: one of two samplers or of two exporting cards is not heard".to_owned()
                }
                None if exporter.lost_by_sequence > 0 => {
                    format!("flows are less than the counters, and {} units of this exporter never came", exporter.lost_by_sequence)
                }
                None => {
                    "flows are less than the counters: a sampling interval that is too small, traffic that is not IP, or flows that have \
                 not ended yet"
                        .to_owned()
                }
            },
        )
    }

    /// As the API shows it.
    #[must_use]
    pub fn shown(&self) -> Value {
        let flows = |value: f64| self.flows.map(|_| rounded(value, 1.0));
        let counters = |value: f64| self.counted.map(|_| rounded(value, 1.0));
        json!({
            "flows_bps": flows(self.flows_bps), "flows_error_bps": flows(self.flows_error_bps),
            "flows": self.flows.map(|flows| flows.flows), "unknown_flows": self.flows.map(|flows| flows.unknown_flows),
            "observed_at": self.flows.map(|flows| if flows.at_egress { "egress" } else { "ingress" }),
            "counters_bps": counters(self.counters_bps), "counters_ip_bps": counters(self.counters_ip_bps),
            "counters_source": self.counted.map(|counted| counted.source),
            "counters_seconds": self.counted.map(|counted| rounded(counted.milliseconds / 1_000.0, 10.0)),
            "ratio": self.ratio.map(|ratio| rounded(ratio, 10_000.0)), "ratio_error": self.ratio_error.map(|error| rounded(error, 10_000.0)),
            "verdict": self.verdict, "explanation": self.explanation,
        })
    }
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter() -> Exporter {
        Exporter {
            seconds: 60.0,
            layer_2_octets: 18.0,
            intervals: vec![1_000],
            interval_set: None,
            lost_by_sequence: 0,
            has_flows: true,
            awaits_counters: false,
        }
    }

    /// A minute of 1,000-octet packets, a million of them, and flows of `factor` times their octets.
    fn compared(factor: f64) -> Comparison {
        let flows = Flows { octets: 1e9 * factor, octets_variance: 1e14, flows: 1_000, ..Flows::default() };
        let counted = Counted { octets: 1_018e6, packets: 1e6, milliseconds: 60_000.0, source: "snmp" };
        Comparison::of(Some(flows), Some(counted), &exporter())
    }

    #[test]
    fn layer_2_is_taken_off_and_the_error_comes_from_sampling() {
        let shown = compared(1.0).shown();
        // 1e9 octets in 60 s; 1.96 times the root of 1e14 octets are 19.6 million: 2 %.
        assert_eq!((&shown["flows_bps"], &shown["counters_ip_bps"]), (&json!(133_333_333.0), &json!(133_333_333.0)));
        assert_eq!((&shown["counters_bps"], &shown["ratio"], &shown["ratio_error"]), (&json!(135_733_333.0), &json!(1.0), &json!(0.0196)));
        assert_eq!((&shown["verdict"], &shown["observed_at"]), (&json!("agrees"), &json!("ingress")));
    }

    #[test]
    fn a_ratio_names_its_likely_cause() {
        for (factor, verdict, words) in [
            (1.1, "agrees", "agree"),
            (2.0, "flows_high", "counted double"),
            (1_000.0, "flows_high", "1000 times"),
            (0.001, "flows_low", "one 1000th"),
            (0.5, "flows_low", "about half"),
            (0.7, "flows_low", "less than"),
            (1.4, "flows_high", "more than"),
            (0.0, "no_flows", "not enabled"),
        ] {
            let mut found = compared(factor);
            if factor < 0.01 {
                // So few samples have a small error too.
                let flows = Flows { octets: 1e9 * factor, octets_variance: 1e8, flows: 1_000, ..Flows::default() };
                found = Comparison::of(Some(flows), found.counted, &exporter());
            }
            assert_eq!(found.verdict, verdict, "{factor}: {}", found.explanation);
            assert!(found.explanation.contains(words), "{factor}: {}", found.explanation);
        }
    }

    #[test]
    fn an_interval_that_the_operator_has_set_is_told_with_the_one_that_would_fit() {
        let set = Exporter { interval_set: Some(1_000), ..exporter() };
        for (factor, verdict, words) in
            [(2.0, "flows_high", "with 500 "), (0.25, "flows_low", "with 4000 "), (1e6, "flows_high", "with 1 ")]
        {
            let found = compared(factor);
            let found = Comparison::of(found.flows, found.counted, &set);
            assert!(found.verdict == verdict && found.explanation.contains(words), "{factor}: {}", found.explanation);
        }
        assert_eq!(Comparison::of(compared(1.0).flows, compared(1.0).counted, &set).verdict, "agrees");
    }

    #[test]
    fn what_is_missing_is_said() {
        let counted = Some(Counted { octets: 1e9, packets: 1e6, milliseconds: 60_000.0, source: "sflow" });
        let verdict = |flows, counted, exporter: &Exporter| Comparison::of(flows, counted, exporter).verdict;
        assert_eq!(verdict(Some(Flows::default()), None, &exporter()), "no_counters");
        let explanation = |exporter: &Exporter| Comparison::of(None, None, exporter).explanation;
        assert!(explanation(&exporter()).starts_with("nobody tells"));
        assert!(explanation(&Exporter { awaits_counters: true, ..exporter() }).starts_with("the first counters are awaited"));
        assert_eq!(verdict(None, counted, &exporter()), "no_flows");
        assert_eq!(verdict(None, counted, &Exporter { has_flows: false, ..exporter() }), "no_flows");
        // Counters that stand still are no flows that are missing.
        let still = Some(Counted { octets: 0.0, packets: 0.0, milliseconds: 60_000.0, source: "snmp" });
        let some = Some(Flows { octets: 1e9, flows: 10, ..Flows::default() });
        assert_eq!(verdict(some, still, &exporter()), "flows_high");
        assert!(Comparison::of(some, still, &exporter()).explanation.contains("stand still"));
        assert_eq!(verdict(None, still, &exporter()), "agrees");
        let idle = Some(Counted { octets: 100.0, packets: 1.0, milliseconds: 60_000.0, source: "sflow" });
        assert_eq!(verdict(None, idle, &exporter()), "agrees");
    }
}
