//! Real exporters meter a capture whose packets and octets are known; what is decoded of their datagrams adds up to it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::Duration;

use tests::exporters::{OpenVswitch, Probe, pmacctd, softflowd};
use tests::isolation::{folder, isolated};
use tests::process::Process;
use tests::sink::{Heard, Sink};
use tests::traffic::{Sums, Traffic};
use tests::weir::{Decoded, decode};

const PATIENCE: Duration = Duration::from_secs(40);

/// Some 5,000 packets of 84 conversations, and the capture that holds them.
fn traffic() -> (Traffic, PathBuf) {
    let traffic = Traffic::conversations(20);
    let path = folder().join("traffic.pcap");
    traffic.write(&path);
    (traffic, path)
}

/// Records what the exporter sends until it ends, and decodes the recording.
fn decoded(sink: &mut Sink, mut exporter: Process) -> Decoded {
    sink.listen(PATIENCE, |_| !exporter.is_running());
    decoded_so_far(sink)
}

fn decoded_so_far(sink: &Sink) -> Decoded {
    let recording = folder().join("recording.pcap");
    sink.record(&recording);
    let decoded = decode(&recording);
    println!("{} datagrams, {}", sink.heard().len(), decoded.totals);
    assert_eq!(decoded.total("datagrams"), u64::try_from(sink.heard().len()).unwrap());
    assert_eq!((decoded.total("malformed"), decoded.total("undecoded_sets"), decoded.total("lost_by_sequence")), (0, 0, 0));
    decoded
}

/// softflowd counts IP octets: the total length of an IPv4 packet, payload and header of an IPv6 packet.
#[test]
fn softflowd_with_version_5_adds_up_to_the_ipv4_part_of_the_capture() {
    isolated(|| {
        let ((traffic, capture), mut sink) = (traffic(), Sink::new());
        let exporter = softflowd(&capture, sink.address(), 5);
        assert_eq!(decoded(&mut sink, exporter).sums(), traffic.v4);
    });
}

#[test]
fn softflowd_with_version_9_adds_up_to_the_capture() {
    isolated(|| {
        let ((traffic, capture), mut sink) = (traffic(), Sink::new());
        let exporter = softflowd(&capture, sink.address(), 9);
        assert_eq!(decoded(&mut sink, exporter).sums(), traffic.all());
    });
}

#[test]
fn softflowd_with_ipfix_adds_up_to_the_capture() {
    isolated(|| {
        let ((traffic, capture), mut sink) = (traffic(), Sink::new());
        let exporter = softflowd(&capture, sink.address(), 10);
        assert_eq!(decoded(&mut sink, exporter).sums(), traffic.all());
    });
}

/// pmacctd counts IP octets as softflowd does.
#[test]
fn pmacctd_with_version_5_adds_up_to_the_ipv4_part_of_the_capture() {
    isolated(|| {
        let ((traffic, capture), mut sink) = (traffic(), Sink::new());
        let exporter = pmacctd(&capture, sink.address(), Probe::Netflow(5));
        assert_eq!(decoded(&mut sink, exporter).sums(), traffic.v4);
    });
}

#[test]
fn pmacctd_with_version_9_adds_up_to_the_capture() {
    isolated(|| {
        let ((traffic, capture), mut sink) = (traffic(), Sink::new());
        let exporter = pmacctd(&capture, sink.address(), Probe::Netflow(9));
        assert_eq!(decoded(&mut sink, exporter).sums(), traffic.all());
    });
}

#[test]
fn pmacctd_with_ipfix_adds_up_to_the_capture() {
    isolated(|| {
        let ((traffic, capture), mut sink) = (traffic(), Sink::new());
        let exporter = pmacctd(&capture, sink.address(), Probe::Netflow(10));
        assert_eq!(decoded(&mut sink, exporter).sums(), traffic.all());
    });
}

/// pmacctd samples in the order of the capture and keeps the datagram that is not full at the end: at most 8 samples of 1,400 octets.
#[test]
fn pmacctd_with_unsampled_sflow_adds_up_to_the_frames_of_the_capture() {
    isolated(|| {
        let ((mut traffic, capture), mut sink) = (traffic(), Sink::new());
        let exporter = pmacctd(&capture, sink.address(), Probe::Sflow(1));
        let sums = decoded(&mut sink, exporter).sums();
        let kept = usize::try_from(sums.packets).unwrap();
        assert!((traffic.packets.len() - 8..=traffic.packets.len()).contains(&kept), "{kept} samples");
        traffic.packets.truncate(kept);
        assert_eq!(sums, frames(&traffic));
    });
}

#[test]
fn pmacctd_with_sampled_sflow_estimates_the_capture_within_the_sampling_error() {
    isolated(|| {
        let ((traffic, capture), mut sink) = (traffic(), Sink::new());
        let exporter = pmacctd(&capture, sink.address(), Probe::Sflow(4));
        assert_estimate(&decoded(&mut sink, exporter), &traffic, 4);
    });
}

/// Open vSwitch's NetFlow is of IPv4 only and counts whole frames: 14 octets of Ethernet with every packet.
#[test]
fn open_vswitch_with_netflow_adds_up_to_the_ipv4_frames_of_the_capture() {
    isolated(|| {
        let ((traffic, capture), mut sink) = (traffic(), Sink::new());
        let switch = OpenVswitch::start();
        switch.export_netflow(sink.address());
        // A flow leaves when it has been idle for a second, or for ten while the switch is busy: the records tell when all are here.
        let _wire = switch.replay(&capture, 2_500);
        sink.listen(PATIENCE, |heard| netflow5_packets(heard) >= traffic.v4.packets);
        assert_eq!(decoded_so_far(&sink).sums(), traffic.v4.with_layer(14));
    });
}

/// Open vSwitch's IPFIX counts IP octets (`octetDeltaCount`, the layer 2 octets have elements of their own), as a packet enters
/// and as it leaves: towards an address never heard of it leaves by both other ports, the second one and the bridge's own.
#[test]
fn open_vswitch_with_ipfix_adds_up_to_the_capture_once_in_and_twice_out() {
    isolated(|| {
        let ((traffic, capture), mut sink) = (traffic(), Sink::new());
        let switch = OpenVswitch::start();
        switch.export_ipfix(sink.address());
        // Its cache is emptied every second: what is not here two silent seconds later never comes.
        let mut wire = switch.replay(&capture, 2_500);
        let mut quiet = Quiet::default();
        sink.listen(PATIENCE, |heard| !wire.is_running() && quiet.since(heard.len()) > Duration::from_secs(2));
        let all = traffic.all();
        assert_eq!(decoded_so_far(&sink).sums(), all.and(all).and(all));
    });
}

#[test]
fn open_vswitch_with_sampled_sflow_estimates_the_capture_within_the_sampling_error() {
    isolated(|| {
        let ((traffic, capture), mut sink) = (traffic(), Sink::new());
        let switch = OpenVswitch::start();
        switch.export_sflow(sink.address(), 4);
        // Datagrams leave every second, with counters if with nothing else, so that they never fall silent.
        let mut wire = switch.replay(&capture, 2_500);
        let mut quiet = Quiet::default();
        sink.listen(PATIENCE, |_| quiet.since(usize::from(wire.is_running())) > Duration::from_millis(2_500));
        let decoded = decoded_so_far(&sink);
        assert!(decoded.total("counters") > 0, "the switch sends interface counters too");
        assert_estimate(&decoded, &traffic, 4);
    });
}

/// The frames of the capture at sFlow's layer: with the check sequence of four octets, which it counts though it strips it.
fn frames(traffic: &Traffic) -> Sums {
    let octets = traffic.packets.iter().map(|packet| frame_octets(packet.octets.len())).sum();
    Sums { packets: u64::try_from(traffic.packets.len()).unwrap(), octets }
}

fn frame_octets(captured: usize) -> u64 {
    u64::try_from(captured).unwrap() + 4
}

/// Holds the estimate of a random sample, one packet in `rate`, against what was sent.
///
/// Each of the N packets is in the sample with probability p = 1 / rate, so that n, the number of samples, is binomial and
/// n / p estimates N with variance N (1 - p) / p; the octets Σ l / p vary by Σ l² (1 - p) / p. Five standard errors: a right
/// decoder fails once in 1.7 million runs.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn assert_estimate(decoded: &Decoded, traffic: &Traffic, rate: u32) {
    let all = frames(traffic);
    let squares: f64 = traffic.packets.iter().map(|packet| (frame_octets(packet.octets.len()) as f64).powi(2)).sum();
    let spread = f64::from(rate) - 1.0;
    let samples = decoded.sums();
    assert!(decoded.flows.iter().all(|flow| flow["sampling_interval"] == rate), "each sample tells its rate");
    for (what, estimate, truth, variance) in [
        ("packets", samples.packets as f64 * f64::from(rate), all.packets as f64, all.packets as f64 * spread),
        ("octets", samples.octets as f64 * f64::from(rate), all.octets as f64, squares * spread),
    ] {
        let errors = (estimate - truth) / variance.sqrt();
        println!("{what}: estimated {estimate}, sent {truth}: {errors:+.2} standard errors");
        assert!(errors.abs() < 5.0, "{what}: estimated {estimate}, sent {truth}");
    }
}

/// Packets of all version 5 records: 24 octets of header, records of 48 with their packets at octet 16.
fn netflow5_packets(heard: &[Heard]) -> u64 {
    let records = heard.iter().filter_map(|heard| heard.payload.get(24..)).flat_map(|records| records.chunks_exact(48));
    records.map(|record| u64::from(u32::from_be_bytes(record[16..20].try_into().unwrap()))).sum()
}

/// How long a count has not changed.
#[derive(Default)]
struct Quiet {
    last: Option<(usize, std::time::Instant)>,
}

impl Quiet {
    fn since(&mut self, count: usize) -> Duration {
        match self.last {
            Some((known, began)) if known == count => began.elapsed(),
            _ => {
                self.last = Some((count, std::time::Instant::now()));
                Duration::ZERO
            }
        }
    }
}
