//! `weir engine install` and `weir engine run`: fetches the embedded store's engine, and is it.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Subcommand;
use collector::store::engine::{install, run};

/// What can be done with the engine.
#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// Fetches the engine's library with npm into the user's cache folder, unless it is there
    Install,
    /// Is the engine, until standard input ends; `weir serve` starts it, and tells it a secret by the first line
    Run {
        /// The engine's library
        #[arg(long)]
        library: PathBuf,
        /// The folder of its tables
        #[arg(long)]
        folder: PathBuf,
        /// Octets of memory that it may use
        #[arg(long, default_value_t = 1_073_741_824)]
        memory_octets_max: u64,
        /// Threads of one statement, and of merges
        #[arg(long, default_value_t = 2)]
        threads_max: usize,
    },
}

/// Does it.
///
/// # Errors
///
/// Why the library is not there, or why the engine ended.
pub fn run(command: EngineCommand) -> anyhow::Result<()> {
    match command {
        EngineCommand::Install => {
            let place = install::place()?;
            install::install(install::package()?, &place, &mut Progress::default())?;
            println!("{}", place.display());
            Ok(())
        }
        EngineCommand::Run { library, folder, memory_octets_max, threads_max } => {
            match run::run(&run::Options { library, folder, memory_octets_max, threads_max })? {}
        }
    }
}

/// Progress as a line of its own for each step, or one line that is written anew on a terminal.
#[derive(Default)]
struct Progress {
    is_begun: bool,
}

impl install::Observer for Progress {
    fn step(&mut self, step: &str) {
        if std::mem::take(&mut self.is_begun) {
            eprintln!();
        }
        eprintln!("{step}");
    }

    fn goes_on(&mut self, octets: u64) -> bool {
        if std::io::stderr().is_terminal() {
            self.is_begun = true;
            eprint!("\r{} MB ", octets / 1_000_000);
            drop(std::io::stderr().flush());
        }
        true
    }
}
