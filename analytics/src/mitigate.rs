//! Answers incidents with rules: plan → guard → adapter → read back, and the way back; pure, with every effect returned.
//!
//! [`Mitigator`] holds what should be announced; [`driver`] does what it says. A rule is always saved before its command goes out.

pub mod adapters;
pub mod driver;
pub mod guard;
mod mitigator;
pub mod plan;
mod settle;

use schemas::net::Prefix;
use schemas::rule::Rule;
use schemas::time::Timestamp;
use uuid::Uuid;

use self::adapters::Carried;
use self::guard::GuardedRule;
pub use self::mitigator::Mitigator;

/// What is asked of one adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Announce it and read it back.
    Announce(GuardedRule),
    /// Read it back only.
    Check {
        /// The rule.
        uuid: Uuid,
        /// Its target.
        target: Prefix,
    },
    /// Withdraw it and read its absence back; `uuid` is `None` for a route that no rule wants.
    Withdraw {
        /// The rule.
        uuid: Option<Uuid>,
        /// The route.
        target: Prefix,
    },
    /// List the routes of ours, within `networks` or all of them.
    List {
        /// Where to look; `None` = everywhere.
        networks: Option<Vec<Prefix>>,
        /// When it was asked.
        asked_at: Timestamp,
    },
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of an announcement or a check: where the rule is.
    Carried(Uuid, Result<Carried, String>),
    /// Of a withdrawal.
    Gone(Option<Uuid>, Result<(), String>),
    /// Of a listing that was asked for at that moment.
    Listed(Timestamp, Result<Vec<Prefix>, String>),
}

/// What is to be done, in this order: first everything is saved, then the commands go out.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// The rule as it is from now on.
    Save(Box<Rule>),
    /// For the adapter of this name.
    Send(String, Command),
}
