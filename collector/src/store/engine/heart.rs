//! The engine's sign of life: a statement now and then, on a connection of its own, so that whoever asks for it waits for nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

/// Between two beats.
const PERIOD: Duration = Duration::from_millis(250);
/// Without a beat for so long it does not live.
const BEAT_WAIT: Duration = Duration::from_secs(2);

/// When the engine last ran a statement; cheap to clone.
#[derive(Clone, Debug)]
pub struct Heart(Arc<Mutex<Instant>>);

impl Heart {
    /// One that beats now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Whether the engine has run a statement of late.
    #[must_use]
    pub fn beats(&self, now: Instant) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(last) < BEAT_WAIT
    }

    /// Has `statement` run now and then until `stop` is closed.
    pub(super) fn run(&self, stop: &Receiver<()>, mut statement: impl FnMut()) {
        while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(PERIOD) {
            statement();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heart_that_has_not_beaten_for_a_while_does_not_live() {
        let now = Instant::now();
        let heart = Heart::new(now);
        assert!(heart.beats(now) && heart.beats(now + Duration::from_secs(1)));
        assert!(!heart.beats(now + BEAT_WAIT));
    }

    #[test]
    fn it_beats_until_nobody_wants_it_to() {
        let heart = Heart::new(Instant::now());
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let mut beats = 0;
        let mut stop = Some(stop);
        heart.run(&stopped, || {
            beats += 1;
            if beats == 2 {
                stop = None;
            }
        });
        assert_eq!(beats, 2);
    }
}
