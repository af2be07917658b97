//! `weir-bench`: how many flows this machine takes, at what price, and how fast an attack is answered.

mod load;
mod send;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load, capacity and speed measurements of Weir.
#[derive(Parser)]
#[command(name = "weir-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Sends synthesized flow telemetry at a rate, for a time.
    Load(load::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Load(arguments) => load::run(&arguments),
    }
}
