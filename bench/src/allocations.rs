//! mimalloc that counts, for each thread, how often it was asked: to show that a shard allocates nothing per datagram.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use mimalloc::MiMalloc;

use crate::measure::Thread;

/// Threads that are told apart; the last place is shared by all that come later.
const THREADS_MAX: usize = 256;

struct Place {
    thread: AtomicU32,
    allocations: AtomicU64,
}

static PLACES: [Place; THREADS_MAX] = [const { Place { thread: AtomicU32::new(0), allocations: AtomicU64::new(0) } }; THREADS_MAX];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The allocator of this program.
pub(crate) struct Counting;

fn count() {
    // While a thread is being torn down its cell may be gone; those few calls are not counted.
    let place = OWN.try_with(|own| {
        own.get().unwrap_or_else(|| {
            let place = NEXT.fetch_add(1, Ordering::Relaxed).min(THREADS_MAX - 1);
            own.set(Some(place));
            if let Some(entry) = PLACES.get(place) {
                entry.thread.store(Thread::own().id(), Ordering::Relaxed);
            }
            place
        })
    });
    if let Ok(place) = place
        && let Some(entry) = PLACES.get(place)
    {
        entry.allocations.fetch_add(1, Ordering::Relaxed);
    }
}

/// Calls of `alloc`, `alloc_zeroed` and `realloc` by `threads` of this process so far.
pub(crate) fn of(threads: &[Thread]) -> u64 {
    let is_one = |place: &&Place| threads.iter().any(|thread| thread.id() == place.thread.load(Ordering::Relaxed));
    PLACES.iter().filter(is_one).map(|place| place.allocations.load(Ordering::Relaxed)).sum()
}

// SAFETY: every call is passed on unchanged to mimalloc, which upholds the contract; counting neither allocates nor unwinds.
#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { MiMalloc.dealloc(block, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_answers_for_its_own_allocations_only() {
        let own = [Thread::own()];
        drop(vec![0u8; 100]);
        let before = of(&own);
        std::thread::spawn(|| drop(vec![0u8; 100])).join().unwrap();
        let between = of(&own);
        drop(vec![0u8; 100]);
        assert!(before > 0 && of(&own) > between);
    }
}
