//! The pipe by values and a given clock.

use std::net::UdpSocket;

use schemas::limit::Limit;

use super::*;
use crate::receive;

pub(crate) fn limits() -> Limits {
    Limits::of_hosts(Limit::of(100_000.0, 1e9))
}

/// A version 5 datagram of one record: 10 packets of 1,000 octets from 192.0.2.1 to 203.0.113.9, at the moment of its header.
pub(crate) fn netflow5(sequence: u32, seconds: u32) -> Vec<u8> {
    let mut datagram = vec![0, 5, 0, 1];
    // Uptime, seconds, nanoseconds, sequence, engine and sampling.
    [1_000, seconds, 0, sequence, 0].iter().for_each(|word: &u32| datagram.extend(word.to_be_bytes()));
    datagram.extend([192, 0, 2, 1, 203, 0, 113, 9, 0, 0, 0, 0, 0, 1, 0, 2]);
    [10, 10_000, 900, 1_000].iter().for_each(|word: &u32| datagram.extend(word.to_be_bytes()));
    datagram.extend([0, 53, 15, 160, 0, 0, 17, 0, 0, 0, 0, 0, 24, 24, 0, 0]);
    datagram
}

fn pipe(config: &Config) -> Pipe {
    let networks = ["203.0.113.0/24".parse().unwrap()].into_iter().collect();
    Pipe::new(0, config, Templates::Inline, networks, limits())
}

fn take(pipe: &mut Pipe, arrival: Timestamp, payload: &[u8]) {
    pipe.datagram(&Datagram { exporter: "198.51.100.1".parse().unwrap(), source_port: 9, arrival, payload });
}

#[test]
fn every_datagram_record_and_set_is_in_one_place_after_a_drain() {
    let mut pipe = pipe(&Config::default());
    for number in 0..10 {
        take(&mut pipe, Timestamp(1_000_000 + u64::from(number)), &netflow5(number, 1_000));
    }
    take(&mut pipe, Timestamp(1_000_020), &netflow5(10, 1_000)[..40]);
    let cut = Datagram { exporter: "198.51.100.1".parse().unwrap(), source_port: 9, arrival: Timestamp(1_000_021), payload: &[] };
    pipe.cut_datagram(&cut);
    let snapshot = pipe.finish(Timestamp(1_000_050));
    let ledger = snapshot.ledger.unwrap();
    assert_eq!((ledger.datagrams_received, ledger.datagrams_malformed, ledger.records_counted), (12, 2, 10));
    assert!(ledger.imbalance().iter().all(|(_, difference)| *difference == 0), "{ledger:?}");
    assert_eq!((snapshot.exporters.len(), snapshot.exporters[0].domains.len()), (1, 1));
}

#[test]
fn a_slot_makes_a_snapshot_and_a_second_makes_reports() {
    let mut pipe = pipe(&Config::default());
    assert!(pipe.tick(Timestamp(1_000_000)).is_some_and(|snapshot| snapshot.ledger.is_some()));
    assert!(pipe.tick(Timestamp(1_000_099)).is_none());
    take(&mut pipe, Timestamp(1_000_099), &netflow5(0, 1_000));
    let closed = pipe.tick(Timestamp(1_000_100)).unwrap();
    assert!(closed.ledger.is_none() && closed.exporters.is_empty());
    // A tick that comes late closes what has ended since.
    let late = pipe.tick(Timestamp(1_001_350)).unwrap();
    assert_eq!((late.ledger.unwrap().records_counted, late.exporters.len(), late.taken_at), (1, 1, Timestamp(1_001_350)));
    assert_eq!(pipe.slot_ends(), Timestamp(1_001_400));
}

#[test]
fn a_clock_that_is_set_back_does_not_stop_the_snapshots() {
    let mut pipe = pipe(&Config::default());
    assert!(pipe.tick(Timestamp(10_000_000)).is_some());
    let back = pipe.tick(Timestamp(6_400_050)).unwrap();
    assert!(back.ledger.is_some());
    assert!(pipe.tick(Timestamp(6_400_060)).is_none());
    assert!(pipe.tick(Timestamp(6_400_100)).is_some());
}

#[test]
fn the_allow_list_holds_for_exporters_and_not_for_our_own_interfaces() {
    let receive = receive::Config { exporters_allowed: vec!["192.0.2.0/24".parse().unwrap()], ..receive::Config::default() };
    let mut pipe = pipe(&Config { receive, ..Config::default() });
    take(&mut pipe, Timestamp(1_000_000), &netflow5(0, 1_000));
    let octets = [0x45, 0, 0, 28, 0, 1, 0, 0, 61, 17, 0, 0, 192, 0, 2, 1, 203, 0, 113, 9, 0, 53, 15, 160, 0, 8, 0, 0];
    let link = Some(crate::decode::frame::Link::Ip);
    let frame = Frame { link, octets: &octets, original_octets: 28, arrival: Timestamp(1_000_001), vlan_id: 0 };
    pipe.frames(std::iter::once(frame), 2, Timestamp(1_000_001));
    let snapshot = pipe.finish(Timestamp(1_000_050));
    let ledger = snapshot.ledger.unwrap();
    assert_eq!((ledger.datagrams_received, ledger.datagrams_refused, ledger.records_counted), (2, 1, 1));
    assert_eq!(snapshot.exporters.iter().map(|report| report.exporter).collect::<Vec<_>>(), [OBSERVER]);
}

/// An IPFIX message (RFC 7011 §3) of these sets, each an id and what follows its header.
fn ipfix(sequence: u32, sets: &[(u16, &[u8])]) -> Vec<u8> {
    let sets: Vec<u8> = sets
        .iter()
        .flat_map(|(id, body)| [&id.to_be_bytes()[..], &u16::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat())
        .collect();
    let mut message = vec![0, 10];
    message.extend(u16::try_from(sets.len() + 16).unwrap().to_be_bytes());
    [1_000, sequence, 7].iter().for_each(|word: &u32| message.extend(word.to_be_bytes()));
    message.extend(sets);
    message
}

/// Two flows of interface 1 come before the exporter tells that it samples 1 in 100 packets there: they are counted at once, and stored with
/// the rate when it has come.
#[test]
fn a_rate_that_is_told_later_holds_for_flows_that_wait_to_be_stored() {
    let (mut handovers, intake) = crate::store::handover::handovers(&crate::store::config::Config::default(), 1, ROWS_COUNTED_MAX);
    let mut pipe = pipe(&Config::default()).stored(handovers.pop());
    // destinationIPv4Address, packetDeltaCount, ingressInterface; options of an interface (scope) and its samplingInterval.
    let template = [1, 0, 0, 3, 0, 12, 0, 4, 0, 2, 0, 4, 0, 10, 0, 4];
    let options = [1, 1, 0, 2, 0, 1, 0, 10, 0, 4, 0, 34, 0, 4];
    let flow = [203, 0, 113, 9, 0, 0, 0, 5, 0, 0, 0, 1];
    take(&mut pipe, Timestamp(1_000_000), &ipfix(0, &[(2, &template), (3, &options), (256, &[flow, flow].concat())]));
    let counted = pipe.tick(Timestamp(1_000_100)).unwrap();
    assert_eq!(counted.ledger.unwrap().records_counted, 2);
    pipe.tick(Timestamp(1_001_100));
    assert!(intake.next(Duration::ZERO).is_err(), "they wait");
    take(&mut pipe, Timestamp(1_001_200), &ipfix(2, &[(257, &[0, 0, 0, 1, 0, 0, 0, 100]), (256, &flow)]));
    let snapshot = pipe.finish(Timestamp(1_001_300));
    let parcels: Vec<_> = std::iter::from_fn(|| intake.next(Duration::ZERO).ok()).collect();
    let intervals: Vec<u32> = parcels.iter().flat_map(|parcel| parcel.batch.sampling_interval[..parcel.batch.rows()].to_vec()).collect();
    assert_eq!(intervals, [100; 3]);
    let store = snapshot.store.unwrap();
    assert_eq!((store.records_rate_learned, store.records_waiting, store.imbalance(3)), (2, 3, 0));
}

#[test]
fn a_full_queue_loses_snapshots_by_count_and_never_blocks() {
    let receive =
        receive::Config { netflow: vec!["127.0.0.1:0".parse().unwrap()], ipfix: Vec::new(), sflow: Vec::new(), ..Default::default() };
    let (snapshots, _receiver) = crossbeam_channel::bounded(1);
    let metrics = Arc::new(Metrics::default());
    let sources = receive::open(&receive, 1).unwrap().remove(0);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(&netflow5(0, 1_000), sources.listeners()[0].address()).unwrap();
    let pipe = pipe(&Config::default());
    let limits = SharedLimits::new(limits());
    let gather = Gather::new(Duration::ZERO);
    let mut shard = Shard { pipe, sources, limits, snapshots, metrics: metrics.clone(), gather, drain: Duration::from_secs(1) };
    (0..3).for_each(|_| shard.send(Snapshot::default()));
    // The stop is already there: what the kernel holds is taken all the same.
    let ledger = shard.run(&AtomicBool::new(true));
    assert_eq!((ledger.datagrams_received, ledger.datagrams_decoded), (1, 1));
    let counts: std::collections::HashMap<_, _> = metrics.counts().collect();
    // The first fills the queue; two more and the last one find it full.
    assert_eq!((counts["weir_collector_snapshots_lost_total"], counts["weir_collector_messages_total"]), (3, 1));
}

/// However long datagrams may gather: what came until a slot ended is in its snapshot, and the next slot's is no later for it.
#[test]
fn datagrams_gather_no_longer_than_a_slot() {
    let receive =
        receive::Config { netflow: vec!["127.0.0.1:0".parse().unwrap()], ipfix: Vec::new(), sflow: Vec::new(), ..Default::default() };
    let (snapshots, receiver) = crossbeam_channel::bounded(64);
    let sources = receive::open(&receive, 1).unwrap().remove(0);
    let address = sources.listeners()[0].address();
    let (metrics, limits) = (Arc::new(Metrics::default()), SharedLimits::new(limits()));
    let gather = Gather::new(Duration::from_secs(3_600));
    let shard = Shard { pipe: pipe(&Config::default()), sources, limits, snapshots, metrics, gather, drain: Duration::from_secs(1) };
    let stop = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || shard.run(&stop)
    });
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..3 {
        sender.send_to(&netflow5(number, 1_000), address).unwrap();
        // A snapshot with a ledger is taken each second: its datagrams are all that were sent before it.
        let seen = receiver.iter().find_map(|snapshot| snapshot.ledger.filter(|ledger| ledger.datagrams_received > u64::from(number)));
        assert_eq!(seen.map(|ledger| ledger.datagrams_received), Some(u64::from(number) + 1));
    }
    stop.store(true, Ordering::Relaxed);
    assert_eq!(thread.join().unwrap().datagrams_received, 3);
}
