//! What is known of a flow besides its record: where its ends lie, which interfaces it crossed, what the application is called.
//!
//! ```text
//! MMDB files ─┐ layer                      loader's thread               shard's thread
//! CSV file   ─┼──────► overlay ► Table, Places ─► SharedTables ─► Enricher ► labels of a parcel for the store
//! config     ─┘         (load)                     (swapped as a whole)
//! ```

pub mod application;
pub mod boundary;
pub mod config;
pub mod counter;
pub mod interface;
pub mod keep;
pub mod layer;
pub mod load;
pub mod metrics;
pub mod mmdb;
pub mod prefix;
pub mod run;
pub mod snmp;
pub mod table;

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use schemas::flow::FlowBatch;
use schemas::net::Address;
use schemas::place::{Place, Places};

pub use application::Applications;
pub use config::Config;
pub use load::Enrichment;
use table::Table;

/// One generation of everything that is known of addresses: immutable, swapped as a whole.
#[derive(Debug, Default)]
pub struct Tables {
    /// From an address to the number of its place.
    table: Table,
    /// What the numbers mean.
    places: Arc<Places>,
    /// Names of autonomous systems, by their number.
    names: Vec<(u32, Box<str>)>,
}

impl Tables {
    /// Whether nothing is known of any address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The table of addresses.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// What the numbers of the places mean.
    #[must_use]
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// Where an address lies.
    #[must_use]
    pub fn place(&self, address: Address) -> &Place {
        self.places.place(self.table.get(address))
    }

    /// The name of an autonomous system; `None` where no file names it.
    #[must_use]
    pub fn autonomous_system_name(&self, number: u32) -> Option<&str> {
        let index = self.names.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.names.get(index).map(|(_, name)| &**name)
    }

    /// Writes where the ends of each row's flow lie.
    fn label(&self, batch: &mut FlowBatch) {
        let rows = batch.rows();
        if rows == 0 || self.is_empty() {
            return;
        }
        batch.labels.mark_written(&self.places);
        for (addresses, numbers) in
            [(&batch.source_address, &mut batch.labels.source_place), (&batch.destination_address, &mut batch.labels.destination_place)]
        {
            if let (Some(addresses), Some(numbers)) = (addresses.get(..rows), numbers.get_mut(..rows)) {
                self.table.fill(addresses, numbers);
            }
        }
    }
}

/// The tables in force, for every thread that asks; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct SharedTables(Arc<ArcSwap<Tables>>);

impl SharedTables {
    /// Those of now.
    #[must_use]
    pub fn get(&self) -> Arc<Tables> {
        self.0.load_full()
    }

    /// Puts others in force; answers those before.
    pub fn set(&self, tables: Arc<Tables>) -> Arc<Tables> {
        self.0.swap(tables)
    }
}

/// What a shard labels the rows of its batches with.
#[derive(Debug)]
pub struct Enricher {
    /// Looks whether there are new tables, without a lock, once a batch: all rows of a batch have the numbers of one generation.
    tables: Cache<Arc<ArcSwap<Tables>>, Arc<Tables>>,
}

impl Default for Enricher {
    fn default() -> Self {
        Self::new(&SharedTables::default())
    }
}

impl Enricher {
    /// Labels with the tables that are in force.
    #[must_use]
    pub fn new(tables: &SharedTables) -> Self {
        Self { tables: Cache::new(Arc::clone(&tables.0)) }
    }

    /// Writes where the ends of all rows lie, once decoding has written their columns.
    pub fn enrich(&mut self, batch: &mut FlowBatch) {
        self.tables.load().label(batch);
    }
}

#[cfg(test)]
mod tests;
