//! Sampling rates: where they are told, and which one holds for a record.
//!
//! In order: the operator's word, the record itself, its sampler, its interface, its observation domain. A rate that nobody
//! has told is unknown, and unknown is not 1.

use schemas::counter::SamplingSource;
use schemas::flow::{Column, FlowBatch, Segment};
use schemas::net::Prefix;
use serde::{Deserialize, Serialize};

use super::Plane;
use super::column::slot;
use super::option::Facts;
use super::plan::Plan;
use super::state::Scope;

/// Samplers and interfaces of one observation domain whose rates are remembered.
const RATES_MAX: usize = 4_096;

/// What the operator says of exporters that do not tell their sampling rate, or tell a wrong one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingOverride {
    /// The exporters.
    pub exporters: Prefix,
    /// Packets that each counted one stands for, at least 1.
    pub interval: std::num::NonZeroU32,
}

/// Packets that each sampled one stands for: `population` over `taken`, rounded; `None` if none is taken.
pub(crate) fn interval_of(taken: u64, population: u64) -> Option<u32> {
    let interval = population.saturating_add(taken / 2).checked_div(taken)?;
    Some(u32::try_from(interval).unwrap_or(u32::MAX).max(1))
}

/// The rates that options records of one observation domain have told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rates {
    domain: Option<u32>,
    selectors: Vec<(u64, u32)>,
    interfaces: Vec<(u32, u32)>,
}

impl Rates {
    /// Takes what an options record tells, and returns whether anything is new.
    pub(crate) fn learn(&mut self, facts: &Facts) -> bool {
        let Some(interval) = facts.interval else {
            return false;
        };
        match (facts.selector, facts.interface) {
            (Some(selector), _) => put(&mut self.selectors, selector, interval),
            (None, Some(interface)) => put(&mut self.interfaces, interface, interval),
            (None, None) => self.domain.replace(interval) != Some(interval),
        }
    }

    /// The rate that holds for records that name neither sampler nor interface.
    ///
    /// If one sampler is all there is, it has seen them.
    pub(crate) fn common(&self) -> Option<u32> {
        match (self.domain, self.selectors.as_slice(), self.interfaces.as_slice()) {
            (Some(interval), _, _) | (None, &[(_, interval)], []) => Some(interval),
            _ => None,
        }
    }

    fn of(&self, selector: Option<u64>, ingress: u32, egress: u32) -> Option<u32> {
        if let Some(interval) = selector.and_then(|selector| get(&self.selectors, selector)) {
            return Some(interval);
        }
        get(&self.interfaces, ingress).or_else(|| get(&self.interfaces, egress)).or_else(|| self.common())
    }
}

fn put<K: Ord + Copy>(rates: &mut Vec<(K, u32)>, key: K, interval: u32) -> bool {
    match rates.binary_search_by_key(&key, |&(key, _)| key) {
        Ok(index) => rates.get_mut(index).is_some_and(|(_, known)| std::mem::replace(known, interval) != interval),
        Err(index) if rates.len() < RATES_MAX => {
            rates.insert(index, (key, interval));
            true
        }
        Err(_) => false,
    }
}

fn get<K: Ord + Copy>(rates: &[(K, u32)], key: K) -> Option<u32> {
    let index = rates.binary_search_by_key(&key, |&(key, _)| key).ok()?;
    rates.get(index).map(|&(_, interval)| interval)
}

/// Writes the interval that holds for each of the `rows` behind the batch's last, and returns how many have none, with the
/// interval and source that most have.
pub(crate) fn apply(
    batch: &mut FlowBatch,
    rows: usize,
    plan: &Plan,
    rates: &Rates,
    overridden: Option<u32>,
) -> (u64, Option<u32>, SamplingSource) {
    let first = batch.rows();
    let told = plan.has_interval();
    let by_row = (plan.has_selector() && !rates.selectors.is_empty()) || !rates.interfaces.is_empty() || told;
    let constant = if let Some(interval) = overridden {
        Some((Some(interval), SamplingSource::Config))
    } else if by_row {
        None
    } else {
        let common = rates.common();
        Some((common, if common.is_some() { SamplingSource::Options } else { SamplingSource::Unknown }))
    };
    let intervals = slot(&mut batch.sampling_interval, first, rows);
    if let Some((interval, source)) = constant {
        // An unknown interval is 0, which is what the column holds.
        if let Some(interval) = interval {
            intervals.fill(interval);
        }
        return (if interval.is_none() { count(rows) } else { 0 }, interval, source);
    }
    let selectors = slot(&mut batch.selector_id, first, rows).iter();
    let ingress = slot(&mut batch.ingress_interface, first, rows).iter();
    let egress = slot(&mut batch.egress_interface, first, rows).iter();
    let mut unknown = 0;
    for (((interval, selector), ingress), egress) in intervals.iter_mut().zip(selectors).zip(ingress).zip(egress) {
        if *interval == 0 {
            let selector = plan.has_selector().then_some(*selector);
            // A record that has the field and writes 0 says that nothing was sampled.
            *interval = rates.of(selector, *ingress, *egress).unwrap_or(u32::from(told));
        }
        unknown += u64::from(*interval == 0);
    }
    let last = intervals.last().copied().filter(|&interval| interval != 0);
    let source = match (last, told) {
        (None, _) => SamplingSource::Unknown,
        (_, true) => SamplingSource::Record,
        (_, false) => SamplingSource::Options,
    };
    (unknown, last, source)
}

impl super::Decoder {
    /// Which one what is known of rates is by now.
    pub(crate) fn rates_generation(&mut self) -> u64 {
        match &mut self.plane {
            Plane::Inline(_) => self.generation,
            Plane::Shared(shared) => shared.snapshot().generation,
        }
    }

    /// Writes the intervals that are known by now for the rows of a committed segment that have none; whether all have one then.
    pub(crate) fn learn_rates(&mut self, batch: &mut FlowBatch, index: usize) -> bool {
        let Some(Segment { first, rows, origin }) = batch.segments().get(index).copied() else {
            return true;
        };
        let scope = Scope { exporter: origin.exporter, version: origin.version, domain: origin.observation_domain_id, port: 0 };
        let Some(domain) = self.resolve(&scope, origin.source_port).and_then(|domain| self.domains.get(domain)) else {
            return false;
        };
        let rates = &domain.state.rates;
        let has_selector = origin.present.has(Column::SelectorId);
        let selectors = slot(&mut batch.selector_id, first, rows).iter();
        let ingress = slot(&mut batch.ingress_interface, first, rows).iter();
        let egress = slot(&mut batch.egress_interface, first, rows).iter();
        let intervals = slot(&mut batch.sampling_interval, first, rows);
        let (mut learned, mut unknown) = (false, false);
        for (((interval, selector), ingress), egress) in intervals.iter_mut().zip(selectors).zip(ingress).zip(egress) {
            if *interval == 0 {
                *interval = rates.of(has_selector.then_some(*selector), *ingress, *egress).unwrap_or(0);
                learned |= *interval != 0;
                unknown |= *interval == 0;
            }
        }
        if learned {
            batch.learn_sampling(index, SamplingSource::Options);
        }
        !unknown
    }
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(selector: Option<u64>, interface: Option<u32>, interval: u32) -> Facts {
        Facts { selector, interface, interval: Some(interval), ..Facts::default() }
    }

    #[test]
    fn one_packet_taken_and_999_left_is_one_in_a_thousand() {
        assert_eq!(interval_of(1, 1 + 999), Some(1_000));
        // 3 of 10 is 3.33, rounded to 3.
        assert_eq!((interval_of(3, 10), interval_of(0, 10), interval_of(10, 1)), (Some(3), None, Some(1)));
    }

    #[test]
    fn the_nearest_rate_holds() {
        let mut rates = Rates::default();
        assert_eq!(rates.of(Some(1), 5, 6), None);
        assert!(rates.learn(&facts(Some(1), None, 100)));
        assert_eq!(rates.common(), Some(100), "the only sampler has seen every record");
        assert!(rates.learn(&facts(Some(2), None, 200)));
        assert_eq!(rates.common(), None);
        assert!(rates.learn(&facts(None, Some(6), 300)));
        assert!(rates.learn(&facts(None, None, 400)));
        assert!(!rates.learn(&facts(None, None, 400)));
        let found = [rates.of(Some(2), 6, 0), rates.of(Some(9), 5, 6), rates.of(None, 5, 7)];
        assert_eq!(found, [Some(200), Some(300), Some(400)]);
    }
}
