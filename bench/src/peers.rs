//! The collectors of others, run on the same datagrams: nfcapd.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::measure::{self, Sockets, Thread};
use crate::process::Process;

/// How long a peer may take to start and to drain its socket.
const PATIENCE: Duration = Duration::from_secs(20);

/// nfcapd of nfdump: decodes and writes to files, which is its whole job.
pub(crate) struct Nfcapd {
    process: Process,
    address: SocketAddr,
    folder: PathBuf,
}

/// The version that is installed, as it tells.
pub(crate) fn version() -> Option<String> {
    let output = Command::new("nfcapd").arg("-V").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(|line| line.trim_start_matches("nfcapd: ").to_owned())
}

impl Nfcapd {
    /// Starts one on a port of its own, with files under `scratch` (best a tmpfs) and a socket buffer of `buffer_octets`.
    ///
    /// # Errors
    ///
    /// If it cannot be started or does not listen in time.
    pub(crate) fn start(scratch: &Path, buffer_octets: usize) -> Result<Self> {
        let port = free_port()?;
        let folder = scratch.join(format!("nfcapd-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let mut command = Command::new("nfcapd");
        command.arg("-w").arg(&folder).args(["-p", &port.to_string(), "-b", "127.0.0.1", "-t", "60"]);
        command.args(["-B", &buffer_octets.to_string()]).stdout(Stdio::null());
        let mut process = Process::start(&mut command, "Debian's nfdump")?;
        measure::wait(PATIENCE, || Sockets::at(port).count > 0 || !process.lives());
        ensure!(process.lives() && Sockets::at(port).count > 0, "nfcapd does not listen on port {port}");
        Ok(Self { process, address: (Ipv4Addr::LOCALHOST, port).into(), folder })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its threads.
    pub(crate) fn threads(&self) -> Vec<Thread> {
        Thread::of(self.process.id(), "")
    }

    /// Its memory, in octets.
    pub(crate) fn resident_octets(&self) -> u64 {
        measure::resident_octets(self.process.id())
    }

    /// Waits until it has read all that reached its socket.
    ///
    /// # Errors
    ///
    /// If that takes too long.
    pub(crate) fn drain(&self) -> Result<()> {
        let port = self.address.port();
        ensure!(measure::wait(PATIENCE, || Sockets::at(port).waiting_octets == 0), "nfcapd does not drain its socket");
        Ok(())
    }

    /// Stops it, has nfdump count the flows in its files, and removes those.
    ///
    /// # Errors
    ///
    /// If it does not stop, or its files cannot be read.
    pub(crate) fn stop(mut self) -> Result<u64> {
        self.process.end()?;
        let mut flows = 0;
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            // -I prints the totals from the file's own statistics.
            let output = Command::new("nfdump").arg("-I").arg("-r").arg(&path).output().context("nfdump cannot be started")?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let count = text.lines().find_map(|line| line.strip_prefix("Flows:")?.trim().parse::<u64>().ok());
            flows += count.with_context(|| format!("nfdump tells no count of {}", path.display()))?;
        }
        Ok(flows)
    }
}

impl Drop for Nfcapd {
    fn drop(&mut self) {
        let _ = self.process.end();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A UDP port of loopback that was free a moment ago.
///
/// # Errors
///
/// If there is none.
pub(crate) fn free_port() -> Result<u16> {
    Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
