//! Where the flows of a backtest are read: a server by its URL, the engine of the Weir that serves, or one started for this alone.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context as _, bail};
use clickhouse::Client;
use collector::store::config::{Clickhouse, Config, Engine};
use collector::store::engine;
use collector::store::link::{self, Endpoint, Link};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::serve;

/// How long the engine may take to start; one that must be fetched first takes as long as that does.
const START_WAIT: Duration = Duration::from_secs(120);
/// Between two looks whether it has.
const LOOK: Duration = Duration::from_millis(50);

/// A store that can be asked; what was started for it ends with it.
pub(super) struct Store {
    /// The way to ask it.
    pub(super) client: Client,
    _own: Option<(engine::Engine, Connection)>,
}

/// Opens the store of a configuration.
///
/// # Errors
///
/// If there is none, or it does not answer; the message says what to do.
pub(super) fn open(config: &Config, data_dir: &Path) -> anyhow::Result<Store> {
    match config.engine {
        Engine::None => bail!("collector.store.engine is none: no flow is kept"),
        Engine::Clickhouse => {
            let Clickhouse { url, database, user, password, .. } = config.clickhouse.clone();
            let client = link::client(&Endpoint { url, user, password, database, is_remote: true });
            Ok(Store { client, _own: None })
        }
        Engine::Embedded => embedded(config, data_dir),
    }
}

fn embedded(config: &Config, data_dir: &Path) -> anyhow::Result<Store> {
    let folder = data_dir.join("engine");
    if !folder.is_dir() {
        bail!("data_dir {}: no flow was ever stored here", data_dir.display());
    }
    let Some(hold) = serve::hold(data_dir)? else {
        let endpoint =
            told(data_dir).with_context(|| format!("data_dir {}: the Weir that serves from it has no engine now", data_dir.display()))?;
        return Ok(Store { client: link::client(&endpoint), _own: None });
    };
    // The tables are taken as they stand: a policy that is tried out must not change how long flows are kept.
    let (link, program) = (Link::away("the engine starts"), std::env::current_exe()?);
    let engine =
        engine::Engine::start(&config.embedded, &folder, &program, &config.clickhouse.database, link.clone(), Box::new(|_| Ok(())))?;
    let began = Instant::now();
    loop {
        match link.client() {
            Ok(client) => return Ok(Store { client, _own: Some((engine, hold)) }),
            Err(away) if away.0.contains("does not start") || began.elapsed() > START_WAIT && !away.0.contains("fetched") => bail!(away),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn place(data_dir: &Path) -> PathBuf {
    data_dir.join("engine.json")
}

/// Tells other commands of this user where the engine of a serving Weir answers, until it answers elsewhere.
///
/// # Errors
///
/// If the file cannot be written.
pub fn tell(data_dir: &Path, endpoint: &Endpoint) -> io::Result<()> {
    let (place, new) = (place(data_dir), data_dir.join("engine.json.new"));
    let text = json!({ "url": endpoint.url, "user": endpoint.user, "password": endpoint.password, "database": endpoint.database });
    drop(fs::remove_file(&new));
    // It is as secret as the tables, which this user can read as well.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    io::Write::write_all(&mut file, text.to_string().as_bytes())?;
    fs::rename(new, place)
}

/// What was told.
fn told(data_dir: &Path) -> Option<Endpoint> {
    let text = fs::read_to_string(place(data_dir)).ok()?;
    let told: Value = serde_json::from_str(&text).ok()?;
    let word = |key: &str| told.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(Endpoint { url: word("url")?, user: word("user")?, password: word("password")?, database: word("database")?, is_remote: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_known_and_nobody_else_may_read_it() {
        let folder = std::env::temp_dir().join(format!("weir-backtest-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        assert_eq!(told(&folder), None);
        let endpoint = |port: u16| Endpoint {
            url: format!("http://127.0.0.1:{port}"),
            user: "weir".to_owned(),
            password: "s\"e".to_owned(),
            database: "weir".to_owned(),
            is_remote: false,
        };
        for port in [1, 2] {
            tell(&folder, &endpoint(port)).unwrap();
            assert_eq!(told(&folder), Some(endpoint(port)));
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(place(&folder)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_store_that_is_none_is_told() {
        let none = Config { engine: Engine::None, ..Config::default() };
        let nowhere = Path::new("/nonexistent");
        let said = |config: &Config| open(config, nowhere).err().map(|error| error.to_string());
        assert_eq!(said(&none).as_deref(), Some("collector.store.engine is none: no flow is kept"));
        assert_eq!(said(&Config::default()).as_deref(), Some("data_dir /nonexistent: no flow was ever stored here"));
    }
}
