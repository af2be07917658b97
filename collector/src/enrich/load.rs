//! Reads what the tables are made of, watches the files, and puts new tables in force while the shards go on.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::application::Applications;
use super::config::Config;
use super::layer::{Layer, merge};
use super::metrics::Metrics;
use super::prefix::{self, Lines, Owner};
use super::{SharedTables, Tables, mmdb};

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is not there, or must not be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is larger than allowed.
    #[error("is larger than collector.enrich.file_octets_max, {octets_max} octets")]
    TooLarge {
        /// What is allowed.
        octets_max: u64,
    },
    /// Somebody wrote to it in the meantime.
    #[error("was changed while it was read")]
    Changed,
    /// It is a folder, a pipe or a device.
    #[error("is no regular file")]
    NotAFile,
    /// It is no MMDB file.
    #[error("is no MMDB file, or a broken one: {0}")]
    Mmdb(String),
    /// It is no CSV file.
    #[error("is no CSV file: {0}")]
    Csv(String),
    /// The header does not name what is needed.
    #[error("its first line names no column {0}")]
    Column(&'static str),
    /// It has lines, and not one of them can be read.
    #[error("tells nothing in any of its lines; line {line}: {reason}")]
    NoLine {
        /// The number of the first.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// It holds more than allowed.
    #[error("has more prefixes than collector.enrich.prefixes_max, {prefixes_max}")]
    TooManyPrefixes {
        /// What is allowed.
        prefixes_max: usize,
    },
}

impl LoadError {
    /// Whether the same file may be read later: it was not what it holds that stood in the way.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Changed)
    }
}

/// The pauses before a file is tried again that looks as it did begin with this and double,
const PAUSE_MIN: Duration = Duration::from_secs(15);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(960);

/// By what a file is known to be another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    octets: u64,
    modified_seconds: i64,
    modified_nanoseconds: i64,
}

impl Stamp {
    fn of(data: &Metadata) -> Self {
        Self { inode: data.ino(), octets: data.len(), modified_seconds: data.mtime(), modified_nanoseconds: data.mtime_nsec() }
    }

    /// That of what has this name now; `None` while there is no such thing, or nobody may look.
    fn at(file: &Path) -> Option<Self> {
        fs::metadata(file).ok().as_ref().map(Self::of)
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Mmdb,
    Csv,
}

/// A file that is watched, and what it told when it could last be read.
#[derive(Debug)]
struct Source {
    file: PathBuf,
    format: Format,
    /// How it looked last; `None` while it is not there.
    seen: Option<Stamp>,
    /// How it looked when it was last read, or tried to; the outer `None` before that.
    tried: Option<Option<Stamp>>,
    /// When it is tried again though it has not changed.
    again: Option<Again>,
    layer: Layer,
}

/// A file that could not be read, and not for what it holds.
#[derive(Clone, Copy, Debug)]
struct Again {
    at: Instant,
    pause: Duration,
}

impl Source {
    fn new(file: &Path, format: Format) -> Self {
        Self { file: file.to_path_buf(), format, seen: None, tried: None, again: None, layer: Layer::default() }
    }

    /// Reads it as it is now.
    fn read(&mut self, config: &Config) -> Result<Lines, LoadError> {
        self.seen = Stamp::at(&self.file);
        self.tried = Some(self.seen);
        let (opened, stamp) = open(&self.file)?;
        self.tried = Some(Some(stamp));
        let lines = lines_of(&opened, self.format, config)?;
        // A file that another one takes the place of meanwhile stays whole; one that is written to does not.
        if Stamp::of(&opened.metadata()?) == stamp { Ok(lines) } else { Err(LoadError::Changed) }
    }

    /// When it is tried again if it stays as it is. Of one that is not there, its coming is seen.
    fn put_off(&mut self, error: &LoadError, now: Instant) -> Option<Duration> {
        let pause = self.again.map_or(PAUSE_MIN, |again| (again.pause * 2).min(PAUSE_MAX));
        self.again = (error.may_pass() && self.seen.is_some()).then(|| Again { at: now + pause, pause });
        self.again.map(|again| again.pause)
    }
}

/// Reads the files that have changed, and lays everything over each other.
#[derive(Debug)]
pub struct Loader {
    config: Config,
    sources: Vec<Source>,
    /// Customers and sites of the config.
    fixed: [Layer; 2],
    tables: SharedTables,
    metrics: Arc<Metrics>,
    /// Tables that others may still hold: whoever lets go of them last frees them, and that must be no shard.
    retired: Vec<Arc<Tables>>,
}

impl Loader {
    /// A loader that has read nothing yet but the config.
    #[must_use]
    pub fn new(config: &Config, tables: SharedTables, metrics: Arc<Metrics>) -> Self {
        let mut sources: Vec<Source> = config.mmdb.iter().map(|file| Source::new(file, Format::Mmdb)).collect();
        if !config.prefixes.as_os_str().is_empty() {
            sources.push(Source::new(&config.prefixes, Format::Csv));
        }
        let fixed = [prefix::of_config(Owner::Customer, &config.customers), prefix::of_config(Owner::Site, &config.sites)];
        Self { config: config.clone(), sources, fixed, tables, metrics, retired: Vec::new() }
    }

    /// Whether there is nothing to read or to watch.
    fn is_idle(&self) -> bool {
        self.sources.is_empty() && self.fixed.iter().all(|layer| layer.prefixes == 0)
    }

    /// Octets of all files together.
    fn octets(&self) -> u64 {
        self.sources.iter().filter_map(|source| Stamp::at(&source.file)).map(|stamp| stamp.octets).sum()
    }

    /// Reads everything, and puts it in force.
    pub fn load(&mut self, now: Instant) {
        for index in 0..self.sources.len() {
            self.read(index, now);
        }
        self.swap();
    }

    /// Looks at every file. One that has changed, and not since the look before, is read; so is one that could not be opened when its
    /// pause is over. Answers whether other tables are in force.
    pub fn look(&mut self, now: Instant) -> bool {
        self.retired.retain(|tables| Arc::strong_count(tables) > 1 || Arc::strong_count(tables.places()) > 1);
        let mut has_changed = false;
        for index in 0..self.sources.len() {
            let Some(source) = self.sources.get_mut(index) else { continue };
            let stamp = Stamp::at(&source.file);
            // Who writes a file in place takes a while: what still changes is left alone.
            let is_settled = source.seen == stamp;
            source.seen = stamp;
            let is_due = source.tried != Some(stamp) || source.again.is_some_and(|again| again.at <= now);
            if is_due && is_settled {
                has_changed |= self.read(index, now);
            }
        }
        if has_changed {
            self.swap();
        }
        has_changed
    }

    /// Reads a file; whether it could be. If not, what it told before holds on.
    fn read(&mut self, index: usize, now: Instant) -> bool {
        let Some(source) = self.sources.get_mut(index) else {
            return false;
        };
        let start = Instant::now();
        match source.read(&self.config) {
            Ok(Lines { mut layer, refused, refused_count }) => {
                layer.settle();
                self.metrics.lines_refused(&source.file, &refused, refused_count);
                self.metrics.loaded(&source.file, layer.prefixes, start.elapsed());
                (source.layer, source.again) = (layer, None);
                true
            }
            Err(error) => {
                let pause = source.put_off(&error, now);
                self.metrics.load_failed(&source.file, &error, pause);
                false
            }
        }
    }

    fn swap(&mut self) {
        let layers: Vec<&Layer> = self.sources.iter().map(|source| &source.layer).chain(&self.fixed).collect();
        let (tables, places_refused) = merge(&layers, self.config.places_max);
        self.metrics.swapped(&tables, places_refused);
        self.retired.push(self.tables.set(Arc::new(tables)));
    }
}

/// Opens a file, and tells how what was opened looks: a moment later its name may be another one's.
fn open(file: &Path) -> Result<(File, Stamp), LoadError> {
    // To open a pipe would take until somebody writes to it.
    if !fs::metadata(file)?.is_file() {
        return Err(LoadError::NotAFile);
    }
    let opened = File::open(file)?;
    let stamp = Stamp::of(&opened.metadata()?);
    Ok((opened, stamp))
}

/// What a file tells, and its lines that tell nothing.
fn lines_of(opened: &File, format: Format, config: &Config) -> Result<Lines, LoadError> {
    let mut octets = Vec::new();
    opened.take(config.file_octets_max.saturating_add(1)).read_to_end(&mut octets)?;
    if octets.len() as u64 > config.file_octets_max {
        return Err(LoadError::TooLarge { octets_max: config.file_octets_max });
    }
    match format {
        Format::Mmdb => mmdb::read(&octets, config.prefixes_max).map(|layer| Lines { layer, ..Lines::default() }),
        Format::Csv => prefix::of_csv(&octets, config.prefixes_max),
    }
}

/// Everything that is wrong with the files of a config: the key, and the file with what is wrong.
#[must_use]
pub fn check(config: &Config) -> Vec<(String, String)> {
    let read = |file: &Path, format| open(file).and_then(|(opened, _)| lines_of(&opened, format, config));
    let mut found = Vec::new();
    for (index, file) in config.mmdb.iter().enumerate() {
        if let Err(error) = read(file, Format::Mmdb) {
            found.push((format!("collector.enrich.mmdb[{index}]"), format!("{} {error}", file.display())));
        }
    }
    if !config.prefixes.as_os_str().is_empty() {
        let (key, file) = ("collector.enrich.prefixes", config.prefixes.display());
        match read(&config.prefixes, Format::Csv) {
            Ok(lines) => found.extend(lines.refused.into_iter().map(|(line, reason)| (key.to_owned(), format!("{file}:{line}: {reason}")))),
            Err(error) => found.push((key.to_owned(), format!("{file} {error}"))),
        }
    }
    found
}

/// The enrichment as it runs: the tables in force, and the thread that watches their files.
#[derive(Debug)]
pub struct Enrichment {
    tables: SharedTables,
    applications: Arc<Applications>,
    metrics: Arc<Metrics>,
    watcher: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Enrichment {
    /// Reads what is small at once, and leaves large files to the thread: until they are read, flows lie nowhere.
    ///
    /// # Errors
    ///
    /// What the system says to a new thread. A file that cannot be read is told, and tried again when it changes, or
    /// after a while if it could not be opened.
    pub fn start(config: &Config) -> io::Result<Self> {
        let (tables, metrics) = (SharedTables::default(), Arc::<Metrics>::default());
        let mut loader = Loader::new(config, tables.clone(), Arc::clone(&metrics));
        let is_idle = loader.is_idle();
        let is_small = loader.octets() <= config.start_octets_max;
        if !is_idle && is_small {
            loader.load(Instant::now());
        }
        let watcher = if is_idle || (is_small && loader.sources.is_empty()) {
            None
        } else {
            let interval = Duration::from_secs(config.watch_seconds.max(1));
            let (stop, stopped) = bounded::<()>(0);
            let thread = std::thread::Builder::new().name("weir-enrich".to_owned());
            let watch = move || {
                if !is_small {
                    loader.load(Instant::now());
                }
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    loader.look(Instant::now());
                }
            };
            Some((stop, thread.spawn(watch)?))
        };
        Ok(Self { tables, applications: Arc::new(Applications::new(&config.applications)), metrics, watcher })
    }

    /// The tables in force.
    #[must_use]
    pub fn tables(&self) -> &SharedTables {
        &self.tables
    }

    /// Names of applications by port.
    #[must_use]
    pub fn applications(&self) -> &Arc<Applications> {
        &self.applications
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

impl Drop for Enrichment {
    fn drop(&mut self) {
        if let Some((stop, _thread)) = self.watcher.take() {
            // Its other end is all that the thread waits for; a file that it reads just now is not waited for.
            drop(stop);
        }
    }
}
