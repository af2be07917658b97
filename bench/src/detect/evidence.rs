//! When a cache's records first tell enough: the moment from which the time to detect counts where packets are told of late.
//!
//! Every record is spread evenly over its time. The evidence is there when a window of 1, 5 or 30 s of it holds more than its limit: where all
//! packets are seen, by anything; where they are sampled, by so many samples that traffic at its limit would have them in no window of a
//! second more often than is allowed, 0.001 times a day.

use schemas::counter::Direction;

use super::attacks::Trial;
use super::probe::Delivery;
use super::wire::{Micros, SECOND, is_ours, stamp};

/// Slots of a tenth of a second.
const SLOT_MILLISECONDS: u64 = 100;
/// Lengths of the windows in slots.
const WINDOWS: [usize; 3] = [10, 50, 300];
/// How far before the attack slots reach.
const BEFORE: Micros = 60 * SECOND;
/// Standard errors that a Poisson number passes once in 86,400,000 times.
const ERRORS: f64 = 5.57;

/// What has been told of the targets of attacks.
pub(super) struct Evidence {
    /// By the number of the attack; none for one whose packets are told of at once.
    told: Vec<Option<Told>>,
}

struct Told {
    first: u64,
    slots: Vec<[f64; 3]>,
}

impl Evidence {
    /// Nothing told yet of these attacks, of which those that pass a cache are followed.
    pub(super) fn new(trials: &[Trial], is_cache: impl Fn(usize) -> bool) -> Self {
        let told = trials.iter().map(|trial| {
            let first = stamp(trial.begins.saturating_sub(BEFORE)).0 / SLOT_MILLISECONDS;
            let last = stamp(trial.ends + SECOND).0 / SLOT_MILLISECONDS;
            let slots = vec![[0.0; 3]; usize::try_from(last - first + 1).unwrap_or(0)];
            is_cache(trial.exporter).then_some(Told { first, slots })
        });
        Self { told: told.collect() }
    }

    /// Adds what has arrived.
    pub(super) fn take(&mut self, trials: &mut [Trial], delivery: &Delivery<'_>) {
        for flow in delivery.flows {
            for (address, direction) in [(flow.destination, Direction::Incoming), (flow.source, Direction::Outgoing)] {
                // Targets are numbered by their /22 or /48.
                let number = if address.is_v4() { address.0 >> 10 & 0x3fff } else { address.0 >> 80 & 0xffff };
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                let (Some(trial), Some(Some(told))) = (trials.get_mut(number), self.told.get_mut(number)) else { continue };
                let concerns = is_ours(address) && trial.direction == direction && trial.target.contains(address);
                if !concerns || trial.evidence.is_some() || !trial.holds(delivery.at) {
                    continue;
                }
                let scale = f64::from(delivery.interval);
                let volume = [flow.packets as f64 * scale, flow.octets as f64 * 8.0 * scale, flow.packets as f64];
                let changed = told.add(flow.start.0, flow.end.0, volume);
                if told.passes(changed, trial, delivery.interval > 1) {
                    trial.evidence = Some(delivery.at.since(stamp(0)) * 1_000);
                }
            }
        }
    }
}

impl Told {
    /// Spreads a record over its time; answers the slots that changed.
    fn add(&mut self, start: u64, end: u64, volume: [f64; 3]) -> std::ops::Range<usize> {
        let length = (end - start).max(1) as f64;
        let place = |moment: u64| usize::try_from((moment / SLOT_MILLISECONDS).saturating_sub(self.first)).unwrap_or(0);
        let range = place(start)..(place(end) + 1).min(self.slots.len());
        let first = self.first;
        for (slot, sums) in self.slots.iter_mut().enumerate().take(range.end).skip(range.start) {
            let begins = (first + slot as u64) * SLOT_MILLISECONDS;
            let (from, to) = (begins.max(start), (begins + SLOT_MILLISECONDS).min(end));
            let part = if start == end { 1.0 } else { to.saturating_sub(from) as f64 / length };
            sums.iter_mut().zip(volume).for_each(|(sum, more)| *sum += more * part);
        }
        range
    }

    /// Whether a window that holds one of these slots is over its limit.
    fn passes(&self, changed: std::ops::Range<usize>, trial: &Trial, is_sampled: bool) -> bool {
        WINDOWS.into_iter().any(|length| {
            let from = changed.start.saturating_sub(length - 1);
            let seconds = length as f64 / 10.0;
            let mut sums = [0.0; 3];
            let slots = self.slots.iter().enumerate().take((changed.end + length - 1).min(self.slots.len())).skip(from);
            slots.into_iter().any(|(place, slot)| {
                sums.iter_mut().zip(slot).for_each(|(sum, more)| *sum += more);
                if let Some(gone) = place.checked_sub(length).filter(|gone| *gone >= from).and_then(|gone| self.slots.get(gone)) {
                    sums.iter_mut().zip(gone).for_each(|(sum, less)| *sum -= less);
                }
                let [packets, bits, samples] = sums;
                let limits = &trial.limits;
                let ratio = (packets / limits.packets_per_second).max(bits / limits.bits_per_second) / seconds;
                let at_limit = samples / ratio.max(1e-9);
                ratio > 1.0 && (!is_sampled || samples >= at_limit + ERRORS * at_limit.sqrt())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use bench::synthesize::{Flow, Random};

    use super::super::attacks::trial_of;
    use super::super::vector::{Assault, Vector};
    use super::super::wire::Shape;
    use super::*;

    /// A limit of 100,000 packets/s: a record of 60 s with 5,999,999 packets is below it all the time, one more packet in the same minute is not.
    #[test]
    fn the_evidence_is_there_with_the_record_that_passes_the_limit() {
        let target = "10.0.0.7".parse().unwrap();
        let mut trials = [trial_of(target, 60 * SECOND, 120 * SECOND)];
        let mut evidence = Evidence::new(&trials, |_| true);
        let mut shape = Assault::new(Vector::Syn, 1, target, Direction::Incoming);
        let flow = shape.packet(&mut Random::new(1));
        let long = Flow { packets: 5_999_000, octets: 1, start: stamp(60 * SECOND), end: stamp(120 * SECOND), ..flow };
        let short = Flow { packets: 2_000, octets: 1, start: stamp(70 * SECOND), end: stamp(71 * SECOND), ..flow };
        for (flow, second, found) in [(long, 121, None), (short, 130, Some(130 * SECOND))] {
            let flows = [flow];
            let delivery = Delivery { exporter: target.first(), at: stamp(second * SECOND), datagram: None, flows: &flows, interval: 1 };
            evidence.take(&mut trials, &delivery);
            assert_eq!(trials[0].evidence, found);
        }
    }
}
