//! `weir`: serves, decodes and replays captures, checks a configuration, manages tokens, is the engine of flows.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use api::backtest;
use api::commands::{self, TokenCommand};
use api::config::{self, Config};
use api::decode;
use api::engine::{self, EngineCommand};
use api::replay;
use api::serve;
use schemas::time::Timestamp;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Collects flow telemetry, detects DDoS attacks, announces the rules against them.
#[derive(Debug, Parser)]
#[command(name = "weir", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collects, detects, mitigates, serves REST; what happens without a command
    Serve {
        /// The configuration; without one, defaults hold
        #[arg(long)]
        config: Option<PathBuf>,
        /// Also starts simulated routers and, after a minute, an attack
        #[arg(long)]
        demo: bool,
    },
    /// Prints every flow record of a capture as one JSON object a line
    Decode {
        /// The capture: pcap or pcapng
        file: PathBuf,
        /// Only datagrams to this UDP port; several may be named
        #[arg(long = "port", value_name = "N")]
        ports: Vec<u16>,
        /// Lets data wait for a template that comes later
        #[arg(long)]
        wait: bool,
    },
    /// Runs a capture of exports or packets through the whole pipe, and prints the incidents and the rules of it
    Replay {
        /// The capture: pcap or pcapng
        file: PathBuf,
        /// The configuration whose limits and networks hold; without one, defaults
        #[arg(long)]
        config: Option<PathBuf>,
        /// So many times as fast as it happened; without, as fast as it can
        #[arg(long, value_name = "X")]
        speed: Option<f64>,
    },
    /// Runs stored flows through the counters and the policy again, and prints the incidents and the rules of it
    Backtest {
        /// The configuration whose store, limits and networks hold
        #[arg(long)]
        config: PathBuf,
        /// Flows that were received from then on, like 2026-11-20T12:00:00Z
        #[arg(long)]
        from: Timestamp,
        /// Flows that were received before then
        #[arg(long)]
        to: Timestamp,
    },
    /// Tells what is wrong with a configuration, line by line
    Check {
        /// The configuration
        #[arg(long)]
        config: PathBuf,
        /// Also sends a test event to the webhook, and tells what it answered
        #[arg(long)]
        notify: bool,
    },
    /// Makes, lists and revokes tokens
    Token {
        /// The configuration, for its data_dir
        #[arg(long, global = true)]
        config: Option<PathBuf>,
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// The embedded store's engine
    Engine {
        #[command(subcommand)]
        command: EngineCommand,
    },
    /// Prints configurations
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Prints the version
    Version,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Prints the default, with a comment for every key
    Default,
    /// Prints the JSON Schema of the configuration, for editors
    Schema,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", told(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    match arguments.command.unwrap_or(Command::Serve { config: None, demo: false }) {
        Command::Serve { config, demo } => {
            start_log();
            serve::run(Config::load(config.as_deref())?, demo)
        }
        Command::Decode { file, ports, wait } => decode::run(&file, &ports, wait),
        Command::Replay { file, config, speed } => replay::run(&file, &Config::load(config.as_deref())?, speed),
        Command::Backtest { config, from, to } => backtest::run(&Config::load(Some(&config))?, from, to),
        Command::Check { config, notify } => commands::check(&config, notify),
        Command::Token { config, command } => commands::token(&Config::load(config.as_deref())?, command),
        Command::Engine { command } => {
            start_log();
            engine::run(command)
        }
        Command::Config { command: ConfigCommand::Default } => {
            print!("{}", config::DEFAULT);
            Ok(())
        }
        Command::Config { command: ConfigCommand::Schema } => {
            println!("{:#}", config::schema());
            Ok(())
        }
        Command::Version => {
            println!("weir {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

/// Logs to standard error; `RUST_LOG` narrows or widens what is told.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal()).init();
}

/// An error with its causes, each once: many tell theirs already.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("no such file");
        let twice = anyhow::Error::new(collector::StartError::Thread(cause())).context("weir does not start");
        assert_eq!(super::told(&twice), "weir does not start: cannot start a thread: no such file");
        let once = Err::<(), _>(cause()).context("cannot be read").unwrap_err();
        assert_eq!(super::told(&once), "cannot be read: no such file");
    }
}
