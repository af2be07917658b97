//! A group of processes that the kernel gives little memory, and whose processes it ends when they want more.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::flood::now;

/// A control group of the kernel's, of version 1 or 2, gone with its handle once its processes have ended.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
}

impl Group {
    /// Whether the system lets this user make groups.
    #[must_use]
    pub fn can_be_made() -> bool {
        Self::new("probe", 1 << 30).is_some()
    }

    /// Puts a process into a group of its own, which may have `octets` more than it has taken so far.
    ///
    /// # Panics
    ///
    /// If it cannot.
    #[must_use]
    pub fn begin(process: u32, octets: u64) -> Self {
        let group = Self::new(&process.to_string(), octets).unwrap();
        fs::write(group.folder.join("cgroup.procs"), process.to_string()).unwrap();
        group
    }

    fn new(name: &str, octets: u64) -> Option<Self> {
        // What was taken before stays on the account of the group before.
        let places = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        let (parent, limit) =
            places.into_iter().find(|(parent, limit)| Path::new(parent).join(limit).exists() || is_second(parent, limit))?;
        let folder = Path::new(parent).join(format!("weir-tests-{name}-{}-{}", std::process::id(), now().0));
        fs::create_dir(&folder).ok()?;
        let group = Self { folder };
        fs::write(group.folder.join(limit), octets.to_string()).ok()?;
        // What is swapped out would not count.
        let _ = fs::write(group.folder.join("memory.swap.max"), "0");
        Some(group)
    }

    /// How many of its processes the kernel has ended.
    #[must_use]
    pub fn kills(&self) -> u64 {
        let told = ["memory.oom_control", "memory.events"].map(|name| fs::read_to_string(self.folder.join(name)).unwrap_or_default());
        told.iter().flat_map(|text| text.lines()).find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
    }
}

/// Whether groups of version 2 have the limit, whose topmost group has none.
fn is_second(parent: &str, limit: &str) -> bool {
    limit == "memory.max" && fs::read_to_string(Path::new(parent).join("cgroup.subtree_control")).is_ok_and(|text| text.contains("memory"))
}

impl Drop for Group {
    fn drop(&mut self) {
        // The last of its processes may be ending just now.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        eprintln!("{} stays", self.folder.display());
    }
}
