//! A receiver of webhooks: one HTTP listener that keeps what it was told and answers 200.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

/// One POST as it came.
#[derive(Clone, Debug)]
pub struct Post {
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// The body, octet by octet.
    pub body: Vec<u8>,
}

impl Post {
    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Whether the signature is that of `secret` over the timestamp, a full stop and the body.
    ///
    /// # Panics
    ///
    /// If a header is missing.
    #[must_use]
    pub fn is_signed_by(&self, secret: &str) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(self.headers["x-weir-timestamp"].as_bytes());
        mac.update(b".");
        mac.update(&self.body);
        let digits: String = mac.finalize().into_bytes().iter().map(|octet| format!("{octet:02x}")).collect();
        self.headers["x-weir-signature"] == format!("sha256={digits}")
    }
}

/// The listener.
#[derive(Debug)]
pub struct Webhooks {
    address: SocketAddr,
    posts: Receiver<Post>,
}

impl Webhooks {
    /// Listens on a free port of the loopback.
    ///
    /// # Panics
    ///
    /// If no socket can be had.
    #[must_use]
    pub fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, posts) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(post) = answer(stream)
                    && sender.send(post).is_err()
                {
                    return;
                }
            }
        });
        Self { address, posts }
    }

    /// Where to post.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/weir", self.address)
    }

    /// The next post whose `event_type` is this; others are passed over.
    ///
    /// # Panics
    ///
    /// If none comes in time.
    #[must_use]
    pub fn wait_for(&self, event_type: &str, within: Duration) -> Post {
        let began = Instant::now();
        loop {
            let left = within.saturating_sub(began.elapsed());
            let post = self.posts.recv_timeout(left).unwrap_or_else(|_| panic!("no {event_type} within {within:?}"));
            if post.json()["event_type"] == event_type {
                return post;
            }
        }
    }
}

fn answer(mut stream: TcpStream) -> Option<Post> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = HashMap::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    Some(Post { headers, body })
}
