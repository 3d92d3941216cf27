//! The vector cache: equal sequences have equal vectors, which need not be computed again.
//!
//! The key is the whole sequence, not a digest of it, so two inputs never share a vector by
//! accident.
//!
//! Must not know: requests, truncation, encodings.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proxima_models::Sequence;

/// Bytes counted per entry in addition to its tokens and vector.
const ENTRY_BYTES: usize = 256;

/// An LRU cache of raw vectors by sequence.
#[derive(Debug, Default)]
pub struct Cache {
    bytes_max: usize,
    bytes: usize,
    entries: HashMap<Arc<Sequence>, (u64, Arc<[f32]>)>,
    /// Sequences by time of last use.
    ages: BTreeMap<u64, Arc<Sequence>>,
    clock: u64,
    hits: u64,
    misses: u64,
}

impl Cache {
    /// A cache of at most this many bytes; 0 disables it.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Whether it is enabled.
    pub fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    /// The vector of a sequence.
    pub fn get(&mut self, sequence: &Sequence) -> Option<Arc<[f32]>> {
        self.clock += 1;
        let Some((key, _)) = self.entries.get_key_value(sequence) else {
            self.misses += 1;
            return None;
        };
        let key = key.clone();
        let (age, vector) = self.entries.get_mut(sequence)?;
        self.ages.remove(age);
        self.ages.insert(self.clock, key);
        *age = self.clock;
        self.hits += 1;
        Some(vector.clone())
    }

    /// Caches a vector, unless it is larger than the whole cache.
    pub fn insert(&mut self, sequence: Arc<Sequence>, vector: Arc<[f32]>) {
        let size = entry_bytes(&sequence, &vector);
        if size > self.bytes_max || self.entries.contains_key(&sequence) {
            return;
        }
        self.clock += 1;
        self.bytes += size;
        // A key needs no pixels.
        let sequence =
            if sequence.visuals.is_empty() { sequence } else { Arc::new(sequence.key()) };
        self.ages.insert(self.clock, sequence.clone());
        self.entries.insert(sequence, (self.clock, vector));
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.ages.pop_first() else { break };
            if let Some((_, vector)) = self.entries.remove(&oldest) {
                self.bytes -= entry_bytes(&oldest, &vector);
            }
        }
    }

    /// Its statistics.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits,
            misses: self.misses,
            entries: self.entries.len(),
            bytes: self.bytes,
            bytes_max: self.bytes_max,
        }
    }
}

fn entry_bytes(sequence: &Sequence, vector: &[f32]) -> usize {
    ENTRY_BYTES + size_of_val(sequence.tokens.as_slice()) + size_of_val(vector)
}

/// Statistics of the vector cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheStats {
    /// Inputs answered from it.
    pub hits: u64,
    /// Inputs looked up and not found.
    pub misses: u64,
    /// Vectors held.
    pub entries: usize,
    /// Bytes held.
    pub bytes: usize,
    /// Maximum bytes; 0 if disabled.
    pub bytes_max: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(id: u32) -> Arc<Sequence> {
        Arc::new(Sequence { tokens: vec![id; 4], ..Sequence::default() })
    }

    fn vector(value: f32) -> Arc<[f32]> {
        Arc::from([value; 4])
    }

    #[test]
    fn the_least_recently_used_goes_first_and_bytes_stay_within_the_limit() {
        let size = entry_bytes(&sequence(0), &vector(0.0));
        let mut cache = Cache::new(2 * size);
        cache.insert(sequence(1), vector(1.0));
        cache.insert(sequence(2), vector(2.0));
        assert_eq!(cache.get(&sequence(1)), Some(vector(1.0)));
        cache.insert(sequence(3), vector(3.0));
        assert_eq!(cache.get(&sequence(2)), None);
        assert_eq!(cache.get(&sequence(1)), Some(vector(1.0)));
        assert_eq!(cache.get(&sequence(3)), Some(vector(3.0)));
        let stats = cache.stats();
        assert_eq!((stats.entries, stats.bytes), (2, 2 * size));
        assert_eq!((stats.hits, stats.misses), (3, 1));
    }

    #[test]
    fn what_pooling_leaves_out_is_part_of_the_key() {
        let mut cache = Cache::new(1 << 20);
        cache.insert(sequence(1), vector(1.0));
        let other = Sequence { tokens: vec![1; 4], pooling_skip: 1, ..Sequence::default() };
        assert_eq!(cache.get(&other), None);
    }

    #[test]
    fn a_vector_larger_than_the_cache_is_not_kept() {
        let mut cache = Cache::new(8);
        cache.insert(sequence(1), vector(1.0));
        assert_eq!(cache.stats().entries, 0);
    }
}
