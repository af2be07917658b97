//! The columns that tell what an interface is called and what lies behind it.

use schemas::flow::{Column, FlowBatch};

use super::super::names::Names;
use super::super::native::{Keys, Native};
use super::of;

/// Interfaces that are remembered while a block is made; others are asked for again.
const PLACES: usize = 4_096;
const BOUNDARY: &str = "Enum8('undefined' = 0, 'external' = 1, 'internal' = 2)";

/// What was told of an interface.
#[derive(Clone, Copy, Debug)]
struct Interface {
    exporter: u32,
    index: u32,
    name: u32,
    boundary: u8,
}

/// Of which nothing was told: no exporter has this number.
const NONE: Interface = Interface { exporter: u32::MAX, index: 0, name: 0, boundary: 0 };

/// What was told of the interfaces of a block.
#[derive(Debug)]
pub(super) struct Interfaces {
    keys: Keys,
    told: Vec<Interface>,
    names: Vec<u32>,
    boundaries: Vec<u8>,
}

impl Default for Interfaces {
    fn default() -> Self {
        Self { keys: Keys::default(), told: vec![NONE; PLACES], names: Vec::new(), boundaries: Vec::new() }
    }
}

impl Interfaces {
    pub(super) fn write(&mut self, native: &mut Native, batch: &FlowBatch, exporters: &[u32], names: &impl Names) {
        self.keys.clear();
        self.told.fill(NONE);
        for (column, values, name, boundary) in [
            (Column::IngressInterface, &batch.ingress_interface, "ingress_interface_name", "ingress_boundary"),
            (Column::EgressInterface, &batch.egress_interface, "egress_interface_name", "egress_boundary"),
        ] {
            if !batch.written().has(column) {
                continue;
            }
            self.look_up(batch, exporters, values, names);
            if self.names.iter().any(|name| *name != 0) {
                native.low_cardinality(name, &self.keys, &self.names);
            }
            if self.boundaries.iter().any(|boundary| *boundary != 0) {
                native.column(boundary, BOUNDARY);
                native.values(&self.boundaries, |boundary| [boundary]);
            }
        }
    }

    #[expect(clippy::indexing_slicing, reason = "taken modulo the length")]
    fn look_up(&mut self, batch: &FlowBatch, exporters: &[u32], interfaces: &[u32], names: &impl Names) {
        self.names.clear();
        self.boundaries.clear();
        for (segment, &exporter) in batch.segments().iter().zip(exporters) {
            for &index in of(interfaces, segment) {
                let place = exporter.wrapping_mul(0x9e37_79b1).wrapping_add(index ^ index >> 12) as usize % PLACES;
                let mut told = self.told[place];
                if (told.exporter, told.index) != (exporter, index) {
                    let (name, boundary) = names.interface(segment.origin.exporter, index);
                    told = Interface { exporter, index, name: self.keys.number(name), boundary };
                    self.told[place] = told;
                }
                self.names.push(told.name);
                self.boundaries.push(told.boundary);
            }
        }
    }
}
