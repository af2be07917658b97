//! Fetches the engine's library: the pinned npm package, by the npm client, checked, unpacked into the user's cache folder.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sha2::{Digest as _, Sha512};

use super::VERSION;

/// Between two looks at a program that runs.
const PERIOD: Duration = Duration::from_millis(100);
/// The file that the engine is.
const FILE: &str = "libchdb.so";

/// A package that holds the library of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name in the registry of npm, or anything else that `npm pack` takes.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The SHA-512 of its archive, in hexadecimal digits.
    pub sha512: &'static str,
}

/// The packages by operating system and architecture. The registry has this version for no other.
const PACKAGES: &[(&str, &str, Package)] = &[(
    "linux",
    "x86_64",
    Package {
        name: "@chdb/lib-linux-x64-gnu",
        version: VERSION,
        sha512: "5cff7b98caa7739b59a4a432c11f0dedc2d3b073624e61ebdf4a42e66ce8de35a6ba48ca9f62016bad1cd81fe059435cb858ce3235a8a2b408082a81563e70a7",
    },
)];

/// Why the library is not there.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Nobody builds the library for this machine.
    #[error(
        "there is no engine's library for {os} on {architecture}: keep flows in a ClickHouse server (collector.store.engine = \"clickhouse\" and \
         collector.store.clickhouse.url), or name a library of your own (collector.store.embedded.library)"
    )]
    System {
        /// The operating system.
        os: &'static str,
        /// The architecture.
        architecture: &'static str,
    },
    /// Nowhere to put it.
    #[error("neither XDG_CACHE_HOME nor HOME is set: set collector.store.embedded.library")]
    NoCache,
    /// A program that is needed.
    #[error("{program} does not start: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// The npm client did not get the package.
    #[error("npm does not fetch {package}: {said}")]
    Fetch {
        /// The package.
        package: String,
        /// The last of what npm says.
        said: String,
    },
    /// What was fetched is not what this version was built with.
    #[error("{package} is not what it was: its SHA-512 is {found}, {wanted} is expected")]
    Checksum {
        /// The package.
        package: String,
        /// The digest of what was fetched.
        found: String,
        /// The digest that is known.
        wanted: String,
    },
    /// The archive does not unpack.
    #[error("the archive does not unpack into {folder}: {said}")]
    Unpack {
        /// Where to.
        folder: PathBuf,
        /// What tar says.
        said: String,
    },
    /// Nobody waits for it any more.
    #[error("the engine's installation was broken off")]
    BrokenOff,
    /// A file or a folder.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Who is told how far it is, and may break it off.
pub trait Observer {
    /// A step begins.
    fn step(&mut self, step: &str);

    /// A step has written so many octets; `false` breaks it off. Asked several times a second.
    fn goes_on(&mut self, octets: u64) -> bool;
}

/// A way to name a path in an error.
fn at(path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    move |source| InstallError::File { path: path.to_path_buf(), source }
}

/// The package for this machine.
///
/// # Errors
///
/// [`InstallError::System`].
pub fn package() -> Result<Package, InstallError> {
    let os = if cfg!(target_env = "musl") { "linux without glibc" } else { std::env::consts::OS };
    package_for(os, std::env::consts::ARCH)
}

fn package_for(os: &'static str, architecture: &'static str) -> Result<Package, InstallError> {
    let found = PACKAGES.iter().find(|(of, on, _)| (*of, *on) == (os, architecture));
    found.map(|(_, _, package)| *package).ok_or(InstallError::System { os, architecture })
}

/// Where the library of this version is, or would be: `${XDG_CACHE_HOME:-~/.cache}/weir/engine/<version>/libchdb.so`.
///
/// # Errors
///
/// [`InstallError::NoCache`].
pub fn place() -> Result<PathBuf, InstallError> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).ok_or(InstallError::NoCache)?;
    Ok(cache.join("weir").join("engine").join(VERSION).join(FILE))
}

/// Makes sure that the library is at `place`, and tells `observer` what is being done about it.
///
/// Two that do it at once wait for each other; one that was ended in the middle leaves nothing that is taken for the library.
///
/// # Errors
///
/// [`InstallError`].
pub fn install(package: Package, place: &Path, observer: &mut impl Observer) -> Result<(), InstallError> {
    if place.exists() {
        return Ok(());
    }
    let folder = place.parent().ok_or(InstallError::NoCache)?;
    fs::create_dir_all(folder).map_err(at(folder))?;
    let lock = folder.join("install.lock");
    let held = File::create(&lock).map_err(at(&lock))?;
    let mut is_told = false;
    while held.try_lock().is_err() {
        if !std::mem::replace(&mut is_told, true) {
            observer.step("another process fetches the engine");
        }
        if !observer.goes_on(0) {
            return Err(InstallError::BrokenOff);
        }
        std::thread::sleep(PERIOD);
    }
    if place.exists() {
        return Ok(());
    }
    // Beside the library, so that renaming it is one step, and one name, so that what an ended process left is cleared away.
    let work = folder.join("install");
    clear(&work)?;
    fs::create_dir(&work).map_err(at(&work))?;
    let done = fetch(package, &work, observer).and_then(|archive| unpack(&archive, &work, place, observer));
    let cleared = clear(&work);
    done.and(cleared)
}

fn clear(folder: &Path) -> Result<(), InstallError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(folder)(error)),
        _ => Ok(()),
    }
}

/// Has npm fetch the package's archive, and checks it.
fn fetch(package: Package, work: &Path, observer: &mut impl Observer) -> Result<PathBuf, InstallError> {
    let named = if package.version.is_empty() { package.name.to_owned() } else { format!("{}@{}", package.name, package.version) };
    observer.step(&format!("npm fetches {named}, about 180 MB"));
    // Its cache too is in our folder: what it would keep there is never asked for again.
    let arguments = ["pack", "--loglevel=error", "--no-progress", "--ignore-scripts", "--no-audit", "--no-update-notifier", "--cache"];
    let mut command = Command::new("npm");
    command.args(arguments).arg(work.join("cache")).arg("--pack-destination").arg(work).arg(&named);
    let output = run("npm", command.current_dir(work), work, observer)?;
    let archive = archive_in(work)?;
    let (true, Some(archive)) = (output.is_success, archive) else {
        return Err(InstallError::Fetch { package: named, said: output.said });
    };
    observer.step("checking what came");
    let found = digest(&archive).map_err(at(&archive))?;
    if found != package.sha512 {
        return Err(InstallError::Checksum { package: named, found, wanted: package.sha512.to_owned() });
    }
    Ok(archive)
}

fn archive_in(work: &Path) -> Result<Option<PathBuf>, InstallError> {
    let entries = fs::read_dir(work).map_err(at(work))?;
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.extension().is_some_and(|extension| extension == "tgz")))
}

/// How a program has ended.
struct Ended {
    is_success: bool,
    said: String,
}

/// Runs a program to its end, what it says in a file of `work`; ends it when the observer wants no more.
fn run(program: &'static str, command: &mut Command, work: &Path, observer: &mut impl Observer) -> Result<Ended, InstallError> {
    let words = work.join(format!("{program}.log"));
    let log = File::create(&words).map_err(at(&words))?;
    let both = log.try_clone().map_err(at(&words))?;
    let spawned = command.stdin(Stdio::null()).stdout(log).stderr(both).spawn();
    let mut child = spawned.map_err(|source| InstallError::Program { program, source })?;
    loop {
        if let Some(status) = child.try_wait().map_err(|source| InstallError::Program { program, source })? {
            let said = fs::read(&words).map_err(at(&words))?;
            return Ok(Ended { is_success: status.success(), said: last_words(&said) });
        }
        if !observer.goes_on(octets_in(work)) {
            drop(child.kill());
            drop(child.wait());
            return Err(InstallError::BrokenOff);
        }
        std::thread::sleep(PERIOD);
    }
}

/// The octets of all files in a folder and in those within it; what vanishes while it is counted does not count.
fn octets_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let octets = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => octets_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    octets.sum()
}

/// The last lines of what a program has said.
fn last_words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said).into_owned();
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(4)..).unwrap_or_default().join("; ")
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut digest) = (File::open(path)?, Sha512::new());
    let mut buffer = vec![0; 1_048_576];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => digest.update(buffer.get(..length).unwrap_or_default()),
        }
    }
    Ok(digest.finalize().iter().map(|octet| format!("{octet:02x}")).collect())
}

/// Takes the library out of the archive and puts it in its place in one step.
fn unpack(archive: &Path, work: &Path, place: &Path, observer: &mut impl Observer) -> Result<(), InstallError> {
    observer.step("unpacking the library, about 570 MB");
    let inside = format!("package/{FILE}");
    let mut command = Command::new("tar");
    command.args(["-xzf"]).arg(archive).arg("-C").arg(work).arg(&inside);
    let output = run("tar", &mut command, work, observer)?;
    if !output.is_success {
        return Err(InstallError::Unpack { folder: work.to_path_buf(), said: output.said });
    }
    let library = work.join(inside);
    // On the disk before it has its name: after a loss of power there is the whole library or none.
    File::open(&library).and_then(|file| file.sync_all()).map_err(at(&library))?;
    fs::rename(&library, place).map_err(at(place))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_last_lines() {
        assert_eq!(last_words(b"a\n\nb\n"), "a; b");
        assert_eq!(last_words(b"1\n2\n3\n4\n5\n"), "2; 3; 4; 5");
    }

    #[test]
    fn a_machine_gets_its_package_or_is_told_what_else_there_is() {
        assert_eq!(package_for("linux", "x86_64").unwrap().name, "@chdb/lib-linux-x64-gnu");
        for (os, architecture) in [("linux", "aarch64"), ("linux without glibc", "x86_64"), ("macos", "aarch64"), ("linux", "riscv64")] {
            let error = package_for(os, architecture).unwrap_err().to_string();
            for words in [
                format!("there is no engine's library for {os} on {architecture}: "),
                "collector.store.engine = \"clickhouse\"".to_owned(),
                "collector.store.clickhouse.url".to_owned(),
                "collector.store.embedded.library".to_owned(),
            ] {
                assert!(error.contains(&words), "{error}");
            }
        }
    }

    #[test]
    fn every_package_is_pinned_by_a_whole_digest() {
        for (_, _, package) in PACKAGES {
            assert_eq!(package.sha512.len(), 128);
            assert_eq!(package.version, VERSION);
        }
    }
}
