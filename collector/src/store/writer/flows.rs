//! Flow records as blocks of the table `flows`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;
use schemas::flow::FlowBatch;
use schemas::net::{Address, PrefixSet};

use crate::enrich::Applications;
use crate::enrich::interface::{Interfaces, Snapshot};
use crate::store::block::Encoder;
use crate::store::gather::Encode;
use crate::store::names::Names;

/// The exporters' interfaces, once somebody knows them: the store is started before whoever learns of them.
pub type LateInterfaces = Arc<OnceLock<Interfaces>>;

/// Encodes with the names that are known while a block is made.
#[derive(Debug)]
pub struct Flows {
    encoder: Encoder,
    applications: Applications,
    interfaces: LateInterfaces,
}

struct Known<'a> {
    applications: &'a Applications,
    interfaces: Arc<Snapshot>,
}

impl Names for Known<'_> {
    fn interface(&self, exporter: Address, index: u32) -> (&str, u8) {
        let (name, boundary) = self.interfaces.interface(exporter, index);
        (name, boundary as u8)
    }

    fn application(&self, protocol: u8, source_port: u16, destination_port: u16) -> &str {
        self.applications.name(protocol, source_port, destination_port)
    }
}

impl Flows {
    /// An encoder that believes no exporter's time further in the future than this, and looks closely at `networks`.
    #[must_use]
    pub fn new(future_milliseconds_max: u64, networks: PrefixSet, applications: Applications, interfaces: LateInterfaces) -> Self {
        Self { encoder: Encoder::new(future_milliseconds_max).with_networks(networks), applications, interfaces }
    }

    /// The same, which believes a time within so many days before the arrival, as long as flows stay; 0 = a year.
    #[must_use]
    pub fn reaching_back(self, days: u32) -> Self {
        Self { encoder: self.encoder.reaching_back(days), ..self }
    }
}

impl Encode for Flows {
    fn append(&mut self, batch: &FlowBatch) -> usize {
        let interfaces = self.interfaces.get().map(Interfaces::snapshot).unwrap_or_default();
        let known = Known { applications: &self.applications, interfaces };
        self.encoder.append(batch, &known, SystemTime::now().into())
    }

    fn take(&mut self) -> Bytes {
        self.encoder.take()
    }

    fn refiled(&self) -> HashMap<Address, u64> {
        self.encoder.refiled().collect()
    }

    fn volumes_cut(&self) -> u64 {
        self.encoder.volumes_cut()
    }
}
