//! `weir engine run`: the child's life, from the lock of its folder to the end of the engine's threads.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::library::{self, Library, LibraryError};
use super::request::Secret;
use super::session::{Sessions, Settings};
use super::{USER, front};
use crate::connections::{self, Bounds, Watch};
use crate::store::folder::make_private;

/// How long the folder's last engine may take to end.
const LOCK_WAIT: Duration = Duration::from_secs(30);
/// How long statements that run are waited for when the end is asked for.
const DRAIN_WAIT: Duration = Duration::from_secs(5);
/// How long all of the end may take: the next engine waits a little longer for the folder.
const END_WAIT: Duration = Duration::from_secs(25);
/// Octets that a child needs besides what the engine counts: its code's pages, stacks, our own.
const OUTSIDE_OCTETS: u64 = 134_217_728;
/// The least that an engine can work with.
const MEMORY_OCTETS_MIN: u64 = 268_435_456;
/// The memory that two inserts at once need: a block of flows with what the views make of it takes about 500 MB, measured.
const TWO_INSERTS_OCTETS: u64 = 1_610_612_736;
/// How willing the child is to be the one that the kernel ends when memory is short, of 1,000; what it holds is on disk.
const OOM_SCORE: &str = "500";

/// What the front lets in. Its clients are few, and let go of a connection when they have not used it for 2 s; one that says nothing has
/// to make room for them before the parent takes the silence for an end.
const BOUNDS: Bounds = Bounds { connections_max: 256, header_wait: Duration::from_secs(4), write_wait: Duration::from_secs(600) };

/// What a child is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine's library.
    pub library: PathBuf,
    /// Its folder.
    pub folder: PathBuf,
    /// Octets of memory that the child may use.
    pub memory_octets_max: u64,
    /// Threads of one statement, and of merges.
    pub threads_max: usize,
}

/// Why a child ends before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The library does not load or does not open the folder.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// Another engine holds the folder.
    #[error("{0} is held by another engine")]
    Held(PathBuf),
    /// Too little memory.
    #[error("an engine needs {MEMORY_OCTETS_MIN} octets of memory at least")]
    Memory,
    /// Something of the system.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Is the engine until standard input ends or SIGTERM comes, and then ends the process. The first line of standard input is the
/// secret; the line on standard output is `ready PORT VERSION` when the engine answers, `failed REASON` when it never will.
///
/// # Errors
///
/// [`RunError`].
pub fn run(options: &Options) -> Result<Infallible, RunError> {
    live(options).inspect_err(|error| println!("failed {}", error.to_string().replace('\n', " ")))
}

fn live(options: &Options) -> Result<Infallible, RunError> {
    library::end_with_parent();
    // It may always be raised; where there is no such file, nothing is lost.
    drop(std::fs::write("/proc/self/oom_score_adj", OOM_SCORE));
    let mut secret = String::new();
    io::stdin().lock().read_line(&mut secret)?;
    let memory = options
        .memory_octets_max
        .checked_sub(OUTSIDE_OCTETS)
        .filter(|_| options.memory_octets_max >= MEMORY_OCTETS_MIN)
        .ok_or(RunError::Memory)?;
    make_private(&options.folder)?;
    let folder = options.folder.canonicalize()?;
    // The engine reads a `config.xml` that lies where it is started; in its own folder there is none.
    std::env::set_current_dir(&folder)?;
    wait_for(&folder)?;
    let engine = Library::load(&options.library)?;
    let (server, base) = (server(memory, options.threads_max), base(memory, options.threads_max));
    let inserts = if options.memory_octets_max < TWO_INSERTS_OCTETS { 1 } else { 2 };
    let sessions = Arc::new(Sessions::open(&engine, &folder, &server, &base, inserts)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(Arc::clone(&sessions), Secret::of(secret.trim_end())))?;
    // What still runs holds the sessions by way of its request.
    runtime.shutdown_timeout(Duration::ZERO);
    if let Some(sessions) = Arc::into_inner(sessions) {
        sessions.close();
    }
    engine.leave()
}

/// Settings of the engine as a whole. Caches and pools are by default made for a server of its own.
fn server(memory: u64, threads: usize) -> Vec<(&'static str, String)> {
    let part = |divisor: u64| (memory / divisor).to_string();
    vec![
        ("max_server_memory_usage", memory.to_string()),
        ("merges_mutations_memory_usage_soft_limit", part(3)),
        ("mark_cache_size", part(16)),
        ("index_mark_cache_size", part(64)),
        ("primary_index_cache_size", part(32)),
        ("query_condition_cache_size", part(64)),
        ("compiled_expression_cache_size", part(32)),
        ("parquet_metadata_cache_size", part(64)),
        ("vector_similarity_index_cache_size", "1048576".to_owned()),
        ("text_index_tokens_cache_size", "1048576".to_owned()),
        ("text_index_header_cache_size", "1048576".to_owned()),
        ("text_index_postings_cache_size", "1048576".to_owned()),
        ("iceberg_metadata_files_cache_size", "1048576".to_owned()),
        ("background_pool_size", threads.max(1).to_string()),
        ("max_thread_pool_size", "512".to_owned()),
    ]
}

/// Settings of every statement that says nothing else.
fn base(memory: u64, threads: usize) -> Settings {
    let settings = [
        // An insert is answered when it is stored, and its block is what was sent.
        ("async_insert", "0".to_owned()),
        ("max_threads", threads.max(1).to_string()),
        ("max_insert_threads", "1".to_owned()),
        // One query leaves enough for inserts and merges.
        ("max_memory_usage", (memory / 5 * 3).to_string()),
        // The engine's own defaults for a command line tool.
        ("implicit_select", "0".to_owned()),
        ("allow_introspection_functions", "0".to_owned()),
    ];
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Waits until no other engine holds the folder: the one before this may still be ending.
fn wait_for(folder: &Path) -> Result<(), RunError> {
    // The engine locks this file as long as it lives, and fails at once if another does.
    let status = File::options().create(true).truncate(false).write(true).open(folder.join("status"))?;
    let began = Instant::now();
    while status.try_lock().is_err() {
        if began.elapsed() > LOCK_WAIT {
            return Err(RunError::Held(folder.to_path_buf()));
        }
        library::wake(folder);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(status.unlock()?)
}

/// Who comes without being let in: on loopback that is a fault of ours, or somebody who should not be there.
struct Strangers;

impl Watch for Strangers {
    fn connection_refused(&self) {
        tracing::warn!(connections_max = BOUNDS.connections_max, "a connection to the engine was closed: too many are open");
    }

    fn accept_failed(&self, error: &io::Error) {
        tracing::warn!(%error, "a connection to the engine cannot be accepted");
    }
}

async fn serve(sessions: Arc<Sessions>, secret: Secret) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    // A terminal sends this to everyone who was started in it; the parent drains first, and then ends us.
    let _ignored = signal(SignalKind::interrupt())?;
    // With this the kernel may tell a stopped child that its parent has gone; that is told otherwise, too.
    let _told_twice = signal(SignalKind::hangup())?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let (stop, mut stopped) = watch::channel(false);
    let routes = front::routes(Arc::clone(&sessions), USER, secret);
    let server = tokio::spawn(connections::serve(listener, routes, BOUNDS, Arc::new(Strangers), stopped.clone()));
    println!("ready {port} {}", sessions.version());
    io::stdout().flush()?;
    let parent = stop.clone();
    std::thread::spawn(move || {
        // A read that ends, however it ends, is the parent's end or its wish.
        drop(io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink()));
        parent.send_replace(true);
    });
    tokio::select! {
        _ = terminate.recv() => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    stop.send_replace(true);
    std::thread::spawn(|| {
        std::thread::sleep(END_WAIT);
        library::give_up()
    });
    drop(tokio::time::timeout(DRAIN_WAIT, server).await);
    Ok(())
}
