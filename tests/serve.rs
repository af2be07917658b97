//! The running program: what it hears from real exporters, whom it tells, what it keeps over a restart, how it refuses to start.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::Duration;

use bench::synthesize::{Draft, Exporter, Layout, Protocol};
use schemas::ledger::Ledger;
use schemas::time::Timestamp;
use tests::exporters::{Probe, pmacctd, softflowd};
use tests::flood::{Flood, now};
use tests::isolation::{folder, isolated};
use tests::load::flow;
use tests::process::wait_until;
use tests::server::{NETFLOW, SFLOW, Server};
use tests::traffic::Traffic;
use tests::webhook::Webhooks;
use tests::weir::program;

const PATIENCE: Duration = Duration::from_secs(40);
const NETWORKS: &str = "networks = [\"203.0.113.0/24\", \"2001:db8::/32\"]\n[collector.store]\nengine = \"none\"\n";

/// The ledger of what came from the loopback address, once it has so many records.
fn ledger(server: &Server, records: u64) -> Ledger {
    let mut ledger = Ledger::default();
    wait_until(&format!("{records} records"), PATIENCE, || {
        let (status, body) = server.get("/api/v1/exporters/127.0.0.1");
        if status == 200 {
            ledger = serde_json::from_value(body["exporter"]["ledger"].clone()).unwrap();
        }
        ledger.records_decoded >= records
    });
    ledger
}

/// Four kinds of IPv4 conversations, of which the fragmented one is two flows (the first fragments have ports, the later none), and
/// three of IPv6, 12 of each: 60 flows in version 5, 96 in the others, and a sample for each packet.
#[test]
fn a_running_weir_counts_every_record_of_real_exporters_and_its_ledger_balances() {
    isolated(|| {
        let (traffic, capture) = (Traffic::conversations(20), folder().join("traffic.pcap"));
        traffic.write(&capture);
        let server = Server::start(NETWORKS);
        for version in [5, 9, 10] {
            assert!(softflowd(&capture, NETFLOW.parse().unwrap(), version).finish(PATIENCE).success());
        }
        let _ = pmacctd(&capture, SFLOW.parse().unwrap(), Probe::Sflow(1)).finish(PATIENCE);
        let expected = 60 + 96 + 96 + traffic.all().packets;
        // pmacctd keeps the datagram that is not full at the end, of at most 8 samples.
        let ledger = ledger(&server, expected - 8);
        println!("{ledger:?}");
        assert!(ledger.records_decoded <= expected);
        assert_eq!(
            (ledger.lost_by_sequence, ledger.datagrams_malformed, ledger.sets_malformed, ledger.sets_without_template),
            (0, 0, 0, 0)
        );
        assert!(ledger.imbalance().iter().all(|(_, difference)| *difference == 0), "{ledger:?}");
        server.stop();
    });
}

#[test]
fn an_incident_is_told_by_a_signed_webhook_when_it_starts_and_when_it_ends() {
    isolated(|| {
        let webhooks = Webhooks::listen();
        let server = Server::start(&format!(
            "{NETWORKS}[analytics.incident]\nhold_seconds = 2\n\
             [api.notify.webhook]\nurl = \"{}\"\nsecret = \"sesame\"\nallow_private = true\n",
            webhooks.url()
        ));
        let flood = Flood::begin(&["203.0.113.7"], 300_000);
        let start = webhooks.wait_for("attack_start", PATIENCE);
        assert!(start.is_signed_by("sesame") && !start.is_signed_by("simsim"));
        let told = start.json();
        assert_eq!((told["incident"]["target"].as_str(), told["incident"]["family"].as_str()), (Some("203.0.113.7"), Some("udp_flood")));
        flood.end();
        let end = webhooks.wait_for("attack_end", PATIENCE);
        assert!(end.is_signed_by("sesame"));
        assert_eq!(end.json()["incident"]["uuid"], told["incident"]["uuid"]);
        server.stop();
    });
}

/// Without the templates of before, data sets would wait up to a minute and the records would not be decoded.
#[test]
fn templates_and_sampling_rates_outlive_a_restart() {
    isolated(|| {
        let server = Server::start(NETWORKS);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut exporter = Exporter::new(Layout::new(Protocol::Netflow9, 100), Timestamp(now().0 - 60_000));
        let send = |draft: &Draft| assert_eq!(socket.send_to(draft.octets(), NETFLOW).unwrap(), draft.octets().len());
        exporter.export(now(), &[flow(0xc633_6401, now())], &mut |draft| send(draft));
        ledger(&server, 1);
        server.stop();

        let server = Server::start(NETWORKS);
        let mut draft = exporter.draft(now(), &[flow(0xc633_6401, now())]);
        exporter.stamp(&mut draft, now());
        send(&draft);
        let after = ledger(&server, 1);
        assert_eq!((after.sets_waiting, after.sets_without_template, after.records_sampling_unknown), (0, 0, 0));
    });
}

/// Runs the program with a configuration that it refuses; what it says.
fn refused(configuration: &str) -> (Output, String) {
    let path = folder().join("refused.toml");
    fs::write(&path, configuration).unwrap();
    let output = Command::new("timeout").arg("20").arg(program()).arg("serve").arg("--config").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, said)
}

#[test]
fn a_wrong_configuration_is_refused_with_its_file_line_and_key() {
    isolated(|| {
        let (output, said) = refused("data_dir = \"x\"\n\n[api]\nlisten = \"nowhere\"\nlisten_port = 3\n");
        assert_eq!(output.status.code(), Some(1), "{said}");
        for part in ["refused.toml:4", "api.listen", "refused.toml:5", "listen_port"] {
            assert!(said.contains(part), "{part} is not in: {said}");
        }
    });
}

#[test]
fn a_port_in_use_is_named_with_who_may_hold_it() {
    isolated(|| {
        let _holder = UdpSocket::bind(SFLOW).unwrap();
        let data = folder().join("data");
        let (output, said) = refused(&format!("data_dir = \"{}\"\n[collector.store]\nengine = \"none\"\n", data.display()));
        assert_eq!(output.status.code(), Some(1), "{said}");
        let own = std::process::id().to_string();
        assert!(said.contains("6343") && said.contains(&own), "neither the port nor process {own} is named: {said}");
    });
}
