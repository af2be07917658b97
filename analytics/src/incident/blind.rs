//! Quiet because nobody tells: an incident whose exporters are silent is held open, since nothing is known of its end.

use schemas::incident::{Incident, TimelineKind};
use schemas::time::Timestamp;

use crate::incident::log;
use crate::sight::Sight;

/// The confidence that is left while nothing is known.
const CONFIDENCE_LEFT: f64 = 0.5;

/// Whether a quiet incident may end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Somebody looked, and it is quiet.
    Seen,
    /// Nobody looks: it is held open, from now on if `is_new`.
    Held {
        /// Whether it was not held before.
        is_new: bool,
    },
    /// Nobody has looked for so long that it is given up, in these words.
    GivenUp(String),
}

/// What is known of an incident's exporters having fallen silent.
#[derive(Clone, Debug, Default)]
pub struct Blind {
    /// Since when nobody looks, and the confidence before.
    since: Option<(Timestamp, u8)>,
    /// When somebody looked again last.
    seen_at: Timestamp,
}

impl Blind {
    /// Judges an incident that is quiet by its traffic.
    pub fn judge(&mut self, incident: &mut Incident, sight: &Sight, now: Timestamp) -> Quiet {
        let is_new = self.since.is_none();
        if !sight.is_blind(&incident.exporters, incident.started_at) {
            self.see(incident, now);
            // What they did not tell meanwhile is still on its way.
            return if is_new { Quiet::Seen } else { Quiet::Held { is_new: false } };
        }
        let (since, _) = *self.since.get_or_insert((now, incident.confidence));
        if now.since(since) >= sight.hold_milliseconds() {
            let text = format!(
                "given up: whether it is over is not known, since no exporter that saw it was heard for {} s",
                sight.hold_milliseconds() / 1_000
            );
            return Quiet::GivenUp(text);
        }
        if is_new {
            incident.confidence = lowered(incident.confidence);
            log(
                incident,
                now,
                TimelineKind::LeakProbe,
                "held open: every exporter that saw it is silent, and silence is no peace".to_owned(),
            );
        }
        Quiet::Held { is_new }
    }

    /// Its exporters are heard again.
    pub fn see(&mut self, incident: &mut Incident, now: Timestamp) {
        if let Some((_, confidence)) = self.since.take() {
            incident.confidence = incident.confidence.max(confidence);
            self.seen_at = now;
            log(incident, now, TimelineKind::LeakProbe, "an exporter that saw it is heard again".to_owned());
        }
    }

    /// When somebody looked again last; before that, quiet says nothing.
    #[must_use]
    pub fn seen_at(&self) -> Timestamp {
        self.seen_at
    }
}

fn lowered(confidence: u8) -> u8 {
    u8::try_from(super::whole(f64::from(confidence) * CONFIDENCE_LEFT)).unwrap_or(0)
}
