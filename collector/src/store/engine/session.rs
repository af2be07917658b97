//! The engine's connections: a thread each, which runs one statement at a time, in its database and with its settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::mpsc;

use super::heart::Heart;
use super::library::{Connection, Library, LibraryError, Refusal};
use super::statement::Framing;

/// Connections for everything else: as many as questions and files are asked for at once by default (`[api.query]`), since a file that is read
/// slowly keeps its connection.
const QUERIES: usize = 5;
/// Statements that wait for a connection.
const WAITING_MAX: usize = 64;
/// Blocks of a result that wait for the client.
const BLOCKS_WAITING_MAX: usize = 4;
/// The database of a statement that names none.
const DEFAULT_DATABASE: &str = "default";

/// Settings by name.
pub type Settings = BTreeMap<String, String>;

/// A statement and everything that holds for it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The statement; of an insert whose rows are sent, without its `FORMAT`.
    pub statement: String,
    /// The format of the result if the statement names none; of an insert, that of its rows.
    pub format: String,
    /// The current database.
    pub database: Option<String>,
    /// Settings.
    pub settings: Settings,
    /// Values of `{name:Type}`.
    pub parameters: Vec<(String, String)>,
    /// The name by which it can be cancelled.
    pub name: String,
}

/// How a statement is run.
#[derive(Debug)]
pub enum Way {
    /// Block by block.
    Stream(Framing),
    /// As a whole.
    Whole,
    /// As an insert of the rows that come.
    Insert(mpsc::Receiver<Rows>),
}

/// Rows of an insert on their way; if their sender is dropped before the end, nothing is inserted.
#[derive(Debug)]
pub enum Rows {
    /// More of them.
    More(Bytes),
    /// These were all.
    End,
}

/// A part of an answer.
#[derive(Debug)]
pub enum Part {
    /// Octets of the result; more may follow.
    Data(Bytes),
    /// The last octets of the result.
    Done(Bytes, Summary),
    /// The statement was refused or given up.
    Failed(Refusal),
}

/// What a statement cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows read from tables.
    pub rows_read: u64,
    /// Octets of them.
    pub octets_read: u64,
    /// Rows written, those of materialised views too.
    pub rows_written: u64,
    /// Octets of them.
    pub octets_written: u64,
}

/// There is no room among the statements that wait.
#[derive(Debug, PartialEq, Eq)]
pub struct Busy;

struct Job {
    ask: Ask,
    way: Way,
    parts: mpsc::Sender<Part>,
}

/// A statement to be given up, by its name.
struct Cancel(String);

/// The threads of an engine that is open.
#[derive(Debug)]
pub struct Sessions {
    inserts: Sender<Job>,
    queries: Sender<Job>,
    errands: Sender<Cancel>,
    heart: Heart,
    /// The heart stops with this.
    beating: Sender<()>,
    threads: Vec<JoinHandle<()>>,
    version: String,
}

impl Sessions {
    /// Opens the engine on a folder: `server` are the settings of the engine as a whole, `base` those of every statement;
    /// `inserts` connections are for inserts alone, so that no query keeps them waiting.
    ///
    /// # Errors
    ///
    /// What the library says; a setting of `base` that it does not know.
    pub fn open(
        library: &Library,
        folder: &Path,
        server: &[(&str, String)],
        base: &Settings,
        inserts: usize,
    ) -> Result<Self, LibraryError> {
        let connections = inserts;
        let (inserts, insert_jobs) = bounded(WAITING_MAX);
        let (queries, query_jobs) = bounded(WAITING_MAX);
        let (errands, errand_jobs) = bounded(WAITING_MAX);
        let session = |connection| Session { connection, base: base.clone(), set: Settings::new(), database: DEFAULT_DATABASE.to_owned() };
        let mut control = session(library.connect(folder, server)?);
        let version = control.scalar("SELECT version()").map_err(|_| LibraryError::Open(folder.to_path_buf()))?;
        let mut threads = Vec::new();
        for jobs in std::iter::repeat_n(insert_jobs, connections).chain(std::iter::repeat_n(query_jobs, QUERIES)) {
            let session = session(library.connect(folder, &[])?);
            threads.push(thread("weir-session", move || session.serve(&jobs)));
        }
        threads.push(thread("weir-errand", move || control.run_errands(&errand_jobs)));
        let mut pulse = session(library.connect(folder, &[])?);
        let heart = Heart::new(Instant::now());
        let (beating, stopped) = bounded(0);
        let own = heart.clone();
        // An answer of any kind is a sign of life: a refusal for want of memory too.
        threads.push(thread("weir-heart", move || own.run(&stopped, || drop(pulse.scalar("SELECT 1")))));
        Ok(Self { inserts, queries, errands, heart, beating, threads, version })
    }

    /// The engine's version, like `26.7.2.1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Has a statement run; its answer comes in parts.
    ///
    /// # Errors
    ///
    /// [`Busy`] if too many wait.
    pub fn ask(&self, ask: Ask, way: Way) -> Result<mpsc::Receiver<Part>, Busy> {
        let (parts, answer) = mpsc::channel(BLOCKS_WAITING_MAX);
        let jobs = if matches!(way, Way::Insert(_)) { &self.inserts } else { &self.queries };
        jobs.try_send(Job { ask, way, parts }).map_err(|_| Busy)?;
        Ok(answer)
    }

    /// Whether the engine lives.
    #[must_use]
    pub fn are_alive(&self) -> bool {
        self.heart.beats(Instant::now())
    }

    /// Gives up a statement by its name.
    pub fn cancel(&self, name: String) {
        if let Err(TrySendError::Full(_)) = self.errands.try_send(Cancel(name)) {
            tracing::warn!("a statement whose client has gone is not cancelled: too many errands wait");
        }
    }

    /// Lets what runs end, and closes every connection.
    pub fn close(self) {
        let Self { inserts, queries, errands, heart: _, beating, threads, version: _ } = self;
        drop((inserts, queries, errands, beating));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a session's thread has panicked");
            }
        }
    }
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    #[expect(clippy::expect_used, reason = "a child that cannot start a thread has nothing to offer, and its parent is told by its end")]
    std::thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread starts")
}

/// One connection, and what was set on it.
struct Session {
    connection: Connection,
    base: Settings,
    set: Settings,
    database: String,
}

impl Session {
    fn serve(mut self, jobs: &Receiver<Job>) {
        for Job { ask, way, parts } in jobs {
            // Its client may have gone while it waited.
            if parts.is_closed() {
                continue;
            }
            let last = match self.run(&ask, way, &parts) {
                Ok(Some((octets, summary))) => Part::Done(octets, summary),
                Ok(None) => continue,
                Err(refusal) => Part::Failed(refusal),
            };
            drop(parts.blocking_send(last));
        }
    }

    fn run_errands(&mut self, errands: &Receiver<Cancel>) {
        for Cancel(name) in errands {
            let statement = format!("KILL QUERY WHERE Settings['log_comment'] = {} ASYNC", literal(&name));
            drop(self.connection.query(&statement, "Null", &[]));
        }
    }

    fn scalar(&mut self, statement: &str) -> Result<String, Refusal> {
        let answer = self.connection.query(statement, "TabSeparatedRaw", &[])?;
        Ok(String::from_utf8_lossy(answer.as_ref()).trim_end().to_owned())
    }

    /// Runs a statement; nothing is answered if nobody listens any more.
    fn run(&mut self, ask: &Ask, way: Way, parts: &mpsc::Sender<Part>) -> Result<Option<(Bytes, Summary)>, Refusal> {
        self.prepare(ask)?;
        match way {
            Way::Whole => self.whole(ask).map(Some),
            Way::Insert(rows) => self.insert(ask, rows),
            Way::Stream(framing) => self.stream(ask, framing, parts),
        }
    }

    fn whole(&mut self, ask: &Ask) -> Result<(Bytes, Summary), Refusal> {
        let answer = self.connection.query(&ask.statement, &ask.format, &ask.parameters)?;
        let ((rows_read, octets_read), (rows_written, octets_written)) = (answer.read(), answer.written());
        Ok((Bytes::from_owner(answer), Summary { rows_read, octets_read, rows_written, octets_written }))
    }

    fn insert(&mut self, ask: &Ask, mut rows: mpsc::Receiver<Rows>) -> Result<Option<(Bytes, Summary)>, Refusal> {
        let mut insert = self.connection.insert(&ask.statement, &ask.format, &ask.parameters)?;
        loop {
            match rows.blocking_recv() {
                // What is wrong with the rows, `done` tells.
                Some(Rows::More(octets)) if insert.append(&octets) => {}
                Some(Rows::More(_) | Rows::End) => break,
                None => return Ok(None),
            }
        }
        let (rows_written, octets_written) = insert.done()?.written();
        Ok(Some((Bytes::new(), Summary { rows_written, octets_written, ..Summary::default() })))
    }

    fn stream(&mut self, ask: &Ask, framing: Framing, parts: &mpsc::Sender<Part>) -> Result<Option<(Bytes, Summary)>, Refusal> {
        let mut stream = self.connection.stream(&ask.statement, &ask.format, &ask.parameters)?;
        let mut head: Option<Bytes> = None;
        let mut summary = Summary::default();
        while let Some(block) = stream.block()? {
            let (rows, octets) = block.read();
            summary.rows_read += rows;
            summary.octets_read += octets;
            let mut octets = Bytes::from_owner(block);
            match &head {
                None => head = Some(octets.slice(..framing.head(&octets))),
                Some(head) if octets.starts_with(head) => octets = octets.slice(head.len()..),
                Some(_) => {
                    return Err("Code: 1002. DB::Exception: a later block begins otherwise than the first. (UNKNOWN_EXCEPTION)".to_owned());
                }
            }
            if parts.blocking_send(Part::Data(octets)).is_err() {
                return Ok(None);
            }
        }
        Ok(Some((Bytes::new(), summary)))
    }

    /// Makes the statement's database the current one and its settings those of the connection.
    fn prepare(&mut self, ask: &Ask) -> Result<(), Refusal> {
        let database = ask.database.as_deref().unwrap_or(DEFAULT_DATABASE);
        if self.database != database {
            self.connection.query(&format!("USE {}", identifier(database)), "Null", &[])?;
            database.clone_into(&mut self.database);
        }
        let mut wanted = self.base.clone();
        wanted.extend(ask.settings.iter().map(|(name, value)| (name.clone(), value.clone())));
        wanted.insert("log_comment".to_owned(), ask.name.clone());
        if let Some(unknown) = wanted.keys().find(|name| !is_setting(name)) {
            return Err(format!("Code: 115. DB::Exception: Unknown setting '{unknown}'. (UNKNOWN_SETTING)"));
        }
        let gone = self.set.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("{name} = DEFAULT"));
        let changed = wanted.iter().filter(|(name, value)| self.set.get(*name) != Some(value));
        let changes: Vec<String> = gone.chain(changed.map(|(name, value)| format!("{name} = {}", literal(value)))).collect();
        if changes.is_empty() {
            return Ok(());
        }
        match self.connection.query(&format!("SET {}", changes.join(", ")), "Null", &[]) {
            Ok(_) => {
                self.set = wanted;
                Ok(())
            }
            Err(refusal) => {
                self.forget(wanted);
                Err(refusal)
            }
        }
    }

    /// Takes back what was set, one by one since one of them is refused; some of them may have been set.
    fn forget(&mut self, wanted: Settings) {
        let names: Settings = std::mem::take(&mut self.set).into_iter().chain(wanted).collect();
        for name in names.keys() {
            drop(self.connection.query(&format!("SET {name} = DEFAULT"), "Null", &[]));
        }
    }
}

/// Whether a word can be the name of a setting.
fn is_setting(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// A text between quotes.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name between backticks.
fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
