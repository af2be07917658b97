//! A router: traffic and attacks pass through it, and its exporter tells of them as time goes on.

use schemas::time::Timestamp;

use super::{Attack, Draft, Exporter, Flow, Layout, Protocol, Traffic};

/// What a call of [`Router::advance`] sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams, those with templates included.
    pub datagrams: u64,
    /// Flow records or samples.
    pub flows: u64,
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        self.datagrams += other.datagrams;
        self.flows += other.flows;
    }
}

/// A router with peaceful traffic of a constant rate of flows, and attacks.
#[derive(Clone, Debug)]
pub struct Router {
    exporter: Exporter,
    traffic: Traffic,
    flows_per_second: u32,
    attacks: Vec<Attack>,
    advanced: Timestamp,
    /// Flows × milliseconds not yet made.
    owed: u64,
    flows: Vec<Flow>,
}

impl Router {
    /// A router that was switched on an hour before `now` and tells of what happens from then on.
    #[must_use]
    pub fn new(layout: Layout, traffic: Traffic, flows_per_second: u32, now: Timestamp) -> Self {
        let exporter = Exporter::new(layout, Timestamp(now.0.saturating_sub(3_600_000)));
        Self { exporter, traffic, flows_per_second, attacks: Vec::new(), advanced: now, owed: 0, flows: Vec::new() }
    }

    /// Adds an attack, which passes this router alone.
    pub fn add(&mut self, attack: Attack) {
        self.attacks.push(attack);
    }

    /// What its datagrams look like.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        self.exporter.layout()
    }

    /// Sends what has become due since the last call; steps of 10 to 1,000 ms look natural.
    pub fn advance(&mut self, now: Timestamp, send: &mut dyn FnMut(&[u8])) -> Sent {
        let from = self.advanced;
        self.advanced = now.max(from);
        self.owed += u64::from(self.flows_per_second) * now.since(from);
        self.flows.clear();
        for _ in 0..self.owed / 1_000 {
            let flow = self.traffic.flow(now);
            self.flows.push(flow);
        }
        self.owed %= 1_000;
        let layout = self.exporter.layout();
        let (interval, single) = (layout.sampling_interval, layout.protocol == Protocol::Sflow5);
        for attack in &mut self.attacks {
            attack.flows(from, now, interval, single, &mut self.flows);
        }
        self.attacks.retain(|attack| attack.ends > now);
        let mut datagrams = 0;
        let flows = self.exporter.export(now, &self.flows, &mut |draft: &Draft| {
            datagrams += 1;
            send(draft.octets());
        });
        Sent { datagrams, flows }
    }
}
