//! An exporter: flows in, datagrams out, with the sequence numbers, uptimes and templates of a real one.

use schemas::net::Address;
use schemas::time::Timestamp;

use super::draft::{Clock, Draft};
use super::{Flow, Protocol, netflow5, sflow5, template};

/// What the datagrams of an exporter look like.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The protocol.
    pub protocol: Protocol,
    /// Observation domain, source id, engine type and id (low two octets), or sub-agent.
    pub observation_domain_id: u32,
    /// Packets on the wire for each that is counted; 1 = not sampled.
    pub sampling_interval: u32,
    /// The sFlow agent's address, IPv4.
    pub agent: Address,
    /// Templates, sampling options or interface counters are sent again after so many milliseconds.
    pub refresh_milliseconds: u64,
}

impl Layout {
    /// Domain 1 of `protocol`, templates every 20 s.
    #[must_use]
    pub fn new(protocol: Protocol, sampling_interval: u32) -> Self {
        let agent = Address::from_v4(0x0a00_0001);
        Self { protocol, observation_domain_id: 1, sampling_interval, agent, refresh_milliseconds: 20_000 }
    }
}

/// One exporting process; what address it sends from is up to who sends.
#[derive(Clone, Debug)]
pub struct Exporter {
    layout: Layout,
    clock: Clock,
    announced: Option<Timestamp>,
}

impl Exporter {
    /// An exporter that was started at `started`, from which its uptime counts.
    #[must_use]
    pub fn new(layout: Layout, started: Timestamp) -> Self {
        let clock = Clock { sequence: 0, samples: 0, sampling_interval: layout.sampling_interval, started };
        Self { layout, clock, announced: None }
    }

    /// What its datagrams look like.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Flows of one family that fill a datagram.
    #[must_use]
    pub fn records_max(&self, v4: bool) -> usize {
        match self.layout.protocol {
            Protocol::Netflow5 => netflow5::RECORDS_MAX,
            Protocol::Sflow5 => sflow5::SAMPLES_MAX,
            protocol => template::records_max(protocol, v4),
        }
    }

    /// Whether templates, options or counters are due.
    #[must_use]
    pub fn announcement_due(&self, now: Timestamp) -> bool {
        self.announced.is_none_or(|last| now.since(last) >= self.layout.refresh_milliseconds)
    }

    /// Makes the announcement due again.
    pub fn forget_announcement(&mut self) {
        self.announced = None;
    }

    /// The datagram with templates and sampling options, or interface counters; version 5 has none.
    pub fn announcement(&mut self, now: Timestamp) -> Option<Draft> {
        self.announced = Some(now);
        let mut draft = match self.layout.protocol {
            Protocol::Netflow5 => return None,
            Protocol::Sflow5 => sflow5::announcement(&self.layout),
            _ => template::announcement(&self.layout),
        };
        self.stamp(&mut draft, now);
        Some(draft)
    }

    /// A datagram of `flows`, which are of one family and at most [`Exporter::records_max`]; it is not stamped yet.
    #[must_use]
    pub fn draft(&self, now: Timestamp, flows: &[Flow]) -> Draft {
        match self.layout.protocol {
            Protocol::Netflow5 => netflow5::draft(&self.layout, now, flows),
            Protocol::Sflow5 => sflow5::draft(&self.layout, flows),
            _ => template::draft(&self.layout, now, flows),
        }
    }

    /// Gives a draft the next sequence number and the times of `now`.
    pub fn stamp(&mut self, draft: &mut Draft, now: Timestamp) {
        draft.stamp(&mut self.clock, now);
    }

    /// Sends flows of both families, in full datagrams as far as they go, with the announcement in front when it is due.
    ///
    /// Returns the number of flows sent; version 5 leaves out those of IPv6.
    pub fn export(&mut self, now: Timestamp, flows: &[Flow], send: &mut dyn FnMut(&Draft)) -> u64 {
        if self.announcement_due(now)
            && let Some(draft) = self.announcement(now)
        {
            send(&draft);
        }
        let (v4, v6): (Vec<Flow>, Vec<Flow>) = flows.iter().partition(|flow| flow.source.is_v4());
        let mut sent = 0;
        for family in [v4, v6] {
            let is_v4 = family.first().is_some_and(|flow| flow.source.is_v4());
            if self.layout.protocol == Protocol::Netflow5 && !is_v4 {
                continue;
            }
            for part in family.chunks(self.records_max(is_v4)) {
                let mut draft = self.draft(now, part);
                self.stamp(&mut draft, now);
                sent += u64::from(draft.flows());
                send(&draft);
            }
        }
        sent
    }
}

/// The autonomous system that announces an address: made up, the same for all addresses of an IPv4 /16 or IPv6 /32.
pub(super) fn autonomous_system(address: Address) -> u32 {
    let [.., a, b, _, _] = if address.is_v4() { address.0.to_be_bytes() } else { (address.0 >> 80).to_be_bytes() };
    1_000 + u32::from(u16::from_be_bytes([a, b])) % 60_000
}
