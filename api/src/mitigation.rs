//! Between the mitigation driver and the state: a rule is saved before it is announced, and the analysts hear what became of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use analytics::mitigate::driver::{Start, Store};

use schemas::rule::{Rule, RuleState};
use schemas::time::Timestamp;

use crate::analysis::{Analysis, Control};
use crate::state::{State, StateError, allowlist, incidents, rules, settings};

/// Keeps rules in the state.
#[derive(Debug)]
pub struct RuleStore {
    /// The state.
    pub state: Arc<State>,
    /// Who hears of it.
    pub analysis: Analysis,
}

impl Store for RuleStore {
    async fn save(&mut self, changed: &[Rule]) -> Result<(), String> {
        let (workspace, changed) = (self.state.workspace, changed.to_vec());
        let told = changed.clone();
        let work = move |transaction: &rusqlite::Transaction<'_>| {
            for rule in &changed {
                rules::save(transaction, workspace, rule)?;
            }
            Ok::<_, StateError>(())
        };
        self.state.write(work).await.map_err(|error| error.to_string())?;
        for rule in told.into_iter().filter(|rule| rule.incident_uuid.is_some()) {
            self.analysis.tell(Control::Rule(Box::new(rule)));
        }
        Ok(())
    }
}

/// What the driver starts with, out of the state. Rules that were only shown are over: what is wanted still is shown anew.
///
/// # Errors
///
/// The state's.
pub async fn start(state: &State, now: Timestamp) -> Result<Start, StateError> {
    let workspace = state.workspace;
    let work = move |transaction: &rusqlite::Transaction<'_>| {
        let (shown, live): (Vec<Rule>, Vec<Rule>) =
            rules::in_force(transaction)?.into_iter().partition(|rule| rule.state == RuleState::DryRun);
        for rule in shown {
            rules::save(transaction, workspace, &Rule { withdrawn_at: Some(now), ..rule })?;
        }
        Ok(Start {
            rules: live,
            active: incidents::active(transaction)?.into_iter().map(|incident| incident.uuid).collect::<BTreeSet<_>>(),
            frozen: settings::freeze(transaction)?.frozen,
            allowlist: allowlist::prefixes(transaction)?,
        })
    };
    state.write(work).await
}
