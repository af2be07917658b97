//! What the kernel knows of processes and sockets: CPU time of threads, memory, datagrams dropped.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A thread of any process, by its id in `/proc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thread {
    process: u32,
    thread: u32,
}

impl Thread {
    /// All threads of a process whose name begins with `name`.
    pub(crate) fn of(process: u32, name: &str) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(format!("/proc/{process}/task")) else {
            return Vec::new();
        };
        let ids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let threads = ids.map(|thread| Self { process, thread });
        threads.filter(|thread| thread.name().is_some_and(|own| own.starts_with(name))).collect()
    }

    /// The thread that asks.
    #[expect(unsafe_code, reason = "gettid has no safe form in the standard library")]
    pub(crate) fn own() -> Self {
        // SAFETY: gettid takes nothing and cannot fail.
        let thread = u32::try_from(unsafe { libc::gettid() }).unwrap_or(0);
        Self { process: std::process::id(), thread }
    }

    /// Its number.
    pub(crate) fn id(self) -> u32 {
        self.thread
    }

    fn name(self) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/task/{}/comm", self.process, self.thread)).ok()
    }

    /// CPU time so far, by the scheduler's own nanosecond clock (`schedstat`); user and system time together.
    ///
    /// # Errors
    ///
    /// If the thread is gone.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let path = format!("/proc/{}/task/{}/schedstat", self.process, self.thread);
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let nanoseconds = text.split_ascii_whitespace().next().context("schedstat is empty")?.parse()?;
        Ok(Duration::from_nanos(nanoseconds))
    }
}

/// CPU time of the thread that asks (`CLOCK_THREAD_CPUTIME_ID`).
#[expect(unsafe_code, reason = "clock_gettime has no safe form in the standard library")]
pub(crate) fn own_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is one that every thread has, and `time` is a place for what it says.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of the threads of a process whose names begin with one of `names`; none for one that ends meanwhile.
pub(crate) fn cpu_of(process: u32, names: &[&str]) -> Duration {
    names.iter().flat_map(|name| Thread::of(process, name)).filter_map(|thread| thread.cpu().ok()).sum()
}

/// CPU time of a process, threads that have ended included; in steps of 10 ms.
pub(crate) fn process_cpu(process: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // utime and stime are the 12th and 13th field behind the command, which may hold spaces.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_ascii_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// CPU time of several threads together.
///
/// # Errors
///
/// If one of them is gone.
pub(crate) fn cpu(threads: &[Thread]) -> Result<Duration> {
    threads.iter().map(|thread| thread.cpu()).sum()
}

/// Lets a thread run on some of the processors only, by their numbers; so will what it starts.
///
/// A process's first thread has the process's id.
///
/// # Errors
///
/// What the kernel says.
#[expect(unsafe_code, reason = "sched_setaffinity has no safe form in the standard library")]
pub(crate) fn pin(thread: u32, processors: std::ops::Range<usize>) -> Result<()> {
    // SAFETY: all-zero is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for processor in processors {
        // SAFETY: CPU_SET ignores numbers beyond the set.
        unsafe { libc::CPU_SET(processor, &mut set) };
    }
    // SAFETY: the set is a valid one of the length that is told.
    let outcome = unsafe { libc::sched_setaffinity(libc::pid_t::try_from(thread)?, size_of_val(&set), &raw const set) };
    if outcome == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("sched_setaffinity") }
}

/// CPU time that all processes of the machine have taken, interrupts and the hypervisor's theft included; in steps of 10 ms.
pub(crate) fn busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    // user, nice, system, (idle, iowait), irq, softirq, steal.
    let ticks = line.split_ascii_whitespace().skip(1).take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4));
    Duration::from_millis(10 * ticks.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum::<u64>())
}

/// Resident memory of a process, in octets.
pub(crate) fn resident_octets(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1_024
}

/// The UDP sockets that listen on one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    /// How many there are.
    pub(crate) count: usize,
    /// Octets that wait in their buffers, by the kernel's accounting.
    pub(crate) waiting_octets: u64,
    /// Datagrams dropped since they were opened.
    pub(crate) drops: u64,
}

impl Sockets {
    /// Reads them from `/proc/net/udp` and `/proc/net/udp6`.
    pub(crate) fn at(port: u16) -> Self {
        let texts = ["/proc/net/udp", "/proc/net/udp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
        Self::parse(&texts.concat(), port)
    }

    fn parse(text: &str, port: u16) -> Self {
        let mut sockets = Self::default();
        for line in text.lines() {
            // Number, local, remote, state, tx:rx, … , drops last.
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (Some(local), Some(remote), Some(queues), Some(drops)) = (fields.get(1), fields.get(2), fields.get(4), fields.last())
            else {
                continue;
            };
            let local_port = local.rsplit(':').next().and_then(|hex| u16::from_str_radix(hex, 16).ok());
            // A connected socket is a sender.
            if local_port != Some(port) || !remote.ends_with(":0000") {
                continue;
            }
            sockets.count += 1;
            let waiting = queues.rsplit(':').next().and_then(|hex| u64::from_str_radix(hex, 16).ok());
            sockets.waiting_octets += waiting.unwrap_or(0);
            sockets.drops += drops.parse::<u64>().unwrap_or(0);
        }
        sockets
    }
}

/// Drops what the page cache holds of the files below a folder; what was not on disk yet is written there first.
///
/// # Errors
///
/// If the folder cannot be read.
pub(crate) fn forget(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() {
            // The engine removes folders of parts that were merged.
            let _ = forget(&path);
        } else if kind.is_file()
            && let Ok(file) = fs::File::open(&path)
        {
            let _ = file.sync_data();
            #[expect(unsafe_code, reason = "posix_fadvise has no safe form in the standard library")]
            // SAFETY: the descriptor is open, and the call touches no memory of ours.
            unsafe {
                libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED);
            }
        }
    }
    Ok(())
}

/// Waits until `done` or until `length` has passed; tells which.
pub(crate) fn wait(length: Duration, mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > length {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_and_waiting_octets_of_a_port_are_summed_over_its_sockets() {
        let text = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n \
            100: 0100007F:0807 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 11 2 0000000000000000 7\n \
            101: 0100007F:0807 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 0000000000000000 5\n \
            102: 0100007F:0807 0100007F:1000 01 00000000:00000000 00:00000000 00000000     0        0 13 2 0000000000000000 9\n \
            103: 0100007F:0808 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 14 2 0000000000000000 1\n";
        // 0x0807 = 2055; 0x300 = 768; the third socket is connected.
        assert_eq!(Sockets::parse(text, 2_055), Sockets { count: 2, waiting_octets: 768, drops: 12 });
    }

    #[test]
    fn the_cpu_time_of_the_own_thread_grows() {
        let own = [Thread::own()];
        let before = cpu(&own).unwrap();
        assert!(wait(Duration::from_secs(10), || cpu(&own).unwrap() > before));
    }
}
