//! Adds biases by token and relative position to the scores of a tile.
//!
//! Must not know: where terms come from, the softmax.

use std::ops::Range;

use super::KEY_BLOCK;
use crate::cpu::isa::simd::{LANES, Simd};
use crate::spec::OffsetBuckets;

/// Terms of a head, `[n_rows, buckets]` each.
#[derive(Debug, Clone, Copy)]
pub struct TokenTerms<'a> {
    /// Of the rows as queries.
    pub queries: &'a [f32],
    /// Of the rows as keys.
    pub keys: &'a [f32],
}

/// Terms of one head of one sequence.
pub(super) struct HeadTerms<'a> {
    pub terms: TokenTerms<'a>,
    /// The sequence's rows in the batch.
    pub rows: &'a Range<usize>,
    pub buckets: &'a OffsetBuckets,
}

impl HeadTerms<'_> {
    /// Adds the terms of queries and keys, by their positions in the sequence, to `scores`,
    /// `[queries, KEY_BLOCK]`; keys after the sequence's last get none.
    ///
    /// A query's terms for neighbouring keys are neighbours in memory, and so are a key's for
    /// neighbouring queries, which are therefore read as columns of a square and transposed.
    #[inline(always)]
    pub fn add<S: Simd>(
        &self,
        s: S,
        queries: Range<usize>,
        keys: Range<usize>,
        scores: &mut [f32],
    ) {
        let end = keys.end.min(self.rows.len());
        for first_query in queries.clone().step_by(LANES) {
            let those = first_query..queries.end.min(first_query + LANES);
            for first_key in (keys.start..end).step_by(LANES) {
                let these = first_key..end.min(first_key + LANES);
                let mut square = [s.splat(0.0); LANES];
                for (column, key) in square.iter_mut().zip(these.clone()) {
                    *column = self.of(s, self.terms.keys, key, those.clone());
                }
                let square = s.transpose(square);
                for (of_keys, query) in square.into_iter().zip(those.clone()) {
                    let of_query = self.of(s, self.terms.queries, query, these.clone());
                    let at = (query - queries.start) * KEY_BLOCK + first_key - keys.start;
                    let values = &mut scores[at..at + LANES];
                    let value = s.add(s.load_part(values), s.add(of_query, of_keys));
                    s.store_part(values, value);
                }
            }
        }
    }

    /// The terms of the token at `position` for at most [`LANES`] others.
    #[inline(always)]
    fn of<S: Simd>(&self, s: S, terms: &[f32], position: usize, others: Range<usize>) -> S::V {
        let count = self.buckets.count();
        let terms = &terms[(self.rows.start + position) * count..][..count];
        let first = self.buckets.reach() + others.start - position;
        let buckets = &self.buckets.of_offsets()[first..first + others.len()];
        if self.buckets.consecutive()[first] as usize >= others.len() {
            return s.load_part(&terms[buckets[0] as usize..][..others.len()]);
        }
        let mut values = [0.0; LANES];
        for (value, bucket) in values.iter_mut().zip(buckets) {
            *value = terms[*bucket as usize];
        }
        s.load_part(&values)
    }
}
