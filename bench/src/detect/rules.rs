//! The three rules side by side: the program's own pipe and analysts on a virtual clock, and the two that it is measured against.

use std::collections::BTreeMap;
use std::time::Duration;

use analytics::{Analyst, Event};
use collector::decode::frame::Link;
use collector::decode::{Datagram, Templates};
use collector::receive::packet::Frame;
use collector::shard::Pipe;
use schemas::counter::Snapshot;
use schemas::ledger::Ledger;
use schemas::net::{Prefix, PrefixSet};
use schemas::time::Timestamp;

use bench::synthesize::{frame, frame_octets};

use super::judge::Alarm;
use super::probe::Delivery;
use super::reference::{Average, Minute};
use super::scenario::Limits;
use super::wire::NETWORKS;
use crate::measure;

/// Octets of a mirrored frame that are looked at.
const FRAME_OCTETS: usize = 128;

/// How the rules are called in reports.
pub(super) const NAMES: [&str; 3] = ["Weir", "5-s average", "minute"];

/// The rules at work.
pub(super) struct Rules {
    pipe: Pipe,
    analyst: Analyst,
    alarms: Vec<Alarm>,
    numbers: BTreeMap<u128, usize>,
    average: Average,
    minute: Minute,
    /// CPU time of the pipe and of the analysts.
    pub(super) spent: [Duration; 2],
}

impl Rules {
    /// All three, with the same limits and everything else as by default.
    ///
    /// # Panics
    ///
    /// Never: the networks are sound.
    pub(super) fn new(limits: Limits) -> Self {
        let mut config = analytics::config::Config::default();
        config.threshold.packets_per_second = super::wire::whole(limits.packets_per_second);
        config.threshold.bits_per_second = super::wire::whole(limits.bits_per_second);
        let analyst = Analyst::new(&config, analytics::metrics::Metrics::default());
        let networks: PrefixSet = NETWORKS.iter().map(|text| text.parse::<Prefix>().expect("the networks are sound")).collect();
        let pipe = Pipe::new(0, &collector::config::Config::default(), Templates::Inline, networks, analyst.limits().for_counters());
        Self {
            pipe,
            analyst,
            alarms: Vec::new(),
            numbers: BTreeMap::new(),
            average: Average::new(limits),
            minute: Minute::new(limits),
            spent: [Duration::ZERO; 2],
        }
    }

    /// Lets all of them have what has arrived.
    pub(super) fn take(&mut self, delivery: &Delivery<'_>) {
        let arrival = delivery.at;
        if let Some(payload) = delivery.datagram {
            self.pipe.datagram(&Datagram { exporter: delivery.exporter, source_port: 50_000, arrival, payload });
        } else if let Some(flow) = delivery.flows.first() {
            let octets = frame(flow, FRAME_OCTETS);
            let original_octets = u32::try_from(frame_octets(flow)).unwrap_or(0);
            let seen = Frame { link: Some(Link::Ethernet), octets: &octets, original_octets, arrival, vlan_id: 0 };
            self.pipe.frames(std::iter::once(seen), 0, arrival);
        }
        self.average.take(delivery);
        self.minute.take(delivery);
    }

    /// Closes a slot of 100 ms.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let before = measure::own_cpu();
        let snapshot = self.pipe.tick(now);
        let between = measure::own_cpu();
        self.spent[0] += between.saturating_sub(before);
        if let Some(snapshot) = snapshot {
            self.judge(snapshot, now);
        }
        self.spent[1] += measure::own_cpu().saturating_sub(between);
        self.average.tick(now);
        self.minute.tick(now);
    }

    fn judge(&mut self, snapshot: Snapshot, now: Timestamp) {
        self.analyst.observe(snapshot);
        for event in self.analyst.tick(now) {
            self.event(&event);
        }
    }

    /// Keeps what an incident has come to; one that nobody knows yet is an alarm.
    fn event(&mut self, event: &Event) {
        let incident = event.incident();
        let alarms = &mut self.alarms;
        let number = *self.numbers.entry(incident.uuid.as_u128()).or_insert_with(|| {
            alarms.push(Alarm::of(incident.target, incident.direction, incident.detected_at));
            alarms.len() - 1
        });
        alarms.get_mut(number).into_iter().for_each(|alarm| alarm.follow(incident));
    }

    /// Counts and judges what is left; answers what each has raised, and what became of every record.
    pub(super) fn finish(mut self, now: Timestamp) -> ([Vec<Alarm>; 3], Ledger) {
        let snapshot = self.pipe.finish(now);
        self.judge(snapshot, now);
        let ledger = self.pipe.ledger();
        ([self.alarms, self.average.alarms, self.minute.alarms], ledger)
    }
}
