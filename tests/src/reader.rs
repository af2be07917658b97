//! Others that read what Weir reads, or what it wrote: nfcapd and nfdump of Debian, and the ClickHouse engine of PyPI.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::isolation::{folder, run};
use crate::process::{Process, wait_until};
use crate::traffic::Sums;

/// The release of PyPI's `chdb-core`, as `tests/run` installs it.
const ENGINE: &str = "chdb-core-26.9.0";
const PATIENCE: Duration = Duration::from_secs(30);

/// A running nfcapd.
#[derive(Debug)]
pub struct Nfcapd {
    process: Process,
    address: SocketAddr,
    files: PathBuf,
}

/// What nfdump read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// How many flows.
    pub flows: u64,
    /// What is in them.
    pub sums: Sums,
}

impl Nfcapd {
    /// Starts one on a free port of the loopback; its files go to the test's folder.
    ///
    /// # Panics
    ///
    /// If it does not listen.
    #[must_use]
    pub fn start() -> Self {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let files = folder().join("nfcapd");
        fs::create_dir(&files).unwrap();
        let mut command = Command::new("nfcapd");
        command.args(["-b", "127.0.0.1", "-t", "3600", "-B", "4000000", "-p", &port.to_string(), "-w"]).arg(&files);
        let mut nfcapd = Self { process: Process::start("nfcapd", &mut command), address: (Ipv4Addr::LOCALHOST, port).into(), files };
        wait_until("nfcapd to listen", PATIENCE, || {
            assert!(nfcapd.process.is_running(), "{}", nfcapd.process.words());
            waiting_octets(port).is_some()
        });
        nfcapd
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it has taken what was sent to it.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn drain(&self) {
        wait_until("nfcapd to read", PATIENCE, || waiting_octets(self.address.port()) == Some(0));
    }

    /// Ends it and reads its files with nfdump, every flow as it was exported.
    ///
    /// # Panics
    ///
    /// If nfdump prints anything but flows.
    #[must_use]
    pub fn read(mut self) -> Read {
        self.drain();
        assert!(self.process.stop(PATIENCE).success());
        let said = run("nfdump", &["-R", &self.files.to_string_lossy(), "-q", "-N", "-o", "fmt:%pkt %byt"]);
        let mut read = Read { flows: 0, sums: Sums::default() };
        for line in said.lines().filter(|line| !line.trim().is_empty()) {
            let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap_or_else(|_| panic!("{line}"))).collect();
            let [packets, octets] = numbers[..] else { panic!("{line}") };
            read.flows += 1;
            read.sums = read.sums.and(Sums { packets, octets });
        }
        read
    }
}

/// What the kernel holds for the socket of a port; `None` if there is none.
fn waiting_octets(port: u16) -> Option<u64> {
    let table = fs::read_to_string("/proc/self/net/udp").unwrap();
    let line = table.lines().find(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}"))))?;
    let (_, received) = line.split_whitespace().nth(4)?.split_once(':')?;
    u64::from_str_radix(received, 16).ok()
}

/// Asks PyPI's engine, which opens the folder of an engine of ours that has ended; its answer, tabs between columns.
///
/// # Panics
///
/// If it is not installed or refuses.
#[must_use]
pub fn ask_another_engine(folder: &Path, statement: &str) -> String {
    const SCRIPT: &str = "import sys\nfrom chdb import session\none = session.Session(sys.argv[1])\n\
        print(one.query(sys.argv[2], 'TSV'), end='')\none.close()\n";
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"))).expect("a cache folder");
    let python = cache.join("weir/python").join(ENGINE).join("bin/python");
    assert!(python.exists(), "{} is not there: tests/run installs it", python.display());
    run(&python.to_string_lossy(), &["-c", SCRIPT, &folder.to_string_lossy(), statement]).trim_end().to_owned()
}
