//! The SNMP poller against Debian's snmpd: names, speeds, counters, a restart, a community that may not read, silence.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use collector::enrich::interface::{Config, Interfaces, Source};
use collector::enrich::snmp::{self, SnmpError};
use schemas::net::Address;
use schemas::time::Timestamp;

use tests::isolation::{folder, isolated, run};
use tests::process::{Process, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);
const AGENT: &str = "127.0.0.1";

/// Starts snmpd, which lets `community` read, and waits until it answers.
fn snmpd(port: u16, community: &str) -> Process {
    snmpd_with(port, community, "")
}

/// The same with further lines of its configuration.
fn snmpd_with(port: u16, community: &str, lines: &str) -> Process {
    let file = folder().join("snmpd.conf");
    fs::write(&file, format!("agentaddress udp:{AGENT}:{port}\nrocommunity {community} {AGENT}\n{lines}")).unwrap();
    let state = folder().join("snmp");
    fs::create_dir_all(&state).unwrap();
    let mut command = Command::new("snmpd");
    command.args(["-f", "-Lo", "-C", "-I", "-smux", "-c"]).arg(&file).env("SNMP_PERSISTENT_DIR", &state).env("MIBS", "");
    let process = Process::start("snmpd", &mut command);
    wait_until("snmpd's socket", PATIENCE, || UdpSocket::bind((AGENT, port)).is_err());
    process
}

fn interfaces(port: u16, community: &str, interval_seconds: u64) -> Interfaces {
    let text = format!(
        r#"{{"snmp": {{"interval_seconds": {interval_seconds}, "timeout_milliseconds": 500, "attempts_max": 2, "devices": [
            {{"exporters": "{AGENT}", "port": {port}, "community": "{community}"}},
            {{"exporters": "127.0.0.9", "port": {port}, "community": "{community}"}}
        ]}}}}"#
    );
    Interfaces::new(&serde_json::from_str::<Config>(&text).unwrap())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn ask(interfaces: &Interfaces) -> Result<usize, SnmpError> {
    let config = interfaces.config().snmp.clone();
    runtime().block_on(snmp::ask(AGENT.parse().unwrap(), &config.devices[0], &config, interfaces))
}

/// Sends `count` datagrams of 1,000 octets to the host behind `wire0`.
fn send(count: usize) {
    let socket = UdpSocket::bind("10.7.0.1:0").unwrap();
    for _ in 0..count {
        socket.send_to(&[7; 1_000], "10.7.0.2:9").unwrap();
    }
}

fn index(name: &str) -> u32 {
    fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).map_or_else(
        |_| run("ip", &["-o", "link", "show", name]).split(':').next().unwrap().parse().unwrap(),
        |text| text.trim().parse().unwrap(),
    )
}

#[test]
fn snmpd_tells_names_speeds_states_and_counters() {
    isolated(|| {
        run("ip", &["link", "add", "wire0", "type", "veth", "peer", "name", "wire1"]);
        run("ip", &["addr", "add", "10.7.0.1/24", "dev", "wire0"]);
        for wire in ["wire0", "wire1"] {
            run("ip", &["link", "set", wire, "up"]);
        }
        run("ip", &["neigh", "add", "10.7.0.2", "lladdr", "02:00:00:00:00:02", "dev", "wire0"]);
        let _agent = snmpd(16_161, "readable");
        let interfaces = interfaces(16_161, "readable", 1);
        let (agent, wire) = (AGENT.parse::<Address>().unwrap(), index("wire0"));
        let polling = runtime();
        polling.spawn(snmp::run(interfaces.clone()));
        wait_until("two answers", PATIENCE, || interfaces.metrics().snmp_answered.load(Relaxed) >= 2);
        interfaces.flush();
        let snapshot = interfaces.snapshot();
        let known = snapshot.device(agent).unwrap().interface(wire).unwrap();
        println!("{known:?}");
        assert_eq!((&*known.name, known.name_source, known.is_up), ("wire0", Some(Source::Snmp), Some(true)));
        // A veth says that it is of 10 Gbit/s.
        assert_eq!((known.speed_bits, known.speed_source), (10_000_000_000, Some(Source::Snmp)));
        let sum = |interfaces: &Interfaces| {
            let minutes = interfaces.minutes(agent, Timestamp(0), Timestamp(u64::MAX));
            let own = minutes.iter().filter(|minute| minute.interface == wire && minute.source == Source::Snmp);
            own.fold((0, 0, 0), |sum, minute| (sum.0 + minute.octets_out, sum.1 + minute.packets_out, sum.2 + minute.milliseconds))
        };
        send(500);
        // snmpd reads the kernel's counters every few seconds; each frame is of 1,000 octets of data, 8 of UDP, 20 of IP and 14 of Ethernet.
        wait_until("the octets of 500 datagrams", PATIENCE, || sum(&interfaces).0 >= 500 * 1_042);
        let (octets, packets, milliseconds) = sum(&interfaces);
        println!("{octets} octets in {packets} packets and {milliseconds} ms");
        assert!(octets < 500 * 1_042 + 20_000 && (500..700).contains(&packets) && milliseconds > 0);
        // The other device, at whose address nobody listens, has held nobody up.
        wait_until("the silence of the other", PATIENCE, || interfaces.metrics().snmp_failed.load(Relaxed) >= 1);
        assert_eq!(interfaces.metrics().snmp_unreachable.load(Relaxed), 1);
        polling.shutdown_background();
    });
}

#[test]
fn a_device_that_was_started_anew_counts_from_there() {
    isolated(|| {
        let mut agent = snmpd(16_162, "readable");
        let interfaces = interfaces(16_162, "readable", 60);
        assert!(ask(&interfaces).unwrap() >= 1);
        assert_eq!(interfaces.metrics().counter_resets.load(Relaxed), 0);
        // Its uptime must have been larger than it is after the restart.
        std::thread::sleep(Duration::from_millis(1_500));
        assert!(ask(&interfaces).unwrap() >= 1);
        agent.kill();
        let _again = snmpd(16_162, "readable");
        ask(&interfaces).unwrap();
        assert!(interfaces.metrics().counter_resets.load(Relaxed) >= 1, "what was counted in between is not known");
    });
}

/// The first interface is `lo`; those behind it in each column must not suffer for it.
#[test]
fn an_odd_value_costs_itself_and_not_the_rest_of_its_column() {
    isolated(|| {
        run("ip", &["link", "add", "wire0", "type", "veth", "peer", "name", "wire1"]);
        // ifName, ifHighSpeed and ifHCInOctets of interface 1.
        let table = ".1.3.6.1.2.1.31.1.1.1";
        let odd =
            format!("override {table}.1.1 object_id .1.3.6\noverride {table}.15.1 octet_str fast\noverride {table}.6.1 octet_str many\n");
        let _agent = snmpd_with(16_165, "readable", &odd);
        let interfaces = interfaces(16_165, "readable", 60);
        assert!(ask(&interfaces).unwrap() >= 3);
        interfaces.flush();
        let snapshot = interfaces.snapshot();
        let device = snapshot.device(AGENT.parse().unwrap()).unwrap();
        let (odd, wire) = (device.interface(1).unwrap(), device.interface(index("wire0")).unwrap());
        println!("{odd:?}\n{wire:?}");
        assert_eq!((&*odd.name, odd.is_up.is_some()), ("", true));
        assert_eq!((&*wire.name, wire.speed_bits), ("wire0", 10_000_000_000));
        assert_eq!(interfaces.metrics().snmp_cells_refused.load(Relaxed), 3);
    });
}

#[test]
fn a_wrong_community_and_a_closed_port_end_in_time_with_a_reason_that_holds_no_secret() {
    isolated(|| {
        let _agent = snmpd(16_163, "readable");
        for port in [16_163, 16_164] {
            let interfaces = interfaces(port, "wrong-word", 60);
            let began = Instant::now();
            let error = ask(&interfaces).unwrap_err();
            // Two attempts of half a second.
            assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
            assert!(matches!(error, SnmpError::Silent { .. }), "{error}");
            assert!(!format!("{error} {error:?} {interfaces:?}").contains("wrong-word"));
            assert!(interfaces.snapshot().device(AGENT.parse().unwrap()).is_none());
        }
    });
}
