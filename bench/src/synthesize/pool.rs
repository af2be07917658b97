//! Ready datagrams for rates at which making them would be the bottleneck: only numbers and times are left to fill in.

use schemas::time::Timestamp;

use super::draft::Draft;
use super::{Exporter, Flow, Protocol, Traffic};

/// A ring of full datagrams of one exporter.
#[derive(Clone, Debug)]
pub struct Pool {
    exporter: Exporter,
    drafts: Vec<Draft>,
    next: usize,
}

impl Pool {
    /// A ring of `datagrams` full datagrams of `traffic`, as if made at `now`; IPv4 unless the traffic has IPv6 hosts.
    #[must_use]
    pub fn new(exporter: Exporter, traffic: &mut Traffic, datagrams: usize, now: Timestamp) -> Self {
        let mut drafts = Vec::with_capacity(datagrams);
        let (mut v4_waiting, mut v6_waiting) = (Vec::<Flow>::new(), Vec::<Flow>::new());
        while drafts.len() < datagrams {
            let flow = traffic.flow(now);
            let v4 = flow.source.is_v4();
            if !v4 && exporter.layout().protocol == Protocol::Netflow5 {
                continue;
            }
            let family = if v4 { &mut v4_waiting } else { &mut v6_waiting };
            family.push(flow);
            if family.len() == exporter.records_max(v4) {
                drafts.push(exporter.draft(now, family));
                family.clear();
            }
        }
        Self { exporter, drafts, next: 0 }
    }

    /// The templates and options, stamped, when they are due.
    pub fn announcement(&mut self, now: Timestamp) -> Option<Draft> {
        if self.exporter.announcement_due(now) { self.exporter.announcement(now) } else { None }
    }

    /// Makes the templates due again, for a collector that has just started.
    pub fn restart(&mut self) {
        self.exporter.forget_announcement();
    }

    /// The next datagrams, stamped: `count` of them, or fewer at the end of the ring.
    pub fn burst(&mut self, now: Timestamp, count: usize) -> &[Draft] {
        if self.next >= self.drafts.len() {
            self.next = 0;
        }
        let first = self.next;
        self.next = (first + count).min(self.drafts.len());
        let burst = self.drafts.get_mut(first..self.next).unwrap_or_default();
        for draft in &mut *burst {
            self.exporter.stamp(draft, now);
        }
        burst
    }

    /// Mean number of flows in a datagram.
    #[must_use]
    pub fn flows_per_datagram(&self) -> f64 {
        let flows: u64 = self.drafts.iter().map(|draft| u64::from(draft.flows())).sum();
        flows as f64 / self.drafts.len().max(1) as f64
    }
}
