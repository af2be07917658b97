//! The collector on loopback, from its sockets to its ledgers.

use std::net::UdpSocket;

use super::*;
use crate::receive::udp::ListenError;
use crate::shard::tests::{limits, netflow5};

fn config() -> Config {
    let receive = receive::Config {
        netflow: vec!["127.0.0.1:0".parse().unwrap()],
        ipfix: Vec::new(),
        sflow: Vec::new(),
        shards: 2,
        ..receive::Config::default()
    };
    Config { receive, ..Config::default() }
}

fn start(config: &Config) -> (Collector, Receiver<Snapshot>) {
    Collector::start(config, &PrefixSet::default(), &limits(), None, Vec::new()).unwrap()
}

#[test]
fn a_stop_takes_what_the_kernel_holds_and_every_count_adds_up() {
    let (collector, snapshots) = start(&config());
    let senders: Vec<_> = (0..16).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let address = collector.addresses()[0];
    let seconds = u32::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap();
    for number in 0..100 {
        senders.iter().for_each(|sender| assert_eq!(sender.send_to(&netflow5(number, seconds), address).unwrap(), 72));
    }
    assert!(collector.is_whole());
    let ledger = collector.stop();
    assert_eq!((ledger.datagrams_received, ledger.datagrams_decoded, ledger.records_counted), (1_600, 1_600, 1_600));
    assert!(ledger.imbalance().iter().all(|(_, difference)| *difference == 0), "{ledger:?}");
    // The last snapshot of each shard tells the same.
    let mut last = [Ledger::default(); 2];
    snapshots.iter().for_each(|snapshot| {
        if let Some(ledger) = snapshot.ledger {
            last[snapshot.shard] = ledger;
        }
    });
    assert_eq!(last[0].datagrams_received + last[1].datagrams_received, 1_600);
}

#[test]
fn exporters_outside_the_allow_list_are_refused_and_counted() {
    let mut config = config();
    config.receive.exporters_allowed = vec!["192.0.2.0/24".parse().unwrap()];
    let (collector, _snapshots) = start(&config);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&netflow5(0, 1), collector.addresses()[0]).unwrap();
    let ledger = collector.stop();
    assert_eq!((ledger.datagrams_received, ledger.datagrams_refused, ledger.records_decoded), (1, 1, 0));
}

#[test]
fn a_second_collector_on_the_same_port_is_told_who_has_it() {
    let (collector, _snapshots) = start(&config());
    let mut config = config();
    config.receive.netflow = collector.addresses().to_vec();
    let error = Collector::start(&config, &PrefixSet::default(), &limits(), None, Vec::new()).unwrap_err();
    let StartError::Receive(ReceiveError::Listen(ListenError::InUse { holder: Some(holder), .. })) = &error else { panic!("{error}") };
    assert_eq!(holder.pid, std::process::id());
    assert_eq!(collector.stop().datagrams_received, 0);
}
