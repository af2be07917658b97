//! Rate limits: requests a minute by token, failed authentications a minute by address.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use schemas::net::{Address, Prefix};
use schemas::time::Timestamp;

const WINDOW_MILLISECONDS: u64 = 60_000;

/// Tokens or addresses with a window of their own; a flood of others shares one, so that it costs no memory.
const WINDOWS_MAX: usize = 65_536;

/// What a client is told of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Requests a window.
    pub limit: u64,
    /// Requests left in this window.
    pub remaining: u64,
    /// Unix second at which the window ends.
    pub reset: u64,
    /// Whether this request was one too many.
    pub exceeded: bool,
}

impl Standing {
    /// Whole seconds until the window ends, at least 1.
    #[must_use]
    pub fn retry_after(&self, now: Timestamp) -> u64 {
        self.reset.saturating_sub(now.milliseconds() / 1_000).max(1)
    }

    /// Adds the `X-RateLimit-…` headers.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert("x-ratelimit-limit", HeaderValue::from(self.limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(self.remaining));
        headers.insert("x-ratelimit-reset", HeaderValue::from(self.reset));
    }
}

/// The limits of one server.
#[derive(Debug, Default)]
pub struct Limits {
    tokens: Windows<Uuid>,
    /// By address, IPv6 by /64, since a host has a whole one.
    addresses: Windows<Prefix>,
}

impl Limits {
    /// Counts a request of a token; `None` if the limit is off.
    pub fn token(&self, token: Uuid, limit: u64, now: Timestamp) -> Option<Standing> {
        (limit > 0).then(|| self.tokens.count(Some(token), limit, now, 1))
    }

    /// How an address stands whose authentication failed `failures` (0 or 1) more times; `None` if the limit is off.
    pub fn address(&self, address: IpAddr, limit: u64, now: Timestamp, failures: u64) -> Option<Standing> {
        let address = Address::from(address.to_canonical());
        let block = if address.is_v4() { address.host() } else { Prefix::of(address, 64) };
        (limit > 0).then(|| self.addresses.count(Some(block), limit, now, failures))
    }
}

/// Fixed windows of a minute, each from its first request on.
#[derive(Debug)]
struct Windows<K>(Mutex<HashMap<Option<K>, (Timestamp, u64)>>);

impl<K> Default for Windows<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Windows<K> {
    fn count(&self, key: Option<K>, limit: u64, now: Timestamp, requests: u64) -> Standing {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = key;
        if !windows.contains_key(&key) {
            if requests == 0 {
                let reset = now.plus(WINDOW_MILLISECONDS).milliseconds().div_ceil(1_000);
                return Standing { limit, remaining: limit, reset, exceeded: false };
            }
            if windows.len() >= WINDOWS_MAX {
                windows.retain(|_, (start, _)| now.since(*start) < WINDOW_MILLISECONDS);
            }
            if windows.len() >= WINDOWS_MAX {
                key = None;
            }
        }
        let (start, used) = windows.entry(key).or_insert((now, 0));
        if now.since(*start) >= WINDOW_MILLISECONDS {
            (*start, *used) = (now, 0);
        }
        *used = used.saturating_add(requests);
        let reset = start.plus(WINDOW_MILLISECONDS).milliseconds().div_ceil(1_000);
        Standing { limit, remaining: limit.saturating_sub(*used), reset, exceeded: *used > limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_lasts_a_minute_from_its_first_request() {
        let limits = Limits::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let start = Timestamp(1_000_500);
        assert_eq!(limits.token(one, 2, start,).unwrap(), Standing { limit: 2, remaining: 1, reset: 1_061, exceeded: false });
        assert!(!limits.token(one, 2, start.plus(1)).unwrap().exceeded);
        let third = limits.token(one, 2, start.plus(30_000)).unwrap();
        // The window ends at 1,060.5 s, told as 1,061; 30 s of it are over, so that 31 whole seconds are surely enough.
        assert_eq!((third.exceeded, third.remaining, third.retry_after(start.plus(30_000))), (true, 0, 31));
        assert!(!limits.token(other, 2, start).unwrap().exceeded);
        assert!(!limits.token(one, 2, start.plus(60_000)).unwrap().exceeded);
        assert_eq!(limits.token(one, 0, start), None);
    }

    #[test]
    fn addresses_of_one_64_share_a_window_and_looking_costs_nothing() {
        let limits = Limits::default();
        let now = Timestamp(0);
        let (one, neighbour, far) = ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1");
        assert_eq!(limits.address(one.parse().unwrap(), 1, now, 1).unwrap().remaining, 0);
        assert!(limits.address(neighbour.parse().unwrap(), 1, now, 1).unwrap().exceeded);
        assert_eq!(limits.address(far.parse().unwrap(), 1, now, 0).unwrap().remaining, 1);
    }
}
