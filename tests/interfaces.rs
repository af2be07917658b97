//! Flows against interface counters: a real switch samples what crosses it and tells what its ports count, and a running Weir holds one
//! against the other.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tests::exporters::OpenVswitch;
use tests::flood::now;
use tests::isolation::{folder, isolated, run};
use tests::process::wait_until;
use tests::server::{SFLOW, Server};
use tests::traffic::{Sums, Traffic};

const PATIENCE: Duration = Duration::from_secs(60);
/// One packet in so many is sampled.
const RATE: u32 = 4;
/// How often the capture is sent.
const ROUNDS: u64 = 5;
/// 1.96 standard errors are what the page tells; five of them a right program exceeds once in 1.7 million runs.
const FIVE_ERRORS: f64 = 5.0 / 1.96;

/// What is known of one direction of a port of the switch.
#[derive(Debug)]
struct Port {
    /// What the page of the exporter says.
    page: Value,
    /// What the kernel counts, without the 14 octets of Ethernet.
    counted: Sums,
}

/// The switch's two ports after some 25,000 packets from one to the other: that which they came in by, and that which they left by.
#[derive(Debug)]
struct Observed {
    sent: Sums,
    ports: [Port; 2],
}

/// Runs the traffic through the switch into a Weir that is configured with this, and asks what it makes of it.
fn observed(sampling: &str) -> Observed {
    let (traffic, capture) = (Traffic::conversations(20), folder().join("traffic.pcap"));
    traffic.write(&capture);
    // A veth counts the 14 octets of Ethernet, and has no check sequence.
    let server = Server::start(&format!(
        "networks = [\"203.0.113.0/24\"]\n[collector.decode]\nsampling = [{sampling}]\n[collector.interfaces]\nlayer_2_octets = 14\n\
         [collector.store]\nwait_milliseconds_max = 1000\n"
    ));
    wait_until("the engine", PATIENCE, || server.metric("weir_collector_engine_up") >= 1.0);
    let switch = OpenVswitch::start();
    switch.forward();
    // Counters are told by the minute, and once one is over, from the store: all that follows is to lie in one.
    let second = now().milliseconds() / 1_000 % 60;
    if second > 15 {
        sleep(Duration::from_secs(60 - second));
    }
    switch.export_sflow(SFLOW.parse().unwrap(), RATE);
    let [ingress, egress] = ["port0", "port1"].map(index);
    // Counters are of what comes between two samples: the first must be there before the first packet.
    wait_until("counters", PATIENCE, || side(&server, ingress, "in")["counters_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    for _ in 0..ROUNDS {
        assert!(switch.replay(&capture, 2_500).finish(PATIENCE).success());
    }
    let all = traffic.all();
    let sent = Sums { packets: all.packets * ROUNDS, octets: all.octets * ROUNDS };
    // Quiet seconds make the one between the last sample and the question a small part of the whole.
    sleep(Duration::from_secs(15));
    let ports = [(ingress, "port0", "in", "rx"), (egress, "port1", "out", "tx")].map(|(index, name, way, counter)| {
        let port = Port { page: side(&server, index, way), counted: counted(name, counter) };
        println!("{name}: {:?} of {sent:?}, {:#}", port.counted, port.page);
        port
    });
    server.stop();
    Observed { sent, ports }
}

/// The kernel's count of a port: `rx` or `tx`.
fn counted(interface: &str, counter: &str) -> Sums {
    let told: Value = serde_json::from_str(&run("ip", &["-s", "-j", "link", "show", interface])).unwrap();
    let number = |key: &str| told[0]["stats64"][counter][key].as_u64().unwrap();
    let packets = number("packets");
    Sums { packets, octets: number("bytes") - 14 * packets }
}

fn index(interface: &str) -> u64 {
    run("ip", &["-o", "link", "show", interface]).split(':').next().unwrap().parse().unwrap()
}

/// One direction of an interface as the page of its exporter has it; null if the exporter or the interface is not there yet.
fn side(server: &Server, index: u64, way: &str) -> Value {
    // With an end, so that the minute that is going on is in it.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let to = schemas::time::Timestamp(u64::try_from(now.as_millis()).unwrap());
    let (status, page) = server.get(&format!("/api/v1/exporters/127.0.0.1/interfaces?from=now-1h&to={to}"));
    assert!(status == 200 || status == 404, "{page}");
    let interfaces = page["interfaces"].as_array().cloned().unwrap_or_default();
    interfaces.into_iter().find(|interface| interface["index"] == index).map(|interface| interface[way].clone()).unwrap_or_default()
}

/// Holds the ratio of flows to counters against what it should be if `factor` times the packets that crossed the switch are taken for flows:
/// within the sampling error, and the two seconds by which the times may differ that both were summed over.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn assert_ratio(port: &Port, sent: Sums, factor: f64) {
    let number = |key: &str| port.page[key].as_f64().unwrap();
    // On a busy machine a packet that was sampled may be lost before it leaves.
    let expected = factor * sent.octets as f64 / port.counted.octets as f64;
    let room = FIVE_ERRORS * number("ratio_error") + expected * 2.0 / number("counters_seconds");
    assert!(number("ratio_error") > 0.0 && (number("ratio") - expected).abs() < room, "{expected} ± {room}: {port:#?}");
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn flows_and_counters_of_a_switch_agree_within_the_sampling_error() {
    isolated(|| {
        let Observed { sent, ports } = observed("");
        for port in &ports {
            let number = |key: &str| port.page[key].as_f64().unwrap();
            assert_eq!((&port.page["verdict"], &port.page["counters_source"]), (&"agrees".into(), &"sflow".into()));
            // Every packet is counted; seconds are told to the tenth.
            let octets = number("counters_ip_bps") * number("counters_seconds") / 8.0;
            assert!((octets / port.counted.octets as f64 - 1.0).abs() < 0.01, "{octets} of {:?}", port.counted);
            // The number of samples is binomial with p = 1 in RATE.
            let (packets, rate) = (sent.packets as f64, f64::from(RATE));
            let (samples, deviation) = (number("flows") / rate, (packets / rate * (1.0 - 1.0 / rate)).sqrt());
            assert!((samples - packets / rate).abs() < 5.0 * deviation, "{samples} samples of {packets} packets");
            assert_ratio(port, sent, 1.0);
        }
        assert_eq!(ports[0].counted, sent);
    });
}

#[test]
fn a_sampling_interval_that_is_set_wrong_shows_as_a_wrong_ratio() {
    isolated(|| {
        // Twice what the switch says of itself.
        let Observed { sent, ports } = observed("{ exporters = \"127.0.0.1\", interval = 8 }");
        for port in &ports {
            assert_eq!(port.page["verdict"], "flows_high");
            assert!(port.page["explanation"].as_str().unwrap().contains("to 8: with 4 flows and counters would agree"), "{port:#?}");
            assert_ratio(port, sent, 2.0);
        }
    });
}
