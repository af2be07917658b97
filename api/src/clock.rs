//! The time of day for everything that serves requests; tests set it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use schemas::time::Timestamp;

/// A clock: the system's, or one that stands still until it is moved.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicU64>>);

impl Clock {
    /// A clock that stands at `moment`.
    #[must_use]
    pub fn standing(moment: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicU64::new(moment.milliseconds()))))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Some(milliseconds) => Timestamp(milliseconds.load(Ordering::Relaxed)),
            None => SystemTime::now().into(),
        }
    }

    /// Moves a standing clock on; the system's is left alone.
    pub fn advance(&self, milliseconds: u64) {
        if let Some(clock) = &self.0 {
            clock.fetch_add(milliseconds, Ordering::Relaxed);
        }
    }
}
