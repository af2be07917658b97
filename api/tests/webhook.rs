//! The webhook against a receiver on loopback that answers as it is told.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails here has failed")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use api::config;
use api::notify::{self, Kind, Notifier, webhook};
use schemas::counter::Direction;
use schemas::incident::{Family, Incident, LimitSource, Metric, Severity, Threshold};
use schemas::time::Timestamp;

const START: Timestamp = Timestamp(1_795_176_000_000);

struct Request {
    headers: BTreeMap<String, String>,
    body: String,
}

/// A receiver that gives these answers, one a request, then hangs up.
fn receiver(answers: Vec<&'static str>) -> (String, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut headers = BTreeMap::new();
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            let mut body = vec![0; headers["content-length"].parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            sender.send(Request { headers, body: String::from_utf8(body).unwrap() }).unwrap();
            write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        }
    });
    (url, receiver)
}

fn settings(url: &str) -> config::Webhook {
    config::Webhook { url: url.to_owned(), secret: "s".to_owned(), allow_private: true, retry_milliseconds: 1, ..Default::default() }
}

fn next(requests: &Receiver<Request>) -> Request {
    requests.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn incident() -> Incident {
    let threshold = Threshold { metric: Metric::PacketsPerSecond, value: 1.0, source: LimitSource::Static };
    let blank = Incident::of(Uuid::from_u128(7), "203.0.113.7".parse().unwrap(), Direction::Incoming, threshold, START, START);
    Incident { family: Family::UdpFlood, severity: Severity::High, confidence: 97, ..blank }
}

#[test]
fn a_start_is_signed_and_tried_until_it_is_taken() {
    let (url, requests) = receiver(vec!["500 Oops", "429 Slow\r\nRetry-After: 0", "204 Fine"]);
    let notifier = Notifier::start(&settings(&url)).unwrap().unwrap();
    notifier.tell(Kind::Start, &incident(), START);
    let tries: Vec<Request> = (0..3).map(|_| next(&requests)).collect();
    for request in &tries {
        assert_eq!(request.headers["x-weir-timestamp"], "2026-11-20T12:00:00.000Z");
        assert_eq!(request.headers["x-weir-signature"], webhook::signature("s", "2026-11-20T12:00:00.000Z", &request.body));
        assert_eq!(request.body, tries[0].body);
    }
    let body: Value = serde_json::from_str(&tries[0].body).unwrap();
    assert_eq!((&body["event_type"], &body["timestamp"]), (&Value::from("attack_start"), &Value::from("2026-11-20T12:00:00.000Z")));
    assert_eq!((&body["incident"]["target"], &body["node"]), (&Value::from("203.0.113.7"), &Value::Null));
    drop(notifier);
}

#[test]
fn a_receiver_that_says_no_or_redirects_is_not_asked_again() {
    for answer in ["400 Bad", "302 Found\r\nLocation: http://127.0.0.1:1/"] {
        let (url, requests) = receiver(vec![answer, "200 Fine"]);
        let notifier = Notifier::start(&settings(&url)).unwrap().unwrap();
        notifier.tell(Kind::Start, &incident(), START);
        next(&requests);
        notifier.tell(Kind::End, &incident(), START.plus(1));
        let body: Value = serde_json::from_str(&next(&requests).body).unwrap();
        assert_eq!(body["event_type"], "attack_end", "{answer}");
    }
}

#[test]
fn updates_are_told_when_they_say_something_or_a_minute_has_passed() {
    let (url, requests) = receiver(vec!["200 Fine"; 4]);
    let notifier = Notifier::start(&settings(&url)).unwrap().unwrap();
    let mut one = incident();
    notifier.tell(Kind::Start, &one, START);
    one.peak_pps = 2;
    notifier.tell(Kind::Update, &one, START.plus(1_000));
    next(&requests);
    one.severity = Severity::Critical;
    notifier.tell(Kind::Update, &one, START.plus(2_000));
    let body: Value = serde_json::from_str(&next(&requests).body).unwrap();
    assert_eq!((&body["event_type"], &body["incident"]["severity"]), (&Value::from("attack_update"), &Value::from("critical")));
    notifier.tell(Kind::Update, &one, START.plus(61_999));
    notifier.tell(Kind::Update, &one, START.plus(62_000));
    let body: Value = serde_json::from_str(&next(&requests).body).unwrap();
    assert_eq!(body["timestamp"], "2026-11-20T12:01:02.000Z");
    notifier.tell(Kind::End, &one, START.plus(63_000));
    assert!(next(&requests).body.contains("attack_end"));
    notifier.tell(Kind::Update, &one, START.plus(200_000));
    assert_eq!(notifier.waiting(), 0);
}

#[test]
fn private_addresses_are_called_only_where_that_is_allowed() {
    let (url, requests) = receiver(vec!["200 Fine"]);
    let private = config::Webhook { allow_private: false, ..settings(&url) };
    assert!(notify::test(&private, START).unwrap_err().contains("not public"));
    let by_name = config::Webhook { url: url.replace("127.0.0.1", "localhost"), ..private };
    assert!(notify::test(&by_name, START).unwrap_err().contains("not public"));
    notify::test(&settings(&url), START).unwrap();
    let body: Value = serde_json::from_str(&next(&requests).body).unwrap();
    assert_eq!((&body["event_type"], &body["incident"]), (&Value::from("test"), &Value::Null));
}

#[test]
fn nobody_is_told_where_no_url_is_set() {
    assert!(Notifier::start(&config::Webhook::default()).unwrap().is_none());
}
