//! What is learned, kept in the data directory: read at the start, written every few minutes and at the stop.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use analytics::baseline::{BaselineError, Baselines};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::clock::Clock;

/// A file larger than this was not written by Weir: a hundred million targets.
const FILE_OCTETS_MAX: u64 = 1 << 33;

/// Why what was learned before is not known any more.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The system refuses.
    #[error("{0}")]
    File(#[from] io::Error),
    /// What it holds is not what was written.
    #[error("{0}")]
    Content(#[from] BaselineError),
    /// The file is larger than any that Weir writes.
    #[error("{0} octets are too many")]
    TooLarge(u64),
}

/// The thread that saves.
#[derive(Debug)]
pub struct Keeper {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Takes up what was saved in `folder`, and saves from now on.
    ///
    /// A file that cannot be read is set aside under another name: then everything is learned anew.
    ///
    /// # Errors
    ///
    /// What the system says to a new thread.
    pub fn start(baselines: Arc<Baselines>, folder: &Path, pause: Duration, clock: Clock) -> io::Result<Self> {
        let path = folder.join("baselines");
        match load(&baselines, &path, &clock) {
            Ok(targets) => tracing::info!(targets, "baselines are taken up"),
            Err(KeepError::File(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let aside = path.with_extension("damaged");
                tracing::error!(%error, file = %path.display(), aside = %aside.display(), "baselines cannot be read and are learned anew");
                if let Err(error) = fs::rename(&path, &aside) {
                    tracing::error!(%error, file = %path.display(), "the file is not set aside");
                }
            }
        }
        let (stop, stopped) = bounded(1);
        let work = move || {
            loop {
                let ends = !matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout));
                if let Err(error) = save(&baselines, &path, &clock) {
                    tracing::error!(%error, file = %path.display(), "baselines are not saved");
                }
                if ends {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("weir-baselines".to_owned()).spawn(work)?;
        Ok(Self { stop, thread })
    }

    /// Saves for the last time; blocks until that is done.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that saves baselines has panicked");
        }
    }
}

fn load(baselines: &Baselines, path: &PathBuf, clock: &Clock) -> Result<usize, KeepError> {
    let octets = fs::metadata(path)?.len();
    if octets > FILE_OCTETS_MAX {
        return Err(KeepError::TooLarge(octets));
    }
    Ok(baselines.read(&fs::read(path)?, clock.now())?)
}

/// Writes to a neighbour first, which then takes the name.
fn save(baselines: &Baselines, path: &Path, clock: &Clock) -> io::Result<()> {
    let neighbour = path.with_extension("new");
    let mut output = BufWriter::new(File::create(&neighbour)?);
    baselines.write(clock.now(), &mut output)?;
    output.flush()?;
    output.get_ref().sync_data()?;
    fs::rename(&neighbour, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_set_aside_and_learning_begins_anew() {
        let folder = std::env::temp_dir().join(format!("weir-baselines-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&folder).unwrap();
        let start = || Keeper::start(Arc::default(), &folder, Duration::from_secs(3_600), Clock::default()).unwrap();
        start().stop();
        let mut octets = fs::read(folder.join("baselines")).unwrap();
        start().stop();
        assert!(!folder.join("baselines.damaged").exists());
        octets[20] ^= 1;
        fs::write(folder.join("baselines"), &octets).unwrap();
        start().stop();
        assert_eq!(fs::read(folder.join("baselines.damaged")).unwrap(), octets);
        assert!(load(&Baselines::default(), &folder.join("baselines"), &Clock::default()).is_ok());
        fs::remove_dir_all(&folder).unwrap();
    }
}
