//! How long a shard lets datagrams gather in its sockets before it reads them again.
//!
//! To wake up, to ask the kernel and to begin a batch cost the same for three datagrams as for hundreds, so that at low rates they
//! would cost more than all that is done with the datagrams. What gathers is bounded three times: by what one wake-up is worth, by
//! the longest pause, and by the end of the slot, which the shard sees to.

use std::time::{Duration, Instant};

/// Messages that are worth a wake-up; of 1,500 octets they are still in the processor's cache when they are read.
const MESSAGES_WANTED: u32 = 256;

/// The pauses of one shard.
#[derive(Debug)]
pub struct Gather {
    longest: Duration,
    /// When the sockets were last read empty.
    emptied: Option<Instant>,
    /// Messages since then.
    messages: u32,
}

impl Gather {
    /// Pauses of at most `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        Self { longest, emptied: None, messages: 0 }
    }

    /// So many messages were taken.
    pub fn take(&mut self, messages: usize) {
        self.messages = self.messages.saturating_add(u32::try_from(messages).unwrap_or(u32::MAX));
    }

    /// How long to pause now that the sockets are empty: until as many messages as are wanted have come, if they come as fast as
    /// they did since the sockets were last empty; `None` if none came: then the next one may wake the shard.
    pub fn pause(&mut self, now: Instant) -> Option<Duration> {
        let since = self.emptied.replace(now).map_or(self.longest, |emptied| now.saturating_duration_since(emptied));
        let messages = std::mem::take(&mut self.messages);
        (messages != 0).then(|| (since.saturating_mul(MESSAGES_WANTED) / messages).min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(10);

    #[test]
    fn a_pause_is_as_long_as_the_wanted_messages_take_and_never_longer_than_the_longest() {
        let (begun, mut gather) = (Instant::now(), Gather::new(LONGEST));
        let at = |milliseconds: u64| begun + Duration::from_millis(milliseconds);
        // Nothing came: there is no pause, the shard waits for the first message.
        assert_eq!(gather.pause(at(0)), None);
        // 100 messages in 4 ms are 25 a millisecond: 256 of them take 10.24 ms.
        gather.take(64);
        gather.take(36);
        assert_eq!(gather.pause(at(4)), Some(LONGEST));
        // 1,000 in 4 ms: 256 take 1.024 ms.
        gather.take(1_000);
        assert_eq!(gather.pause(at(8)), Some(Duration::from_micros(1_024)));
        // One after a second of silence says little of the next.
        gather.take(1);
        assert_eq!(gather.pause(at(1_008)), Some(LONGEST));
        assert_eq!(gather.pause(at(1_018)), None);
    }

    #[test]
    fn who_wants_no_pause_has_none() {
        let mut gather = Gather::new(Duration::ZERO);
        gather.take(1);
        assert_eq!(gather.pause(Instant::now()), Some(Duration::ZERO));
    }

    /// Whatever the rate, what comes during a pause is no more than twice what is wanted, as long as the rate stays: here 5 M flows/s in
    /// datagrams of 22 on one shard, 227 a millisecond.
    #[test]
    fn what_gathers_at_a_high_rate_stays_small() {
        let (mut now, mut gather) = (Instant::now(), Gather::new(LONGEST));
        gather.take(1);
        let mut pause = gather.pause(now).unwrap();
        for _ in 0..8 {
            // Reading takes 1 ms, and what comes meanwhile is read as well.
            let span = pause + Duration::from_millis(1);
            now += span;
            gather.take(usize::try_from(span.as_micros() * 227 / 1_000).unwrap());
            pause = gather.pause(now).unwrap();
        }
        assert!(pause > Duration::from_micros(1_100) && pause < Duration::from_micros(1_150), "{pause:?}");
    }
}
