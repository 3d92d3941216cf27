//! An LRU cache of decoded media, bounded in bytes.
//!
//! Must not know: how media is decoded.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Clip, Pixels};

/// See [`Cache::all_bytes_max`].
static ALL_BYTES_MAX: AtomicUsize = AtomicUsize::new(0);
/// More than any machine has, so that sums of sizes cannot overflow.
const SIZE_MAX: usize = usize::MAX >> 16;

/// SHA-256 of everything a result depends on.
pub(super) type Key = [u8; 32];

/// A cached result.
#[derive(Debug, Clone)]
pub(super) enum CacheEntry {
    /// The pixels of an image.
    Image(Arc<Pixels>),
    /// The frames of a video.
    Clip(Arc<Clip>),
}

impl CacheEntry {
    fn bytes(&self) -> usize {
        match self {
            Self::Image(pixels) => pixels.bytes(),
            Self::Clip(clip) => clip.bytes(),
        }
    }
}

/// Results by key; the least recently used are dropped first.
#[derive(Debug)]
pub(super) struct Cache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Key, (u64, CacheEntry)>,
    /// Keys by time of last use.
    used: BTreeMap<u64, Key>,
    bytes: usize,
    now: u64,
}

impl Inner {
    fn drop_oldest(&mut self) {
        let Some((_, key)) = self.used.pop_first() else { return };
        if let Some((_, entry)) = self.entries.remove(&key) {
            self.bytes -= entry.bytes();
        }
    }
}

impl Cache {
    /// An empty cache of at most `bytes_max` bytes; 0 disables it.
    pub(super) fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(SIZE_MAX);
        ALL_BYTES_MAX.fetch_add(bytes_max, Ordering::Relaxed);
        Self { bytes_max, inner: Mutex::default() }
    }

    /// Capacity of all caches in the process together, in bytes.
    pub(super) fn all_bytes_max() -> usize {
        ALL_BYTES_MAX.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while the lock is held, so a poisoned lock guards consistent data.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cached result of a key, if any.
    pub(super) fn get(&self, key: &Key) -> Option<CacheEntry> {
        let inner = &mut *self.lock();
        inner.now += 1;
        let (last, entry) = inner.entries.get_mut(key)?;
        inner.used.remove(last);
        *last = inner.now;
        inner.used.insert(inner.now, *key);
        Some(entry.clone())
    }

    /// Caches a result, unless it alone exceeds the capacity.
    pub(super) fn put(&self, key: Key, entry: CacheEntry) {
        let bytes = entry.bytes();
        if bytes > self.bytes_max {
            return;
        }
        let inner = &mut *self.lock();
        inner.now += 1;
        if let Some((last, before)) = inner.entries.insert(key, (inner.now, entry)) {
            inner.used.remove(&last);
            inner.bytes -= before.bytes();
        }
        inner.used.insert(inner.now, key);
        inner.bytes += bytes;
        while inner.bytes > self.bytes_max {
            inner.drop_oldest();
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        ALL_BYTES_MAX.fetch_sub(self.bytes_max, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(bytes: usize) -> CacheEntry {
        CacheEntry::Image(Arc::new(Pixels::new(bytes / 3, 1, vec![0; bytes])))
    }

    #[test]
    fn the_entry_unused_for_longest_goes_first() {
        let cache = Cache::new(90);
        for key in 0..3 {
            cache.put([key; 32], image(30));
        }
        assert!(cache.get(&[0; 32]).is_some());
        cache.put([3; 32], image(30));
        assert!(cache.get(&[1; 32]).is_none());
        for key in [0, 2, 3] {
            assert!(cache.get(&[key; 32]).is_some(), "{key}");
        }
        cache.put([4; 32], image(93));
        assert!(cache.get(&[4; 32]).is_none());
        cache.put([5; 32], image(90));
        assert_eq!(cache.lock().entries.len(), 1);
        cache.put([5; 32], image(60));
        assert_eq!(cache.lock().bytes, 60);
        assert_eq!(cache.lock().used.len(), 1);
    }

    #[test]
    fn a_cache_of_nothing_keeps_nothing() {
        let cache = Cache::new(0);
        cache.put([0; 32], image(3));
        assert!(cache.get(&[0; 32]).is_none());
    }
}
