//! Three who count the same datagrams: Weir's ledger and store, Debian's nfdump, and another engine on the files that Weir's left.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::net::UdpSocket;
use std::time::{Duration, SystemTime};

use bench::synthesize::{Exporter, Hosts, Layout, Popularity, Protocol, Traffic};
use schemas::time::Timestamp;
use serde_json::Value;
use tests::isolation::{folder, isolated};
use tests::process::wait_until;
use tests::reader::{Nfcapd, Read, ask_another_engine};
use tests::server::Server;
use tests::traffic::Sums;

const PATIENCE: Duration = Duration::from_secs(60);
/// Datagrams that wait in a socket at most.
const BURST: usize = 16;

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Sends the same datagrams of three protocols to both; what is in them.
fn export(server: &Server, nfcapd: &Nfcapd) -> Read {
    let hosts = Hosts {
        v4: "203.0.113.0/24".parse().unwrap(),
        v6: Some("2001:db8::/48".parse().unwrap()),
        count: 500,
        popularity: Popularity::Even,
    };
    let mut sent = Read { flows: 0, sums: Sums::default() };
    for (seed, protocol) in [(1, Protocol::Netflow5), (2, Protocol::Netflow9), (3, Protocol::Ipfix)] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut traffic = Traffic::new(seed, hosts, 60_000);
        let flows: Vec<_> = (0..5_000).map(|_| traffic.flow(now())).collect();
        let mut exporter = Exporter::new(Layout::new(protocol, 1), Timestamp(now().0 - 3_600_000));
        let mut count = 0;
        sent.flows += exporter.export(now(), &flows, &mut |draft| {
            socket.send_to(draft.octets(), server.netflow()).unwrap();
            socket.send_to(draft.octets(), nfcapd.address()).unwrap();
            count += 1;
            if count % BURST == 0 {
                nfcapd.drain();
            }
        });
        for flow in flows.iter().filter(|flow| flow.source.is_v4() || protocol != Protocol::Netflow5) {
            sent.sums = sent.sums.and(Sums { packets: flow.packets, octets: flow.octets });
        }
    }
    sent
}

/// The sum of a count over all exporters.
fn sum(server: &Server, ledger: &str, count: &str) -> u64 {
    let (_, body) = server.get("/api/v1/exporters");
    body["exporters"].as_array().unwrap().iter().filter_map(|exporter| exporter[ledger][count].as_u64()).sum()
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().map(|number| number.parse().unwrap_or_else(|_| panic!("{text}"))).collect()
}

#[test]
fn ledger_store_nfdump_and_another_engine_agree() {
    isolated(|| {
        let nfcapd = Nfcapd::start();
        let server = Server::start("networks = [\"203.0.113.0/24\", \"2001:db8::/48\"]");
        let sent = export(&server, &nfcapd);
        wait_until("every record to be decoded", PATIENCE, || sum(&server, "ledger", "records_decoded") == sent.flows);
        wait_until("every record to be stored", PATIENCE, || sum(&server, "store", "records_stored") == sent.flows);
        assert_eq!(nfcapd.read(), sent);

        let (status, body) = server.get("/api/v1/analytics/top?group_by=protocol&metric=octets");
        assert_eq!(status, 200, "{body}");
        let total = |name: &str| body["total"][name].as_f64().map(|number| number.to_string());
        let text = |number: u64| Some(number.to_string());
        assert_eq!(
            [total("flows"), total("packets"), total("octets")],
            [sent.flows, sent.sums.packets, sent.sums.octets].map(text),
            "{body}"
        );
        let (status, body) = server.get("/api/v1/analytics/billing?by=interface");
        assert_eq!((status, &body["ok"]), (200, &Value::from(true)), "{body}");
        // A policy is tried out beside the server, on its engine.
        let config = folder().join("weir.toml");
        let minutes = |minutes: i64| Timestamp(now().0.saturating_add_signed(minutes * 60_000)).to_string();
        let lines = tests::weir::lines(&["backtest", "--config", &config.to_string_lossy(), "--from", &minutes(-10), "--to", &minutes(1)]);
        assert_eq!(lines.last().unwrap()["flows"], sent.flows, "{:?}", lines.last());
        server.stop();
        let lines = tests::weir::lines(&["backtest", "--config", &config.to_string_lossy(), "--from", &minutes(-10), "--to", &minutes(1)]);
        assert_eq!(lines.last().unwrap()["flows"], sent.flows, "{:?}", lines.last());

        // Each figure of the raw flows, and of the sums by minute and by hour that the engine made of them.
        let engine = folder().join("weir-data/engine");
        let wanted = [sent.flows, sent.sums.packets, sent.sums.octets];
        let flows = ask_another_engine(&engine, "SELECT count(), sum(packets), sum(octets) FROM weir.flows");
        assert_eq!(numbers(&flows), wanted);
        for table in ["traffic_1m", "traffic_1h", "application_1m", "as_1h"] {
            let sums = ask_another_engine(&engine, &format!("SELECT sum(flows), sum(packets), sum(octets) FROM weir.{table}"));
            assert_eq!(numbers(&sums), wanted, "{table}");
        }
    });
}
