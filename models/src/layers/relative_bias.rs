//! Biases of attention by relative position, in tables that grow with the longest sequence seen.
//!
//! Must not know: any one family.

use std::sync::{Arc, RwLock};

use proxima_kernels::spec::PositionBias;
use proxima_kernels::{Device, KernelError, Tensor};

/// Initial length of the table; most texts fit.
const LENGTH_MIN: usize = 512;

/// T5's buckets: near offsets have one each, farther ones share logarithmically wider ones (Raffel
/// et al., 2020). Half of the buckets are for keys after the query.
#[derive(Debug, Clone, Copy)]
pub struct Buckets {
    /// Number of buckets, in both directions together.
    pub count: usize,
    /// Offsets from this on share the last bucket of their direction.
    pub distance_max: usize,
}

impl Buckets {
    /// The bucket of a key that is `offset` positions after the query (before it, if negative).
    fn of(self, offset: i64) -> usize {
        let half = self.count / 2;
        let (exact, distance) = (half / 2, offset.unsigned_abs() as usize);
        let first = if offset > 0 { half } else { 0 };
        if distance < exact {
            return first + distance;
        }
        // In float32, as transformers computes it.
        let share = (distance as f32 / exact as f32).ln()
            / (self.distance_max as f64 / exact as f64).ln() as f32;
        first + (exact + (share * (half - exact) as f32) as usize).min(half - 1)
    }
}

/// A bias by relative position, the same in all layers.
#[derive(Debug)]
pub struct RelativeBias {
    rule: BiasRule,
    device: Device,
    table: RwLock<Arc<PositionBias>>,
}

/// Where the values of a bias come from.
#[derive(Debug, Clone)]
pub enum BiasRule {
    /// One per bucket and head.
    Buckets {
        /// Which offsets share a bucket.
        buckets: Buckets,
        /// `[buckets, heads]`
        values: Vec<f32>,
    },
    /// The distance to either side, times a slope per head, is subtracted (ALiBi, Press et al.,
    /// 2022).
    Slopes(Vec<f32>),
}

impl BiasRule {
    /// ALiBi's slopes: evenly spaced powers of two. For a number of heads that is no power of two,
    /// those of the power below, then every second one of the power above.
    pub fn slopes(heads: usize) -> Self {
        let evenly = |count: usize| {
            (1..=count).map(move |step| (-8.0 * step as f64 / count as f64).exp2() as f32)
        };
        let whole = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
        let more = evenly(2 * whole).step_by(2).take(heads - whole);
        Self::Slopes(evenly(whole).chain(more).collect())
    }

    fn heads(&self) -> usize {
        match self {
            Self::Buckets { buckets, values } => values.len() / buckets.count,
            Self::Slopes(slopes) => slopes.len(),
        }
    }

    /// The table of all heads, for sequences of up to `length` tokens.
    fn table(&self, length: usize, device: &Device) -> Result<PositionBias, KernelError> {
        let (reach, heads) = (length - 1, self.heads());
        let offsets = || -(reach as i64)..=reach as i64;
        let mut table: Vec<f32> = Vec::with_capacity(heads * (2 * reach + 1));
        match self {
            Self::Buckets { buckets, values } => {
                let buckets: Vec<usize> = offsets().map(|offset| buckets.of(offset)).collect();
                for head in 0..heads {
                    table.extend(buckets.iter().map(|bucket| values[bucket * heads + head]));
                }
            }
            Self::Slopes(slopes) => {
                for slope in slopes {
                    table.extend(offsets().map(|offset| -slope * offset.unsigned_abs() as f32));
                }
            }
        }
        Ok(PositionBias { table: Tensor::from_vec(table, (heads, 2 * reach + 1), device)?, reach })
    }
}

impl RelativeBias {
    /// The bias by this rule.
    ///
    /// # Errors
    /// A device failure.
    pub fn new(rule: BiasRule, device: &Device) -> Result<Self, KernelError> {
        let table = RwLock::new(Arc::new(rule.table(LENGTH_MIN, device)?));
        Ok(Self { rule, device: device.clone(), table })
    }

    /// The bias for sequences of up to `length` tokens.
    ///
    /// # Errors
    /// A device failure.
    pub fn of(&self, length: usize) -> Result<Arc<PositionBias>, KernelError> {
        let poisoned = "no code panics while it holds the table";
        let known = self.table.read().expect(poisoned).clone();
        if length <= known.reach + 1 {
            return Ok(known);
        }
        let wider = self.rule.table(length.next_power_of_two(), &self.device)?;
        let mut known = self.table.write().expect(poisoned);
        // Another thread may have made a longer one.
        if known.reach < wider.reach {
            *known = Arc::new(wider);
        }
        Ok(known.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From transformers' `MPNetEncoder.relative_position_bucket`.
    #[test]
    fn buckets_are_those_of_transformers() {
        let buckets = Buckets { count: 32, distance_max: 128 };
        let after = [(0, 0), (1, 17), (7, 23), (8, 24), (11, 24), (12, 25), (15, 25), (16, 26)];
        let far = [(22, 26), (23, 27), (31, 27), (32, 28), (45, 28), (46, 29), (63, 29), (64, 30)];
        let last =
            [(90, 30), (91, 31), (4000, 31), (-1, 1), (-7, 7), (-8, 8), (-64, 14), (-91, 15)];
        for (offset, bucket) in [after, far, last].concat() {
            assert_eq!(buckets.of(offset), bucket, "{offset}");
        }
    }

    /// From the authors' `_get_alibi_head_slopes` (jina-bert-implementation).
    #[test]
    fn slopes_are_those_of_the_authors() {
        let slopes = |heads: usize| match BiasRule::slopes(heads) {
            BiasRule::Slopes(slopes) => slopes,
            BiasRule::Buckets { .. } => Vec::new(),
        };
        let halves: Vec<f32> = (1..=8).map(|power| 0.5f32.powi(power)).collect();
        assert_eq!(slopes(8), halves);
        let more = [0.5, 1.5, 2.5, 3.5].map(|power: f32| (-power).exp2());
        let (found, wanted) = (slopes(12), [&halves[..], &more].concat());
        assert_eq!(found.len(), 12);
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-7), "{found:?}");
        assert_eq!(slopes(1), [1.0 / 256.0]);
    }
}
