//! Sockets on loopback: datagrams of any size, IPv4 and IPv6, drops, a port in use; frames of the loopback interface.

use std::net::UdpSocket;

use super::*;

fn config(listen: &str) -> Config {
    Config { netflow: vec![listen.parse().unwrap()], ipfix: Vec::new(), sflow: Vec::new(), ..Config::default() }
}

/// Takes rounds until `count` messages have come or two seconds are over.
fn collect(sources: &mut Sources, count: usize) -> Vec<(String, u16, Vec<u8>)> {
    let mut all = Vec::new();
    let start = std::time::Instant::now();
    while all.len() < count && start.elapsed() < Duration::from_secs(2) {
        sources.wait(Duration::from_millis(20)).unwrap();
        sources
            .round(|arrival, burst| {
                assert!(arrival > Timestamp(0));
                let Burst::Datagrams(ring) = burst else { panic!("no interface is read") };
                all.extend(ring.messages().map(|message| {
                    let (source, port) = message.sender().unwrap();
                    assert!(!message.is_cut);
                    (source.to_string(), port, message.octets.to_vec())
                }));
            })
            .unwrap();
    }
    all
}

#[test]
fn datagrams_of_every_size_come_with_their_sender() {
    let mut sources = open(&config("127.0.0.1:0"), 1).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own_port = sender.local_addr().unwrap().port();
    // 65,507 octets: 65,535 less the IPv4 and UDP headers.
    let sizes = [0, 1, 1_472, 65_507];
    for size in sizes {
        sender.send_to(&vec![7; size], sources[0].listeners()[0].address()).unwrap();
    }
    let received = collect(&mut sources[0], sizes.len());
    let expected: Vec<_> = sizes.iter().map(|&size| ("127.0.0.1".to_owned(), own_port, vec![7; size])).collect();
    assert_eq!(received, expected);
    assert_eq!(sources[0].drops(), 0);
}

#[test]
fn a_socket_on_all_of_ipv6_takes_ipv4_as_ipv4() {
    let mut sources = open(&config("[::]:0"), 1).unwrap();
    let port = sources[0].listeners()[0].address().port();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"4", ("127.0.0.1", port)).unwrap();
    UdpSocket::bind("[::1]:0").unwrap().send_to(b"6", ("::1", port)).unwrap();
    let mut senders: Vec<_> = collect(&mut sources[0], 2).into_iter().map(|(sender, _, _)| sender).collect();
    senders.sort();
    assert_eq!(senders, ["127.0.0.1", "::1"]);
}

#[test]
fn both_families_can_have_the_same_port() {
    let probe = open(&config("127.0.0.1:0"), 1).unwrap();
    let port = probe[0].listeners()[0].address().port();
    drop(probe);
    let both = Config { ipfix: vec![format!("[::]:{port}").parse().unwrap()], ..config(&format!("0.0.0.0:{port}")) };
    assert_eq!(open(&both, 2).unwrap()[1].listeners().len(), 2);
}

#[test]
fn a_port_in_use_names_the_address_and_the_holder() {
    let sources = open(&config("127.0.0.1:0"), 2).unwrap();
    let address = sources[0].listeners()[0].address();
    // The sockets that hold it share their port, and still a second one is refused.
    let error = open(&config(&address.to_string()), 1).unwrap_err();
    let ReceiveError::Listen(ListenError::InUse { address: named, holder: Some(holder) }) = &error else { panic!("{error}") };
    assert_eq!((*named, holder.pid), (address, std::process::id()));
    assert!(error.to_string().contains(&format!("{address}/udp is in use by")), "{error}");
    assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
}

#[test]
fn an_address_of_another_machine_is_refused_by_name() {
    let error = open(&config("192.0.2.77:2055"), 1).unwrap_err();
    assert!(error.to_string().starts_with("cannot listen on 192.0.2.77:2055/udp: "), "{error}");
}

#[test]
fn what_the_kernel_drops_is_counted() {
    let small = Config { socket_buffer_octets: 1, ..config("127.0.0.1:0") };
    let mut sources = open(&small, 1).unwrap();
    let address = sources[0].listeners()[0].address();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..200 {
        sender.send_to(&[1; 1_000], address).unwrap();
    }
    let kept = collect(&mut sources[0], 200).len();
    // The count travels with the next datagram that is kept.
    sender.send_to(&[2], address).unwrap();
    let kept = kept + collect(&mut sources[0], 1).len();
    assert!(kept < 201);
    assert_eq!(sources[0].drops(), 201 - kept as u64);
}

#[test]
fn sockets_of_several_shards_share_the_senders() {
    let mut sources = open(&config("127.0.0.1:0"), 2).unwrap();
    let address = sources[0].listeners()[0].address();
    let senders: Vec<_> = (0..64).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    senders.iter().for_each(|sender| assert_eq!(sender.send_to(b"x", address).unwrap(), 1));
    let counts: Vec<_> = sources.iter_mut().map(|sources| collect(sources, 64).len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 64);
    // All 64 on one socket by chance: 2 in 2⁶⁴.
    assert!(!counts.contains(&0), "{counts:?}");
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let error = open(&Config { mirror: vec!["weir-none".to_owned()], ..config("127.0.0.1:0") }, 1).unwrap_err();
    assert_eq!(error.to_string(), "there is no network interface weir-none");
}

#[test]
fn unknown_keys_are_errors_and_absent_ones_defaults() {
    let config: Config = serde_json::from_str(r#"{"netflow": ["127.0.0.1:2055"], "exporters_allowed": ["192.0.2.0/24"]}"#).unwrap();
    assert_eq!((config.ipfix[0].port(), config.sflow[0].port(), config.exporters_allowed.len()), (4_739, 6_343, 1));
    assert!(serde_json::from_str::<Config>(r#"{"netflows": []}"#).is_err());
}

/// A nanosecond for each octet of room: 64 KiB, which the kernel doubles, are 131 µs.
#[test]
fn a_small_buffer_shortens_the_gathering_and_a_large_one_does_not() {
    let small = open(&Config { socket_buffer_octets: 65_536, ..config("127.0.0.1:0") }, 1).unwrap();
    let pause = |longest: Duration| {
        let mut gather = small[0].gather(longest);
        gather.take(1);
        gather.pause(std::time::Instant::now()).unwrap()
    };
    assert_eq!(pause(Duration::from_millis(2)), Duration::from_nanos(131_072));
    assert_eq!(pause(Duration::from_micros(100)), Duration::from_micros(100));
}
