//! A server that stands for a remote ClickHouse: it says yes to everything, and counts what comes. What it costs to send to one is
//! then the collector's alone.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Octets of a line of a request's head, and of a chunk's length.
const LINE_OCTETS_MAX: u64 = 65_536;

/// What has come so far.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// Inserts.
    pub(crate) inserts: AtomicU64,
    /// Octets of their bodies, as sent.
    pub(crate) octets: AtomicU64,
}

/// A server that runs until the program ends.
#[derive(Debug)]
pub(crate) struct Sink {
    port: u16,
    received: Arc<Received>,
}

impl Sink {
    /// Starts it on loopback.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (port, received) = (listener.local_addr()?.port(), Arc::new(Received::default()));
        let counts = Arc::clone(&received);
        std::thread::Builder::new().name("sink".to_owned()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counts = Arc::clone(&counts);
                // One that breaks off ends its own connection, and the client says why.
                std::thread::spawn(move || drop(answer(&stream, &counts)));
            }
        })?;
        Ok(Self { port, received })
    }

    /// Where it answers.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Inserts and octets so far.
    pub(crate) fn received(&self) -> (u64, u64) {
        (self.received.inserts.load(Ordering::Relaxed), self.received.octets.load(Ordering::Relaxed))
    }
}

fn answer(stream: &TcpStream, received: &Received) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1 << 16, stream);
    loop {
        let first = line(&mut reader)?;
        if first.is_empty() {
            return Ok(());
        }
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let header = line(&mut reader)?.to_ascii_lowercase();
            match header.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
                Some(("transfer-encoding", value)) => is_chunked = value.contains("chunked"),
                Some(("expect", _)) => (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?,
                Some(_) => {}
                None => break,
            }
        }
        let (start, octets) = if is_chunked { chunks(&mut reader)? } else { part(&mut reader, length)? };
        // A statement is in the address or, if nothing else is, in the body.
        let is_insert = first.to_ascii_uppercase().contains("INSERT");
        if is_insert {
            received.inserts.fetch_add(1, Ordering::Relaxed);
            received.octets.fetch_add(octets, Ordering::Relaxed);
        }
        let is_version = [first.as_bytes(), &start].iter().any(|text| text.windows(9).any(|part| part == b"version()"));
        let body = if is_version { "26.7.3.1\n" } else { "" };
        let text = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        (&mut &*stream).write_all(text.as_bytes())?;
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    reader.take(LINE_OCTETS_MAX).read_line(&mut text)?;
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// The chunks of a body: how it starts, and how long it is.
fn chunks(reader: &mut impl BufRead) -> io::Result<(Vec<u8>, u64)> {
    let (mut start, mut octets) = (Vec::new(), 0);
    loop {
        let length = u64::from_str_radix(line(reader)?.split(';').next().unwrap_or_default(), 16).unwrap_or(0);
        let (first, _) = part(reader, length)?;
        if octets == 0 {
            start = first;
        }
        octets += length;
        line(reader)?;
        if length == 0 {
            return Ok((start, octets));
        }
    }
}

/// So many octets: the first of them, and their number; the rest goes nowhere.
fn part(reader: &mut impl BufRead, length: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut start = Vec::new();
    reader.take(length.min(1_024)).read_to_end(&mut start)?;
    let mut left = length - start.len() as u64;
    while left > 0 {
        let held = reader.fill_buf()?.len();
        if held == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = held.min(usize::try_from(left).unwrap_or(usize::MAX));
        reader.consume(taken);
        left -= taken as u64;
    }
    Ok((start, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_both_kinds_are_counted_and_the_version_is_told() {
        let sink = Sink::start().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", sink.port)).unwrap();
        stream
            .write_all(b"POST /?query=INSERT+INTO+flows HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n2\r\nfg\r\n0\r\n\r\n")
            .unwrap();
        stream.write_all(b"POST /?query=INSERT+INTO+flows HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc").unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 16\r\n\r\nSELECT version()").unwrap();
        let mut said = String::new();
        let mut reader = BufReader::new(&stream);
        while !said.ends_with("26.7.3.1\n") {
            assert_ne!(reader.read_line(&mut said).unwrap(), 0, "{said}");
        }
        assert_eq!(sink.received(), (2, 10));
    }
}
