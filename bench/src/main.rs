//! `weir-bench`: how many flows this machine takes, at what price, and how fast an attack is answered.

mod allocations;
mod cpu;
mod detect;
mod latency;
mod load;
mod measure;
mod peers;
mod pipe;
mod process;
mod query;
mod report;
mod send;
mod serving;
mod sink;
mod store;
mod subject;
mod weir;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Load, capacity and speed measurements of Weir.
#[derive(Parser)]
#[command(name = "weir-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures decode and count alone, on datagrams from memory
    Cpu(cpu::Arguments),
    /// Measures how often, how soon and how wrongly attacks are found, on seeded scenarios
    Detect(detect::Arguments),
    /// Sends synthesized flow telemetry at a rate, for a time
    Load(load::Arguments),
    /// Measures the time from a crossing to the route in a router, with two gobgpd
    Latency(latency::Arguments),
    /// Measures the collector behind a sender on loopback, with nfcapd beside it
    Pipe(pipe::Arguments),
    /// Measures how long `weir serve` takes to answer questions about an hour and about days
    Query(query::Arguments),
    /// Measures `weir serve` with its engine behind a sender: from the wire to the disk
    Store(store::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Cpu(arguments) => cpu::run(&arguments),
        Command::Detect(arguments) => detect::run(&arguments),
        Command::Latency(arguments) => latency::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Pipe(arguments) => pipe::run(&arguments),
        Command::Query(arguments) => query::run(&arguments),
        Command::Store(arguments) => store::run(&arguments),
    }
}
