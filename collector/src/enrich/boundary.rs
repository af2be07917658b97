//! Traffic is counted once, however many interfaces of ours report it: which records are repeats.
//!
//! A record was observed at its ingress interface, or at its egress interface if its `flowDirection` is 1. By the boundary of that:
//!
//! - undefined: it is counted;
//! - external, coming in: it is counted, all that enters the network is seen there;
//! - external, going out: it is counted if its source is ours, else it has come in somewhere;
//! - internal, coming in: it is counted if both ends are ours. So it is if its source is ours and it leaves by an external interface
//!   that reports nothing of what goes out: nobody else will;
//! - internal, going out: it is a repeat, unless nobody else has told of it: it has come in by an external interface that reports nothing of
//!   what comes in, or both ends are ours and no interface of this exporter reports what comes in.
//!
//! While no network is configured, a source is ours if the ingress interface is not external, and of both ends nothing is known.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};
use schemas::flow::{FlowBatch, Segment};
use schemas::interface::Boundary;
use schemas::net::{Address, PrefixSet};

use super::interface::Snapshot;
use crate::count::watch::Watch;

/// Interfaces with numbers below this are found by one load, each an octet.
const DENSE_MAX: usize = 4_096;
/// Exporters of which it is known what their interfaces report, and interfaces of each.
const EXPORTERS_MAX: usize = 65_536;
const INTERFACES_MAX: usize = 4_096;
/// What the column `flow_direction` holds for a record that was observed where its packets left.
const EGRESS: u8 = 1;

/// The boundaries of one exporter's interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Boundaries {
    dense: Box<[Boundary]>,
    /// Those with larger numbers, ascending.
    sparse: Box<[(u32, Boundary)]>,
    /// That of every other.
    rest: Boundary,
}

impl Boundaries {
    /// The boundaries that are known, and that of the rest.
    #[must_use]
    pub fn new(known: BTreeMap<u32, Boundary>, rest: Boundary) -> Self {
        let known: Vec<(u32, Boundary)> = known.into_iter().filter(|(_, boundary)| *boundary != rest).collect();
        let split = known.partition_point(|(index, _)| usize::try_from(*index).is_ok_and(|index| index < DENSE_MAX));
        let (low, high) = known.split_at(split);
        let end = low.last().and_then(|(index, _)| usize::try_from(*index).ok()).map_or(0, |last| last + 1);
        let mut dense = vec![rest; end].into_boxed_slice();
        for (index, boundary) in low {
            if let Some(place) = usize::try_from(*index).ok().and_then(|index| dense.get_mut(index)) {
                *place = *boundary;
            }
        }
        Self { dense, sparse: high.into(), rest }
    }

    /// The boundary of an interface.
    #[inline]
    #[must_use]
    pub fn of(&self, index: u32) -> Boundary {
        match usize::try_from(index).ok().and_then(|index| self.dense.get(index)) {
            Some(boundary) => *boundary,
            None if self.sparse.is_empty() => self.rest,
            None => self.of_sparse(index),
        }
    }

    #[inline(never)]
    fn of_sparse(&self, index: u32) -> Boundary {
        let place = self.sparse.binary_search_by_key(&index, |(index, _)| *index);
        place.ok().and_then(|place| self.sparse.get(place)).map_or(self.rest, |(_, boundary)| *boundary)
    }

    /// Whether no interface has a boundary.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.dense.is_empty() && self.sparse.is_empty() && self.rest == Boundary::Undefined
    }
}

/// The interfaces of one exporter that have reported what comes in, and those that have reported what goes out, ascending.
#[derive(Debug, Default)]
struct Told {
    ingress: Vec<u32>,
    egress: Vec<u32>,
}

impl Told {
    fn learn(&mut self, ingress: &[u32], egress: &[u32], directions: &[u8]) {
        let mut last = None;
        for ((ingress, egress), direction) in ingress.iter().zip(egress).zip(directions) {
            let is_egress = *direction == EGRESS;
            let point = (is_egress, if is_egress { *egress } else { *ingress });
            if last == Some(point) {
                continue;
            }
            last = Some(point);
            let known = if is_egress { &mut self.egress } else { &mut self.ingress };
            if let Err(place) = known.binary_search(&point.1)
                && known.len() < INTERFACES_MAX
            {
                known.insert(place, point.1);
            }
        }
    }

    fn tells_any_ingress(&self) -> bool {
        !self.ingress.is_empty()
    }

    fn tells_ingress(&self, interface: u32) -> bool {
        self.ingress.binary_search(&interface).is_ok()
    }

    fn tells_egress(&self, interface: u32) -> bool {
        self.egress.binary_search(&interface).is_ok()
    }
}

/// Marks repeats in the batches of one shard.
#[derive(Debug)]
pub struct Repeats {
    interfaces: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    networks: Watch,
    /// What the exporters' interfaces have reported; that of one more exporter than there is room for is taken for nothing.
    told: HashMap<Address, Told>,
}

impl Repeats {
    /// Marks by the boundaries that are published, `networks` being ours.
    #[must_use]
    pub fn new(interfaces: Arc<ArcSwap<Snapshot>>, networks: PrefixSet) -> Self {
        Self { interfaces: Cache::new(interfaces), networks: Watch::new(networks), told: HashMap::new() }
    }

    /// Writes `is_repeat` of every row; while the operator has said nothing of boundaries, there is nothing to do.
    #[inline]
    pub fn mark(&mut self, batch: &mut FlowBatch) {
        let Self { interfaces, networks, told } = self;
        let snapshot = interfaces.load();
        if !snapshot.has_boundaries() {
            return;
        }
        let mut last: Option<(Address, Option<&Boundaries>)> = None;
        for number in 0..batch.segments().len() {
            let Some(segment) = batch.segments().get(number).copied() else {
                break;
            };
            let exporter = segment.origin.exporter;
            let boundaries = match last {
                Some((own, boundaries)) if own == exporter => boundaries,
                _ => snapshot.boundaries(exporter),
            };
            last = Some((exporter, boundaries));
            if let Some(boundaries) = boundaries {
                let mut over = Told::default();
                let has_room = told.len() < EXPORTERS_MAX || told.contains_key(&exporter);
                let told = if has_room { told.entry(exporter).or_default() } else { &mut over };
                mark_segment(batch, &segment, boundaries, networks, told);
            }
        }
    }
}

fn mark_segment(batch: &mut FlowBatch, segment: &Segment, boundaries: &Boundaries, networks: &Watch, told: &mut Told) {
    let FlowBatch { ingress_interface, egress_interface, flow_direction, source_address, destination_address, labels, .. } = batch;
    let range = segment.first..segment.first + segment.rows;
    let (Some(ingress), Some(egress), Some(directions)) =
        (ingress_interface.get(range.clone()), egress_interface.get(range.clone()), flow_direction.get(range.clone()))
    else {
        return;
    };
    let (Some(sources), Some(destinations), Some(marks)) =
        (source_address.get(range.clone()), destination_address.get(range.clone()), labels.is_repeat.get_mut(range))
    else {
        return;
    };
    told.learn(ingress, egress, directions);
    let mut any = 0;
    let rows = ingress.iter().zip(egress).zip(directions).zip(sources.iter().zip(destinations)).zip(marks);
    for ((((ingress, egress), direction), (source, destination)), mark) in rows {
        let ends = Ends { networks, source: *source, destination: *destination };
        let (comes, goes) = ((*ingress, boundaries.of(*ingress)), (*egress, boundaries.of(*egress)));
        *mark = u8::from(!is_counted(comes, goes, *direction == EGRESS, told, &ends));
        any |= *mark;
    }
    if any != 0 {
        let places = Arc::clone(labels.places());
        labels.mark_written(&places);
    }
}

/// The two ends of a record, looked up only where the rule asks for them.
struct Ends<'a> {
    networks: &'a Watch,
    source: Address,
    destination: Address,
}

impl Ends<'_> {
    fn source_is_ours(&self, ingress: Boundary) -> bool {
        if self.networks.is_open() { ingress != Boundary::External } else { self.networks.holds(self.source) }
    }

    fn both_are_ours(&self) -> bool {
        self.networks.holds(self.source) && self.networks.holds(self.destination)
    }
}

/// The rule of this file.
#[inline]
fn is_counted(comes: (u32, Boundary), goes: (u32, Boundary), is_egress: bool, told: &Told, ends: &Ends<'_>) -> bool {
    let ((ingress_interface, ingress), (egress_interface, egress)) = (comes, goes);
    match (if is_egress { egress } else { ingress }, is_egress) {
        (Boundary::Undefined, _) | (Boundary::External, false) => true,
        (Boundary::External, true) => ends.source_is_ours(ingress),
        (Boundary::Internal, false) => {
            let is_last = egress == Boundary::External && !told.tells_egress(egress_interface);
            (is_last && ends.source_is_ours(ingress)) || ends.both_are_ours()
        }
        (Boundary::Internal, true) if ingress == Boundary::External => !told.tells_ingress(ingress_interface),
        (Boundary::Internal, true) => !told.tells_any_ingress() && ends.both_are_ours(),
    }
}

#[cfg(test)]
mod tests {
    use schemas::flow::{Column, ColumnSet, Origin, Version};

    use super::super::interface::{Config, Interfaces};
    use super::*;

    /// Interfaces 1 and 2 of every router are external, 3 to 8 internal, 9 nothing.
    fn repeats(networks: &[&str]) -> Repeats {
        let config: Config = serde_json::from_str(
            r#"{"rules": [{"interfaces": [1, 2], "boundary": "external"}, {"interfaces": [3, 4, 5, 6, 7, 8, 70000], "boundary": "internal"}]}"#,
        )
        .unwrap();
        Repeats::new(Interfaces::new(&config).published(), networks.iter().map(|text| text.parse().unwrap()).collect())
    }

    const PEER: &str = "198.51.100.1";
    const OTHER_PEER: &str = "2001:db8:ffff::1";
    const CUSTOMER: &str = "203.0.113.1";
    const OTHER_CUSTOMER: &str = "203.0.113.2";

    /// Router, ingress, egress, direction.
    type Sighting = (u32, u32, u32, u8);

    /// How many of the sightings of one packet are counted.
    fn counted(repeats: &mut Repeats, source: &str, destination: &str, sightings: &[Sighting]) -> usize {
        let mut batch = FlowBatch::with_capacity(16);
        for &(router, ingress, egress, direction) in sightings {
            let row = batch.rows();
            batch.source_address[row] = source.parse().unwrap();
            batch.destination_address[row] = destination.parse().unwrap();
            (batch.ingress_interface[row], batch.egress_interface[row], batch.flow_direction[row]) = (ingress, egress, direction);
            let columns = [
                Column::SourceAddress,
                Column::DestinationAddress,
                Column::IngressInterface,
                Column::EgressInterface,
                Column::FlowDirection,
            ];
            let exporter = Address::from_v4(0xc000_0200 + router);
            let origin = Origin { present: ColumnSet::of(&columns), ..Origin::of(exporter, Version::Netflow9) };
            batch.commit(1, origin);
        }
        // Once to learn who reports what goes out, as the second flow of any exporter does.
        repeats.mark(&mut batch);
        repeats.mark(&mut batch);
        let marks = batch.labels.is_repeat[..batch.rows()].iter();
        assert_eq!(batch.labels.are_written(), marks.clone().any(|mark| *mark != 0));
        marks.filter(|mark| **mark == 0).count()
    }

    fn of_networks(source: &str, destination: &str, sightings: &[Sighting]) -> usize {
        counted(&mut repeats(&["203.0.113.0/24"]), source, destination, sightings)
    }

    #[test]
    fn transit_through_one_router_that_reports_both_ways_is_counted_where_it_comes_in() {
        assert_eq!(of_networks(PEER, OTHER_PEER, &[(1, 1, 2, 0), (1, 1, 2, 1)]), 1);
        assert_eq!(of_networks(PEER, OTHER_PEER, &[(1, 1, 2, 0)]), 1);
    }

    #[test]
    fn transit_through_two_routers_is_counted_once() {
        // In at router 1, over the backbone, out at router 2; all four interfaces report.
        assert_eq!(of_networks(PEER, OTHER_PEER, &[(1, 1, 3, 0), (1, 1, 3, 1), (2, 4, 2, 0), (2, 4, 2, 1)]), 1);
        // What comes in only.
        assert_eq!(of_networks(PEER, OTHER_PEER, &[(1, 1, 3, 0), (2, 4, 2, 0)]), 1);
    }

    #[test]
    fn from_a_customer_to_the_internet_is_counted_where_it_leaves() {
        assert_eq!(of_networks(CUSTOMER, PEER, &[(1, 5, 3, 0), (1, 5, 3, 1), (2, 4, 2, 0), (2, 4, 2, 1)]), 1);
        assert_eq!(of_networks(CUSTOMER, PEER, &[(2, 5, 2, 0), (2, 5, 2, 1)]), 1);
        // Routers that report what comes in only: at the last of them, whose egress interface is external.
        assert_eq!(of_networks(CUSTOMER, PEER, &[(1, 5, 3, 0), (2, 4, 2, 0)]), 1);
        assert_eq!(of_networks(CUSTOMER, PEER, &[(2, 5, 2, 0)]), 1);
        // A switch that reports what goes out only.
        assert_eq!(of_networks(CUSTOMER, PEER, &[(1, 5, 3, 1), (2, 4, 2, 1)]), 1);
    }

    #[test]
    fn from_the_internet_to_a_customer_is_counted_where_it_comes_in() {
        assert_eq!(of_networks(PEER, CUSTOMER, &[(1, 1, 3, 0), (1, 1, 3, 1), (2, 4, 5, 0), (2, 4, 5, 1)]), 1);
        assert_eq!(of_networks(PEER, CUSTOMER, &[(1, 1, 3, 0), (2, 4, 5, 0)]), 1);
        // Routers that report what goes out only: at the first of them, whose ingress interface is external.
        assert_eq!(of_networks(PEER, CUSTOMER, &[(1, 1, 3, 1), (2, 4, 5, 1)]), 1);
        assert_eq!(of_networks(PEER, CUSTOMER, &[(1, 1, 5, 1)]), 1);
    }

    #[test]
    fn what_one_interface_reports_says_nothing_of_another() {
        // Out by interface 1, which reports what comes in only, though interface 2 reports both.
        assert_eq!(of_networks(CUSTOMER, PEER, &[(1, 5, 2, 1), (1, 5, 1, 0)]), 2);
    }

    #[test]
    fn from_customer_to_customer_is_counted_where_it_comes_in() {
        assert_eq!(of_networks(CUSTOMER, OTHER_CUSTOMER, &[(1, 5, 6, 0), (1, 5, 6, 1)]), 1);
        // Customers' interfaces report both ways and the backbone's do not.
        let mut repeats = repeats(&["203.0.113.0/24"]);
        assert_eq!(
            counted(&mut repeats, OTHER_CUSTOMER, CUSTOMER, &[(2, 6, 4, 0), (1, 3, 5, 1)]),
            2,
            "router 1 has told of nothing that comes in"
        );
        for _ in 0..2 {
            assert_eq!(counted(&mut repeats, CUSTOMER, OTHER_CUSTOMER, &[(1, 5, 3, 0), (2, 4, 6, 1)]), 1);
            assert_eq!(counted(&mut repeats, OTHER_CUSTOMER, CUSTOMER, &[(2, 6, 4, 0), (1, 3, 5, 1)]), 1);
        }
    }

    #[test]
    fn from_customer_to_customer_is_counted_where_it_leaves_if_nothing_that_comes_in_is_reported() {
        assert_eq!(of_networks(CUSTOMER, OTHER_CUSTOMER, &[(1, 5, 6, 1)]), 1);
        assert_eq!(of_networks(CUSTOMER, PEER, &[(1, 5, 3, 1)]), 0, "it leaves the network elsewhere");
    }

    #[test]
    fn an_interface_of_which_nobody_says_anything_counts_everything() {
        assert_eq!(of_networks(PEER, OTHER_PEER, &[(1, 9, 9, 0), (1, 9, 9, 1), (1, 4_000_000_000, 0, 0)]), 3);
    }

    #[test]
    fn without_networks_a_source_is_ours_if_it_does_not_come_in_from_outside() {
        let of = |sightings: &[Sighting]| counted(&mut repeats(&[]), CUSTOMER, PEER, sightings);
        assert_eq!(of(&[(1, 1, 2, 0), (1, 1, 2, 1)]), 1);
        assert_eq!(of(&[(1, 5, 2, 0), (1, 5, 2, 1)]), 1);
        assert_eq!(of(&[(1, 1, 5, 0), (1, 1, 5, 1)]), 1);
    }

    #[test]
    fn large_numbers_are_found_and_nothing_is_written_without_boundaries() {
        assert_eq!(of_networks(PEER, OTHER_PEER, &[(1, 70_000, 70_000, 1)]), 0);
        let mut nothing = Repeats::new(Interfaces::new(&Config::default()).published(), PrefixSet::default());
        assert_eq!(counted(&mut nothing, PEER, OTHER_PEER, &[(1, 1, 2, 0), (1, 1, 2, 1)]), 2);
    }
}
