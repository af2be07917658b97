//! The engine's library: its C interface bound by name at run time, and the safe words over it.
//!
//! Source of the declarations: chdb-core, `programs/local/chdb.h`, 26.7. A connection runs one statement at a time and is
//! owned by one thread; several connections lead to the same folder.
#![expect(unsafe_code, reason = "a library written in C++ is called through its C interface")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

/// Why the library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The file is not there, is of another system, or wants a newer C library.
    #[error("{path}: {reason}")]
    Load {
        /// The library's file.
        path: PathBuf,
        /// What the loader says.
        reason: String,
    },
    /// The engine does not open its folder; it has said why on standard error.
    #[error("the engine does not open {0}")]
    Open(PathBuf),
    /// An argument holds an octet of zero.
    #[error("an argument of the engine holds an octet of zero")]
    Argument,
}

/// What the engine says to a statement that it refuses or gives up, beginning with `Code: N. DB::Exception:`.
pub type Refusal = String;

/// A result set, or its next piece; memory of the engine's.
type RawAnswer = c_void;
/// An insert that is being sent.
type RawInsert = c_void;
/// What `chdb_connect` gives is a pointer to this.
type RawConnection = *mut c_void;

type Names = *const *const c_char;
type Lengths = *const usize;
type WithParameters<T> =
    unsafe extern "C" fn(RawConnection, *const c_char, usize, *const c_char, usize, Names, Lengths, Names, Lengths, usize) -> T;
type OfAnswer<T> = unsafe extern "C" fn(*mut RawAnswer) -> T;

/// The functions of the library that we call.
struct Functions {
    connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut RawConnection,
    close: unsafe extern "C" fn(*mut RawConnection),
    query: WithParameters<*mut RawAnswer>,
    stream: WithParameters<*mut RawAnswer>,
    fetch: unsafe extern "C" fn(RawConnection, *mut RawAnswer) -> *mut RawAnswer,
    cancel: unsafe extern "C" fn(RawConnection, *mut RawAnswer),
    destroy: OfAnswer<()>,
    buffer: OfAnswer<*mut c_char>,
    length: OfAnswer<usize>,
    error: OfAnswer<*const c_char>,
    rows_read: OfAnswer<u64>,
    octets_read: OfAnswer<u64>,
    rows_written: OfAnswer<u64>,
    octets_written: OfAnswer<u64>,
    insert: WithParameters<*mut RawInsert>,
    append: unsafe extern "C" fn(*mut RawInsert, *const c_void, usize) -> c_int,
    done: unsafe extern "C" fn(*mut RawInsert) -> *mut RawAnswer,
    insert_error: unsafe extern "C" fn(*mut RawInsert) -> *const c_char,
    destroy_insert: unsafe extern "C" fn(*mut RawInsert),
    version: unsafe extern "C" fn() -> *const c_char,
    shutdown: unsafe extern "C" fn() -> c_int,
}

impl Functions {
    /// Looks every function up.
    fn of(library: &libloading::Library) -> Result<Self, libloading::Error> {
        macro_rules! symbol {
            ($name:literal) => {
                // SAFETY: the type is that of the header's declaration, and the library is never unloaded (see `Library`).
                *unsafe { library.get(concat!($name, "\0").as_bytes()) }?
            };
        }
        Ok(Self {
            connect: symbol!("chdb_connect"),
            close: symbol!("chdb_close_conn"),
            query: symbol!("chdb_query_with_params_n"),
            stream: symbol!("chdb_stream_query_with_params_n"),
            fetch: symbol!("chdb_stream_fetch_result"),
            cancel: symbol!("chdb_stream_cancel_query"),
            destroy: symbol!("chdb_destroy_query_result"),
            buffer: symbol!("chdb_result_buffer"),
            length: symbol!("chdb_result_length"),
            error: symbol!("chdb_result_error"),
            rows_read: symbol!("chdb_result_storage_rows_read"),
            octets_read: symbol!("chdb_result_storage_bytes_read"),
            rows_written: symbol!("chdb_result_rows_written"),
            octets_written: symbol!("chdb_result_bytes_written"),
            insert: symbol!("chdb_stream_insert_with_params_n"),
            append: symbol!("chdb_stream_append"),
            done: symbol!("chdb_stream_done"),
            insert_error: symbol!("chdb_stream_insert_error"),
            destroy_insert: symbol!("chdb_destroy_insert_stream"),
            version: symbol!("chdb_version"),
            shutdown: symbol!("chdb_shutdown"),
        })
    }
}

/// The loaded library; a process has one engine on one folder.
#[derive(Clone)]
pub struct Library(Arc<Functions>);

impl std::fmt::Debug for Library {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Library({})", self.version())
    }
}

impl Library {
    /// Loads the library, which stays loaded until the process ends.
    ///
    /// # Errors
    ///
    /// [`LibraryError::Load`] with the loader's words.
    pub fn load(path: &Path) -> Result<Self, LibraryError> {
        let refused = |error: libloading::Error| LibraryError::Load { path: path.to_path_buf(), reason: error.to_string() };
        // SAFETY: the library's initialisers touch nothing of ours; which file it is, checksum and config say.
        let library = unsafe { libloading::Library::new(path) }.map_err(refused)?;
        let functions = Functions::of(&library).map_err(refused)?;
        // SAFETY: the header declares `void chdb_set_signal_handlers_enabled(int)`; signals are ours, not the engine's.
        unsafe {
            library.get::<unsafe extern "C" fn(c_int)>(b"chdb_set_signal_handlers_enabled\0").map_err(refused)?(0);
        }
        // Its threads and what it has registered for the process's end do not allow it to be unloaded.
        std::mem::forget(library);
        Ok(Self(Arc::new(functions)))
    }

    /// The version of the interface, like `26.7.0`.
    #[must_use]
    pub fn version(&self) -> String {
        // SAFETY: the header says that this is a string that ends in zero; it is a constant of the library.
        unsafe { text((self.0.version)()) }.unwrap_or_default()
    }

    /// Opens a connection to the engine on `folder`; the first one starts it, with the `--name=value` of its settings.
    ///
    /// # Errors
    ///
    /// [`LibraryError::Open`], for which it gives no reason but on standard error.
    pub fn connect(&self, folder: &Path, settings: &[(&str, String)]) -> Result<Connection, LibraryError> {
        let first = ["weir".to_owned(), format!("--path={}", folder.display())];
        let words = first.into_iter().chain(settings.iter().map(|(name, value)| format!("--{name}={value}")));
        let words: Vec<CString> = words.map(CString::new).collect::<Result<_, _>>().map_err(|_| LibraryError::Argument)?;
        let mut pointers: Vec<*mut c_char> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
        let count = c_int::try_from(pointers.len()).map_err(|_| LibraryError::Argument)?;
        // SAFETY: `count` strings that end in zero, alive until it returns; it copies what it keeps and writes to none.
        let raw = unsafe { (self.0.connect)(count, pointers.as_mut_ptr()) };
        let raw = NonNull::new(raw).ok_or_else(|| LibraryError::Open(folder.to_path_buf()))?;
        Ok(Connection { functions: Arc::clone(&self.0), raw })
    }

    /// Ends the engine, and with it this process, by exit code 0. Every connection must be closed.
    ///
    /// Files that were opened stay as they are: nothing that was registered for the process's end is run. After an insert this
    /// version of the engine leaves a thread parked which it cannot join, and that must not find its world torn down.
    pub fn leave(self) -> ! {
        // SAFETY: the header says that it refuses, and does nothing, while a connection is open; `_exit` has no conditions.
        unsafe {
            (self.0.shutdown)();
            libc::_exit(0)
        }
    }
}

/// A connection: settings and a current database of its own, one statement at a time.
pub struct Connection {
    functions: Arc<Functions>,
    raw: NonNull<RawConnection>,
}

// SAFETY: the header asks that the statements of a connection be serialised, not that one thread make them; `&mut self` does it.
unsafe impl Send for Connection {}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: it was opened by `connect` and is closed once; what borrows it has ended.
        unsafe { (self.functions.close)(self.raw.as_ptr()) };
    }
}

impl Connection {
    fn raw(&self) -> RawConnection {
        // SAFETY: `connect` gives a pointer to a handle, which stands until it is closed.
        unsafe { *self.raw.as_ptr() }
    }

    /// Runs a statement to its end; the whole result is in memory.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn query(&mut self, statement: &str, format: &str, parameters: &[(String, String)]) -> Result<Answer, Refusal> {
        let raw = call(self.functions.query, self.raw(), statement, format, parameters);
        Answer::of(&self.functions, raw)
    }

    /// Begins a `SELECT`, whose result comes block by block, each written as a document of the format.
    ///
    /// # Errors
    ///
    /// What the engine says, often not before the first block.
    pub fn stream(&mut self, statement: &str, format: &str, parameters: &[(String, String)]) -> Result<Stream<'_>, Refusal> {
        let raw = call(self.functions.stream, self.raw(), statement, format, parameters);
        let head = Answer::of(&self.functions, raw)?;
        Ok(Stream { connection: self, head, is_over: false })
    }

    /// Begins an `INSERT` without its `FORMAT`, whose rows are sent in that format.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn insert(&mut self, statement: &str, format: &str, parameters: &[(String, String)]) -> Result<Insert<'_>, Refusal> {
        let raw = call(self.functions.insert, self.raw(), statement, format, parameters);
        let insert = Insert { raw: NonNull::new(raw).ok_or("the engine gives no insert")?, connection: self };
        insert.error().map_or(Ok(insert), Err)
    }
}

/// Calls one of the functions that take a statement, a format and parameters, with lengths everywhere.
fn call<T>(function: WithParameters<T>, connection: RawConnection, statement: &str, format: &str, parameters: &[(String, String)]) -> T {
    let pointers = |of: fn(&(String, String)) -> &String| {
        let texts = parameters.iter().map(of);
        let pairs: (Vec<*const c_char>, Vec<usize>) = texts.map(|text| (text.as_ptr().cast(), text.len())).unzip();
        pairs
    };
    let (names, name_lengths) = pointers(|pair| &pair.0);
    let (values, value_lengths) = pointers(|pair| &pair.1);
    // SAFETY: each pointer leads to as many octets as the length beside it says, alive until it returns; the engine copies them.
    unsafe {
        function(
            connection,
            statement.as_ptr().cast(),
            statement.len(),
            format.as_ptr().cast(),
            format.len(),
            names.as_ptr(),
            name_lengths.as_ptr(),
            values.as_ptr(),
            value_lengths.as_ptr(),
            parameters.len(),
        )
    }
}

/// A result or a piece of one, in the engine's memory.
pub struct Answer {
    functions: Arc<Functions>,
    raw: NonNull<RawAnswer>,
}

// SAFETY: a result that was handed out belongs to nobody else; the header binds it to no thread.
unsafe impl Send for Answer {}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: it came from the library and is given back once.
        unsafe { (self.functions.destroy)(self.raw.as_ptr()) };
    }
}

impl Answer {
    fn of(functions: &Arc<Functions>, raw: *mut RawAnswer) -> Result<Self, Refusal> {
        let raw = NonNull::new(raw).ok_or("the engine gives no answer")?;
        let answer = Self { functions: Arc::clone(functions), raw };
        // SAFETY: the error is null or a string that ends in zero and lives as long as the result.
        match unsafe { text((answer.functions.error)(answer.raw.as_ptr())) } {
            Some(error) => Err(error),
            None => Ok(answer),
        }
    }

    fn number<T>(&self, function: OfAnswer<T>) -> T {
        // SAFETY: the result stands until `drop`.
        unsafe { function(self.raw.as_ptr()) }
    }

    /// Rows and octets that were read from tables.
    #[must_use]
    pub fn read(&self) -> (u64, u64) {
        (self.number(self.functions.rows_read), self.number(self.functions.octets_read))
    }

    /// Rows and octets that were written, those of materialised views too.
    #[must_use]
    pub fn written(&self) -> (u64, u64) {
        (self.number(self.functions.rows_written), self.number(self.functions.octets_written))
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        let (start, length) = (self.number(self.functions.buffer), self.number(self.functions.length));
        if start.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: the engine's buffer has this length, stands until `drop` and is written by nobody.
        unsafe { std::slice::from_raw_parts(start.cast_const().cast(), length) }
    }
}

/// A `SELECT` that is being read.
pub struct Stream<'a> {
    connection: &'a mut Connection,
    head: Answer,
    is_over: bool,
}

impl Stream<'_> {
    /// The next block; none at the end.
    ///
    /// # Errors
    ///
    /// What the engine says, after which nothing more comes.
    pub fn block(&mut self) -> Result<Option<Answer>, Refusal> {
        // SAFETY: connection and head stand, and `&mut self` keeps others from them.
        let raw = unsafe { (self.connection.functions.fetch)(self.connection.raw(), self.head.raw.as_ptr()) };
        let piece = Answer::of(&self.connection.functions, raw).inspect_err(|_| self.is_over = true)?;
        self.is_over = piece.as_ref().is_empty();
        Ok((!self.is_over).then_some(piece))
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            // SAFETY: as in `block`.
            unsafe { (self.connection.functions.cancel)(self.connection.raw(), self.head.raw.as_ptr()) };
        }
    }
}

/// An `INSERT` whose rows are being sent; dropped before [`Insert::done`], it writes nothing more.
pub struct Insert<'a> {
    connection: &'a mut Connection,
    raw: NonNull<RawInsert>,
}

impl Insert<'_> {
    fn error(&self) -> Option<Refusal> {
        // SAFETY: the insert stands until `drop`; the error is null or a string that ends in zero.
        unsafe { text((self.connection.functions.insert_error)(self.raw.as_ptr())) }
    }

    /// Sends octets of rows, which the engine copies; waits while it is behind. Answers whether it wants more.
    pub fn append(&mut self, octets: &[u8]) -> bool {
        // SAFETY: as many octets as the length says, alive until it returns.
        unsafe { (self.connection.functions.append)(self.raw.as_ptr(), octets.as_ptr().cast(), octets.len()) == 0 }
    }

    /// Ends the insert; when it returns the rows are stored.
    ///
    /// # Errors
    ///
    /// What the engine says.
    pub fn done(self) -> Result<Answer, Refusal> {
        // SAFETY: the insert stands until `drop`, which frees it whether it was ended or not.
        let raw = unsafe { (self.connection.functions.done)(self.raw.as_ptr()) };
        Answer::of(&self.connection.functions, raw)
    }
}

impl Drop for Insert<'_> {
    fn drop(&mut self) {
        // SAFETY: it is freed once, before its connection; an insert that was not ended is cancelled by it.
        unsafe { (self.connection.functions.destroy_insert)(self.raw.as_ptr()) };
    }
}

/// A copy of a string of the library's; none if there is none.
///
/// # Safety
///
/// The pointer is null or leads to a string that ends in zero.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: what the caller promises.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()).filter(|text| !text.is_empty())
}

/// Ends this process as it is.
pub fn give_up() -> ! {
    // SAFETY: it has no conditions.
    unsafe { libc::_exit(1) }
}

/// Has whoever works in `folder` besides go on, if it was stopped: an engine whose parent has gone ends as soon as it can.
pub fn wake(folder: &Path) {
    let own = std::process::id();
    let processes = std::fs::read_dir("/proc").into_iter().flatten();
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    for id in ids.filter(|id| *id != own && std::fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|works_in| works_in == folder)) {
        // SAFETY: it takes numbers; to who was not stopped it does nothing.
        unsafe { libc::kill(id.cast_signed(), libc::SIGCONT) };
    }
}

/// Has the kernel ask this process to end when the thread that started it ends; where the kernel cannot, the end of standard input has to
/// do. One that is stopped just then is woken by the next ([`wake`]).
///
/// It is asked and not killed: a block whose flows are in their table and whose sums are not would stay so, for a parent that was killed
/// knows nothing of it.
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    // SAFETY: it takes numbers and touches no memory of ours; what it answers changes nothing, the end of standard input is told too.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
    }
}
