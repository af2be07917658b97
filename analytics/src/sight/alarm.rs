//! Alarms with hysteresis: raised when a fault has lasted, ended when it has been gone for a while, each told once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use schemas::alarm::{Alarm, AlarmKind};
use schemas::net::Address;
use schemas::time::Timestamp;

use crate::metrics::Metrics;

/// Alarms at once; further ones are counted and not shown.
pub const ALARMS_MAX: usize = 1_000;
/// How long a share must be too large before it is an alarm: one lost burst is none.
const RAISE_MILLISECONDS: u64 = 5_000;
/// How long a fault must be gone before its alarm ends.
const CLEAR_MILLISECONDS: u64 = 30_000;

/// What a look at one fault of one exporter says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is there: how bad, and in words.
    Bad(f64, String),
    /// Neither bad enough to raise an alarm nor good enough to end one, or nothing is known.
    Unclear,
    /// It is not there.
    Good,
}

impl Verdict {
    /// A share by its bound: bad from there on, good below half of it.
    pub(super) fn of_share(share: f64, bound: f64, words: impl FnOnce(f64) -> String) -> Self {
        if bound <= 0.0 || share < bound / 2.0 {
            Self::Good
        } else if share < bound {
            Self::Unclear
        } else {
            Self::Bad(share, words(share * 100.0))
        }
    }
}

#[derive(Debug)]
struct State {
    alarm: Alarm,
    is_raised: bool,
    /// Since when the fault has been gone.
    good_since: Option<Timestamp>,
}

/// What is wrong now.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    states: BTreeMap<(AlarmKind, Option<Address>), State>,
}

impl Alarms {
    /// Takes in what a look said.
    pub(super) fn judge(&mut self, kind: AlarmKind, exporter: Option<Address>, verdict: Verdict, now: Timestamp, metrics: &Metrics) {
        let key = (kind, exporter);
        match verdict {
            Verdict::Bad(value, text) => {
                if !self.states.contains_key(&key) && self.states.len() >= ALARMS_MAX {
                    metrics.alarm_refused();
                    return;
                }
                let fresh = || State {
                    alarm: Alarm { kind, exporter, since: now, value, text: String::new() },
                    is_raised: false,
                    good_since: None,
                };
                let state = self.states.entry(key).or_insert_with(fresh);
                (state.alarm.value, state.alarm.text, state.good_since) = (value, text, None);
                if !state.is_raised && now.since(state.alarm.since) >= raise_after(kind) {
                    state.is_raised = true;
                    metrics.alarm_raised(&state.alarm);
                }
            }
            Verdict::Unclear => {}
            Verdict::Good => {
                let Some(state) = self.states.get_mut(&key) else { return };
                let good_since = *state.good_since.get_or_insert(now);
                if !state.is_raised || now.since(good_since) >= clear_after(kind) {
                    self.end(key, now, metrics);
                }
            }
        }
    }

    /// Ends every alarm of an exporter that is forgotten.
    pub(super) fn forget(&mut self, exporter: Address, now: Timestamp, metrics: &Metrics) {
        AlarmKind::ALL.iter().for_each(|kind| self.end((*kind, Some(exporter)), now, metrics));
    }

    fn end(&mut self, key: (AlarmKind, Option<Address>), now: Timestamp, metrics: &Metrics) {
        if let Some(state) = self.states.remove(&key).filter(|state| state.is_raised) {
            metrics.alarm_ended(&state.alarm, now);
        }
    }

    /// Whether an exporter has a raised alarm of a kind.
    pub(super) fn holds(&self, kind: AlarmKind, exporter: Address) -> bool {
        self.states.get(&(kind, Some(exporter))).is_some_and(|state| state.is_raised)
    }

    /// The raised alarms, by kind and exporter.
    pub(super) fn raised(&self) -> impl Iterator<Item = &Alarm> {
        self.states.values().filter(|state| state.is_raised).map(|state| &state.alarm)
    }
}

/// Silence and growing counts have shown themselves for a while before they are looked at.
fn raise_after(kind: AlarmKind) -> u64 {
    match kind {
        AlarmKind::Loss | AlarmKind::TemplatesUnknown | AlarmKind::SamplingUnknown => RAISE_MILLISECONDS,
        _ => 0,
    }
}

/// An exporter that is heard is not silent, however short its word.
fn clear_after(kind: AlarmKind) -> u64 {
    if kind == AlarmKind::ExporterSilent { 0 } else { CLEAR_MILLISECONDS }
}

/// What is shown of the alarms, for other threads to read; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board(Arc<Mutex<Arc<[Alarm]>>>);

impl Board {
    pub(super) fn show<'a>(&self, alarms: impl Iterator<Item = &'a Alarm>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = alarms.cloned().collect();
    }

    /// The alarms as they were within the last second, by kind and exporter; at most [`ALARMS_MAX`].
    #[must_use]
    pub fn alarms(&self) -> Arc<[Alarm]> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(share: f64) -> Verdict {
        Verdict::of_share(share, 0.01, |percent| format!("{percent} %"))
    }

    /// By a bound of 1 %: raised after 5 s at 2 %, kept at 0.7 %, ended after 30 s below 0.5 %.
    #[test]
    fn a_share_must_last_to_be_an_alarm_and_be_gone_to_end_it() {
        let (mut alarms, metrics) = (Alarms::default(), Metrics::default());
        let exporter = Some("192.0.2.1".parse().unwrap());
        let mut raised = |second: u64, share: f64| {
            alarms.judge(AlarmKind::Loss, exporter, loss(share), Timestamp(second * 1_000), &metrics);
            alarms.raised().map(|alarm| alarm.since).next()
        };
        assert_eq!((raised(0, 0.02), raised(4, 0.02)), (None, None));
        assert_eq!((raised(5, 0.02), raised(6, 0.02)), (Some(Timestamp(0)), Some(Timestamp(0))));
        assert_eq!(raised(100, 0.007), Some(Timestamp(0)), "neither good nor bad");
        assert_eq!((raised(101, 0.0), raised(130, 0.0)), (Some(Timestamp(0)), Some(Timestamp(0))));
        assert_eq!(raised(131, 0.0), None);
        // A burst of loss that is gone before it has lasted leaves nothing.
        assert_eq!((raised(140, 0.5), raised(141, 0.0), raised(146, 0.5)), (None, None, None));
        let counts: BTreeMap<_, _> = metrics.counts().all().collect();
        assert_eq!((counts["weir_analytics_alarms_raised_total"], counts["weir_analytics_alarms_ended_total"]), (1, 1));
    }

    #[test]
    fn alarms_have_a_bound_and_what_is_over_it_is_counted() {
        let (mut alarms, metrics) = (Alarms::default(), Metrics::default());
        for exporter in 0..1_010 {
            let verdict = Verdict::Bad(60.0, String::new());
            alarms.judge(AlarmKind::ExporterSilent, Some(Address::from_v4(exporter)), verdict, Timestamp(0), &metrics);
        }
        assert_eq!(alarms.raised().count(), ALARMS_MAX);
        let counts: BTreeMap<_, _> = metrics.counts().all().collect();
        assert_eq!(counts["weir_analytics_alarms_refused_total"], 10);
    }
}
