//! The speakers: what an adapter can be asked, and the making of one from its settings.

pub mod gobgp;

use std::future::Future;
use std::pin::Pin;

use schemas::net::Prefix;

use super::guard::GuardedRule;
use crate::config;

/// What an adapter's call comes to.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AdapterError>> + Send + 'a>>;

/// Where a rule was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// In what is sent to these established peers.
    Peers(Vec<String>),
    /// In the speaker's own table, and it has no peers: it is the router itself, or waits for dynamic ones.
    Alone,
    /// In the speaker's own table; it has peers, and no established one is sent it.
    TableOnly,
    /// Nowhere.
    Absent,
}

/// Why a speaker did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AdapterError {
    /// Its settings make no sense.
    #[error("{key}: {value} is not {wanted}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Nobody answers.
    #[error("{endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// What the transport says.
        reason: String,
    },
    /// The answer took too long.
    #[error("no answer within {milliseconds} ms")]
    Deadline {
        /// How long it was waited for.
        milliseconds: u64,
    },
    /// It said no.
    #[error("refused: {0}")]
    Refused(String),
    /// It speaks neither of the protocols that are known.
    #[error("{endpoint} speaks neither apipb.GobgpApi (version 3) nor api.GoBgpService (version 4)")]
    UnsupportedVersion {
        /// Where.
        endpoint: String,
    },
    /// The same route is there, announced by somebody else.
    #[error("{target} is announced by somebody else at this speaker; it is left alone")]
    Occupied {
        /// The route.
        target: Prefix,
    },
    /// It was asked to announce and does not show it.
    #[error("accepted, but not in the speaker's table")]
    NotCarried,
    /// It was asked to withdraw and shows it still.
    #[error("withdrawn, but still in the speaker's table")]
    StillCarried,
}

/// A speaker. Calls end within the adapter's deadline; one call at a time is made.
pub trait Adapter: Send + Sync {
    /// Announces a rule and reads it back.
    fn announce<'a>(&'a self, rule: &'a GuardedRule) -> Answer<'a, Carried>;

    /// Reads a rule back.
    fn check(&self, target: Prefix) -> Answer<'_, Carried>;

    /// Withdraws a route of ours and reads its absence back; one of somebody else is left alone.
    fn withdraw(&self, target: Prefix) -> Answer<'_, ()>;

    /// The routes of ours that the speaker carries, within `networks`, or all of them.
    fn list<'a>(&'a self, networks: Option<&'a [Prefix]>) -> Answer<'a, Vec<Prefix>>;
}

/// Makes an adapter; it connects when it is first used.
///
/// # Errors
///
/// [`AdapterError::Setting`] if a setting makes no sense.
pub fn make(adapter: &config::Adapter) -> Result<Box<dyn Adapter>, AdapterError> {
    match adapter {
        config::Adapter::Gobgp(settings) => Ok(Box::new(gobgp::Gobgp::new(settings)?)),
    }
}

/// Checks an adapter's settings.
///
/// # Errors
///
/// [`AdapterError::Setting`] if one makes no sense.
pub fn check(adapter: &config::Adapter) -> Result<(), AdapterError> {
    match adapter {
        config::Adapter::Gobgp(settings) => gobgp::route::Attributes::of(settings).map(|_| ()),
    }
}
