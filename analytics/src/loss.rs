//! How much of the telemetry never arrived, by exporter: what lowers the confidence in everything that was counted of it.

use std::collections::BTreeMap;

use schemas::counter::{Detail, DomainReport, Snapshot};
use schemas::flow::Version;
use schemas::net::Address;

/// How much of the past is kept at each report, which comes once a second: half of it is forgotten after seven seconds.
const KEPT: f64 = 0.9;

/// Units that came and units that were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Units {
    came: f64,
    lost: f64,
}

/// The recent loss of each exporter.
#[derive(Debug, Default)]
pub struct Loss {
    /// What each domain of an exporter had at its last report, on each shard.
    last: BTreeMap<(usize, Address, Version, u32), Units>,
    recent: BTreeMap<Address, Units>,
}

impl Loss {
    /// Takes in what a snapshot says of its exporters.
    pub(crate) fn learn(&mut self, snapshot: &Snapshot) {
        for report in &snapshot.exporters {
            let recent = self.recent.entry(report.exporter).or_default();
            (recent.came, recent.lost) = (recent.came * KEPT, recent.lost * KEPT);
            for domain in &report.domains {
                let now = units(domain);
                let key = (snapshot.shard, report.exporter, domain.version, domain.observation_domain_id);
                let before = self.last.insert(key, now).unwrap_or(now);
                recent.came += (now.came - before.came).max(0.0);
                recent.lost += (now.lost - before.lost).max(0.0);
            }
        }
    }

    /// Forgets an exporter that has gone.
    pub(crate) fn forget(&mut self, exporter: Address) {
        self.recent.remove(&exporter);
        self.last.retain(|(_, other, ..), _| *other != exporter);
    }

    /// The part, 0 to 1, that was lost of what the exporters sent that saw a target, or all exporters where none is named.
    #[must_use]
    pub fn of(&self, details: &[(usize, Box<Detail>)]) -> f64 {
        let named = details.iter().flat_map(|(_, detail)| &detail.exporters).filter_map(|(exporter, ..)| self.recent.get(exporter));
        let mut sum = named.fold(Units::default(), add);
        if sum == Units::default() {
            sum = self.recent.values().fold(sum, add);
        }
        let all = sum.came + sum.lost;
        if all > 0.0 { (sum.lost / all).clamp(0.0, 1.0) } else { 0.0 }
    }
}

fn add(sum: Units, more: &Units) -> Units {
    Units { came: sum.came + more.came, lost: sum.lost + more.lost }
}

/// Version 9 and sFlow number their datagrams, the others their records.
pub(crate) fn units_came(domain: &DomainReport) -> u64 {
    match domain.version {
        Version::Netflow9 | Version::Sflow5 => domain.datagrams,
        _ => domain.records,
    }
}

fn units(domain: &DomainReport) -> Units {
    Units { came: units_came(domain) as f64, lost: domain.lost_by_sequence as f64 }
}

#[cfg(test)]
mod tests {
    use schemas::counter::{ExporterReport, SamplingSource};
    use schemas::ledger::{Ledger, StoreLedger};
    use schemas::time::Timestamp;

    use super::*;

    fn report(exporter: &str, version: Version, datagrams: u64, records: u64, lost_by_sequence: u64) -> ExporterReport {
        let domain = DomainReport {
            version,
            observation_domain_id: 0,
            agent: None,
            templates: 0,
            datagrams,
            records,
            lost_by_sequence,
            sets_without_template: 0,
            sampling_interval: None,
            sampling_source: SamplingSource::Unknown,
            clock_offset_milliseconds: 0,
            interfaces: Vec::new(),
        };
        ExporterReport {
            exporter: exporter.parse().unwrap(),
            ledger: Ledger::default(),
            store: StoreLedger::default(),
            last_seen: Timestamp(0),
            domains: vec![domain],
        }
    }

    fn seen_by(exporter: &str) -> Vec<(usize, Box<Detail>)> {
        vec![(0, Box::new(Detail { exporters: vec![(exporter.parse().unwrap(), 1, 1)], ..Detail::default() }))]
    }

    #[test]
    fn loss_is_that_of_the_exporters_that_saw_the_target() {
        let mut loss = Loss::default();
        for (datagrams, lost) in [(100, 0), (175, 25)] {
            let exporters = vec![
                report("192.0.2.1", Version::Netflow9, datagrams, 9_999, lost),
                report("192.0.2.2", Version::Ipfix, datagrams, datagrams, 0),
            ];
            loss.learn(&Snapshot { exporters, ..Snapshot::default() });
        }
        // 25 of 100 datagrams since the first report; the other exporter's 75 records all came.
        assert!((loss.of(&seen_by("192.0.2.1")) - 0.25).abs() < 1e-9);
        assert_eq!(loss.of(&seen_by("192.0.2.2")), 0.0);
        assert!((loss.of(&[]) - 25.0 / 175.0).abs() < 1e-9);
    }
}
