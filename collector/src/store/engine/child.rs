//! The thread that keeps the engine running: fetches its library, starts it, watches it, starts it again, ends it.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::USER;
use super::metrics::Metrics;
use super::{install, library};
use crate::store::config::Embedded;
use crate::store::link::{Endpoint, Link};

/// How long a child may take until it answers: it reads the parts of its tables first, and may wait for the lock of its folder.
const START_WAIT: Duration = Duration::from_secs(120);
/// One that was given up had perhaps more to read: the next may take twice as long, up to this.
const START_WAIT_MAX: Duration = Duration::from_secs(3_600);
/// Between two looks at the child.
const WATCH_PERIOD: Duration = Duration::from_millis(500);
/// How long a sign of life may take.
const PING_WAIT: Duration = Duration::from_secs(2);
/// A child that has been silent for so long is taken for away; one that is only busy is not.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// A child that has been silent for so long is ended and started again.
const HANG_MAX: Duration = Duration::from_secs(30);
/// How long a child may take to end when it is asked to.
const STOP_WAIT: Duration = Duration::from_secs(15);
/// The pauses before a child is started again begin with this and double,
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A child that ran for so long makes the next pause the shortest again.
const STEADY: Duration = Duration::from_secs(60);
/// What the child says before it answers is not longer.
const GREETING_OCTETS_MAX: u64 = 4_096;

/// What is done each time that a child answers, before anyone else may ask it; what it fails with is told as the reason.
pub type Start = Box<dyn Fn(&Endpoint) -> Result<(), String> + Send>;

/// The engine as the parent sees it.
#[derive(Debug)]
pub struct Engine {
    stop: Sender<()>,
    thread: Option<JoinHandle<String>>,
    metrics: Arc<Metrics>,
    folder: PathBuf,
}

impl Engine {
    /// Starts the thread that starts the engine: `program engine run …` on `folder`, whose tables are in `database`.
    ///
    /// The link leads there as soon as `start` has succeeded, and nowhere while the engine is away.
    ///
    /// # Errors
    ///
    /// What the system says to a new thread.
    pub fn start(config: &Embedded, folder: &Path, program: &Path, database: &str, link: Link, start: Start) -> io::Result<Self> {
        let metrics = Arc::new(Metrics::default());
        let (stop, stopped) = bounded(1);
        // The child works in its folder: what is named from here must not depend on where one is.
        let folder = std::path::absolute(folder)?;
        let supervisor = Supervisor {
            config: config.clone(),
            folder: folder.clone(),
            program: program.to_path_buf(),
            database: database.to_owned(),
            link,
            start,
            metrics: Arc::clone(&metrics),
            stopped,
            start_wait: START_WAIT,
        };
        let thread = std::thread::Builder::new().name("weir-engine".to_owned()).spawn(move || supervisor.keep())?;
        Ok(Self { stop, thread: Some(thread), metrics, folder })
    }

    /// What has happened to it.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Has it go on if somebody has stopped it (SIGSTOP): before an end, so that it takes what still comes.
    pub fn wake(&self) {
        library::wake(&self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone()));
    }

    /// Ends it: what runs may end, then its connections are closed; it is ended by force when that takes too long. How it has ended.
    pub fn stop(mut self) -> String {
        self.end()
    }

    fn end(&mut self) -> String {
        self.wake();
        let _ = self.stop.try_send(());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(how)) => how,
            Some(Err(_)) => "the engine's supervisor has panicked".to_owned(),
            None => String::new(),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// Why there is no engine now.
enum Trouble {
    /// The end was asked for; how it came.
    Stop(String),
    /// It did not come up.
    Start(String),
    /// Nothing was heard of it.
    Silence,
    /// It was up and has ended.
    End(String),
}

struct Supervisor {
    config: Embedded,
    folder: PathBuf,
    program: PathBuf,
    database: String,
    link: Link,
    start: Start,
    metrics: Arc<Metrics>,
    stopped: Receiver<()>,
    /// How long the next child may take until it answers.
    start_wait: Duration,
}

impl Supervisor {
    fn keep(mut self) -> String {
        let mut pause = PAUSE_MIN;
        loop {
            let began = Instant::now();
            let trouble = self.live();
            if began.elapsed() > STEADY {
                pause = PAUSE_MIN;
            }
            let reason = match trouble {
                // An installation that was broken off is no failure.
                Trouble::Start(how) | Trouble::End(how) if !self.stopped.is_empty() => return how,
                Trouble::Stop(how) => {
                    self.link.set_away("the engine was stopped");
                    return how;
                }
                Trouble::Start(reason) => {
                    self.metrics.start_failed(&reason, pause);
                    format!("the engine does not start: {reason}")
                }
                Trouble::Silence => {
                    let waited = self.start_wait;
                    self.start_wait = (waited * 2).min(START_WAIT_MAX);
                    let reason = format!("nothing was heard of it for {waited:?}, the next may take {:?}", self.start_wait);
                    self.metrics.start_failed(&reason, pause);
                    format!("the engine does not start: {reason}")
                }
                Trouble::End(reason) => {
                    self.metrics.ended(&reason, pause);
                    format!("the engine has ended: {reason}")
                }
            };
            self.link.set_away(&reason);
            if self.is_stopped_within(pause) {
                return reason;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn is_stopped_within(&self, time: Duration) -> bool {
        !matches!(self.stopped.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }

    /// One life of a child, from its library to its end.
    fn live(&self) -> Trouble {
        let library = match self.library() {
            Ok(library) => library,
            Err(error) => return Trouble::Start(error.to_string()),
        };
        let began = Instant::now();
        let mut running = match Running::start(&self.program, &library, &self.folder, &self.config) {
            Ok(running) => running,
            Err(error) => return Trouble::Start(format!("{}: {error}", self.program.display())),
        };
        let (port, version) = match self.greeting(&mut running) {
            Ok(greeting) => greeting,
            Err(trouble) => return trouble,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let endpoint = Endpoint {
            url: format!("http://{address}"),
            user: USER.to_owned(),
            password: running.secret.clone(),
            database: self.database.clone(),
            is_remote: false,
        };
        if let Err(reason) = (self.start)(&endpoint) {
            running.stop();
            return Trouble::Start(reason);
        }
        self.metrics.started(&version, began.elapsed());
        self.link.set_up(endpoint.clone());
        self.watch(&mut running, address, &endpoint)
    }

    /// Where the library is; fetched first if it is the pinned one and not there.
    fn library(&self) -> Result<PathBuf, install::InstallError> {
        if !self.config.library.as_os_str().is_empty() {
            return Ok(self.config.library.clone());
        }
        let place = install::place()?;
        if !place.exists() {
            self.link.set_away("the engine is being fetched");
            install::install(install::package()?, &place, &mut Fetching(self))?;
        }
        Ok(place)
    }

    /// Waits for the line that tells where the child answers.
    fn greeting(&self, running: &mut Running) -> Result<(u16, String), Trouble> {
        self.link.set_away("the engine starts");
        let began = Instant::now();
        loop {
            if self.is_stopped_within(Duration::ZERO) {
                return Err(Trouble::Stop(running.stop()));
            }
            match running.greeting.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => {
                    if let Some(reason) = line.strip_prefix("failed ") {
                        running.stop();
                        return Err(Trouble::Start(reason.trim_end().to_owned()));
                    }
                    let mut words = line.strip_prefix("ready ").unwrap_or_default().split_whitespace();
                    if let (Some(Ok(port)), Some(version)) = (words.next().map(str::parse), words.next()) {
                        return Ok((port, version.to_owned()));
                    }
                }
                Err(RecvTimeoutError::Timeout) if began.elapsed() < self.start_wait => {}
                Err(RecvTimeoutError::Timeout) => return Err(Trouble::Silence),
                // It has closed its output: it ends.
                Err(RecvTimeoutError::Disconnected) => return Err(Trouble::Start(running.stop())),
            }
        }
    }

    /// Looks after a child that answers until it ends or the end is asked for.
    fn watch(&self, running: &mut Running, address: SocketAddr, endpoint: &Endpoint) -> Trouble {
        let mut heard = Instant::now();
        let mut is_up = true;
        loop {
            if self.is_stopped_within(WATCH_PERIOD) {
                self.link.set_away("the engine is being stopped");
                let began = Instant::now();
                let how = running.stop();
                self.metrics.stopped(&how, began.elapsed());
                return Trouble::Stop(how);
            }
            match running.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Trouble::End(End(status).to_string()),
                Err(error) => return Trouble::End(error.to_string()),
            }
            if ping(address).is_ok() {
                heard = Instant::now();
                if !is_up {
                    is_up = true;
                    self.metrics.answers_again();
                    self.link.set_up(endpoint.clone());
                }
            } else if is_up && heard.elapsed() > SILENCE_MAX {
                is_up = false;
                self.metrics.hangs(heard.elapsed());
                self.link.set_away("the engine does not answer");
            }
            if heard.elapsed() > HANG_MAX {
                running.kill();
                return Trouble::End(format!("it was silent for {} s", HANG_MAX.as_secs()));
            }
        }
    }
}

/// Tells of the installation, and breaks it off when the end is asked for.
struct Fetching<'a>(&'a Supervisor);

impl install::Observer for Fetching<'_> {
    fn step(&mut self, step: &str) {
        Metrics::installing(step);
    }

    fn goes_on(&mut self, _octets: u64) -> bool {
        // It is left where it is: whoever waits for it next is to find it too.
        self.0.stopped.is_empty()
    }
}

/// Asks for a sign of life, and reads the status.
fn ping(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, PING_WAIT)?;
    stream.set_read_timeout(Some(PING_WAIT))?;
    stream.set_write_timeout(Some(PING_WAIT))?;
    stream.write_all(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    if status.ends_with(b" 200") { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// A child that has been started; it ends with this.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    greeting: Receiver<String>,
    secret: String,
}

impl Running {
    fn start(program: &Path, library: &Path, folder: &Path, config: &Embedded) -> io::Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(program);
        command.args(["engine", "run", "--library"]).arg(library).arg("--folder").arg(folder);
        command.arg("--memory-octets-max").arg(config.memory_octets_max.to_string());
        command.arg("--threads-max").arg(config.threads_max.to_string());
        // A terminal's Ctrl-C is for the parent, which drains first; what the engine would read at home is not ours.
        command.process_group(0).env_remove("HOME").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let secret = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let (lines, greeting) = bounded(1);
        let mut stdin = child.stdin.take();
        if let Some(stdin) = &mut stdin {
            // A child that has ended at once is found by its end.
            drop(stdin.write_all(format!("{secret}\n").as_bytes()));
        }
        if let Some(stdout) = child.stdout.take() {
            std::thread::Builder::new().name("weir-greeting".to_owned()).spawn(move || {
                let mut reader = BufReader::new(stdout);
                loop {
                    let mut line = String::new();
                    match reader.by_ref().take(GREETING_OCTETS_MAX).read_line(&mut line) {
                        Ok(0) | Err(_) => return,
                        // Later lines are read so that the child never waits, and are nobody's business.
                        Ok(_) => drop(lines.try_send(line)),
                    }
                }
            })?;
        }
        Ok(Self { child, stdin, greeting, secret })
    }

    /// Asks it to end, waits, and ends it by force if it takes too long; how it has ended.
    fn stop(&mut self) -> String {
        drop(self.stdin.take());
        let began = Instant::now();
        while began.elapsed() < STOP_WAIT {
            match self.child.try_wait() {
                Ok(Some(status)) => return End(status).to_string(),
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => return error.to_string(),
            }
        }
        self.kill();
        format!("ended by force after {} s", STOP_WAIT.as_secs())
    }

    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a process has ended, in words.
struct End(ExitStatus);

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::os::unix::process::ExitStatusExt as _;
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(formatter, "exit code {code}"),
            (_, Some(9)) => write!(formatter, "signal 9 (SIGKILL): by hand, or by the kernel for want of memory"),
            (_, Some(6)) => write!(formatter, "signal 6 (SIGABRT): the engine gave up"),
            (_, Some(11)) => write!(formatter, "signal 11 (SIGSEGV): a fault in the engine"),
            (_, Some(signal)) => write!(formatter, "signal {signal}"),
            _ => write!(formatter, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// It would be ended and started again for ever, each time before it has read its tables.
    #[test]
    fn a_child_that_takes_long_to_start_gets_more_time_with_every_start() {
        let folder = std::env::temp_dir().join(format!("weir-child-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let program = folder.join("engine");
        std::fs::write(&program, "#!/bin/sh\ncat >/dev/null\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let (stop, stopped) = bounded(1);
        let (link, metrics) = (Link::away("not yet"), Arc::new(Metrics::default()));
        let supervisor = Supervisor {
            config: Embedded { library: program.clone(), ..Embedded::default() },
            folder: folder.clone(),
            program,
            database: "weir".to_owned(),
            link: link.clone(),
            start: Box::new(|_| Ok(())),
            metrics,
            stopped,
            start_wait: Duration::from_millis(10),
        };
        let thread = std::thread::spawn(move || supervisor.keep());
        let began = Instant::now();
        while !link.endpoint().is_err_and(|away| away.0.contains("nothing was heard of it for 20ms, the next may take 40ms")) {
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", link.endpoint());
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.send(()).unwrap();
        thread.join().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
