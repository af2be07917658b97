//! Mitigation rules: what is announced, through which adapter, and where it stands.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::net::Prefix;
use crate::time::Timestamp;

/// What a rule does to the traffic of its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentType {
    /// Everything to the target is discarded at the edge (RFC 7999).
    Blackhole,
    /// What matches is discarded or limited (RFC 8955).
    Flowspec,
    /// The traffic is led through a cleaning provider.
    Scrubbing,
}

/// Where a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleState {
    /// Shown only: automatic mitigation is in dry run.
    DryRun,
    /// Wanted, not yet confirmed by the speaker.
    Pending,
    /// Read back from the speaker.
    Active,
    /// The adapter refused it or could not be reached; it is tried again.
    Failed,
    /// To be withdrawn, not yet confirmed.
    Withdrawing,
    /// Gone, and read back as gone.
    Withdrawn,
    /// The guard or the kill switch did not let it through.
    Refused,
}

impl RuleState {
    /// Whether the speaker carries, or may carry, the rule.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Active | Self::Failed | Self::Withdrawing)
    }

    /// The word of the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DryRun => "dry_run",
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Withdrawing => "withdrawing",
            Self::Withdrawn => "withdrawn",
            Self::Refused => "refused",
        }
    }
}

/// Who wants a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOwner {
    /// The mitigation of an incident.
    Automatic,
    /// A person or program through the API.
    Manual,
}

/// One rule at one adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its name for good.
    pub uuid: Uuid,
    /// The address or prefix whose traffic it touches.
    #[serde(rename = "target_ip")]
    pub target: Prefix,
    /// What it does.
    pub intent_type: IntentType,
    /// The adapter that announces it.
    pub adapter_id: String,
    /// The incident that it answers.
    pub incident_uuid: Option<Uuid>,
    /// Who wants it.
    pub owner: RuleOwner,
    /// Why, in plain words.
    pub reason: String,
    /// Seconds until it is withdrawn by itself; 0 = never.
    pub ttl: u64,
    /// Where it stands.
    pub state: RuleState,
    /// What went wrong last.
    pub error: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the speaker was first seen to carry it.
    pub confirmed_at: Option<Timestamp>,
    /// When it was seen to be gone, or given up.
    pub withdrawn_at: Option<Timestamp>,
}

impl Rule {
    /// When the rule's time runs out; `None` = never.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        (self.ttl > 0).then(|| self.created_at.plus(self.ttl.saturating_mul(1000)))
    }
}
