//! A collector under measurement, whichever it is.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use bench::synthesize::Protocol;
use serde::Serialize;

use crate::measure::{self, Sockets};
use crate::peers::Nfcapd;
use crate::send::Plan;
use crate::weir::Weir;

/// A collector that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subject {
    /// This project's: receive, decode, count.
    Weir,
    /// nfdump's: receive, decode, write to files.
    Nfcapd,
}

impl Subject {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::Nfcapd => "nfcapd",
        }
    }

    /// Whether it decodes a protocol; nfdump has sFlow in a program of its own, which Debian packs elsewhere.
    pub(crate) fn understands(self, protocol: Protocol) -> bool {
        self == Self::Weir || protocol != Protocol::Sflow5
    }
}

/// What a collector has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// CPU of the threads that receive, decode and count.
    pub(crate) pipe: Duration,
    /// CPU of all its threads.
    pub(crate) all: Duration,
    /// Allocations of the threads of the pipe.
    pub(crate) allocations: Option<u64>,
}

/// A collector that runs.
pub(crate) enum Running {
    /// Weir.
    Weir(Box<Weir>),
    /// nfcapd.
    Nfcapd(Nfcapd),
}

impl Running {
    /// Starts `subject` for the traffic of `plan`.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub(crate) fn start(subject: Subject, plan: &Plan, buffer_octets: usize, scratch: &Path) -> Result<Self> {
        match subject {
            Subject::Weir => Ok(Self::Weir(Box::new(Weir::start(plan, buffer_octets)?))),
            Subject::Nfcapd => Ok(Self::Nfcapd(Nfcapd::start(scratch, buffer_octets)?)),
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Weir(weir) => weir.address(),
            Self::Nfcapd(nfcapd) => nfcapd.address(),
        }
    }

    /// What it has used so far.
    ///
    /// # Errors
    ///
    /// If a thread of it is gone.
    pub(crate) fn usage(&self) -> Result<Usage> {
        match self {
            Self::Weir(weir) => weir.usage(),
            Self::Nfcapd(nfcapd) => {
                let all = measure::cpu(&nfcapd.threads())?;
                Ok(Usage { pipe: all, all, allocations: None })
            }
        }
    }

    /// Waits until it has read all that reached its socket.
    ///
    /// # Errors
    ///
    /// If that takes too long.
    pub(crate) fn drain(&self) -> Result<()> {
        match self {
            Self::Weir(weir) => weir.drain(),
            Self::Nfcapd(nfcapd) => nfcapd.drain(),
        }
    }

    /// Datagrams that the kernel dropped at its socket.
    pub(crate) fn dropped_datagrams(&self) -> u64 {
        Sockets::at(self.address().port()).drops
    }

    /// Its memory.
    pub(crate) fn resident_octets(&self) -> u64 {
        match self {
            Self::Weir(_) => measure::resident_octets(std::process::id()),
            Self::Nfcapd(nfcapd) => nfcapd.resident_octets(),
        }
    }

    /// Stops it; returns the flows that it counted.
    ///
    /// # Errors
    ///
    /// If it does not stop or tells no count.
    pub(crate) fn stop(self) -> Result<u64> {
        match self {
            Self::Weir(weir) => weir.stop(),
            Self::Nfcapd(nfcapd) => nfcapd.stop(),
        }
    }
}
