//! Biases of attention by relative position, in tables that grow with the longest sequence seen.
//!
//! Must not know: any one family.

use std::sync::{Arc, RwLock};

use proxima_kernels::spec::PositionBias;
use proxima_kernels::{Device, KernelError, Tensor};

/// Longest text of the first table: enough for most.
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

/// A bias by relative position: a value a bucket and head.
#[derive(Debug)]
pub struct RelativeBias {
    buckets: Buckets,
    heads: usize,
    /// `[buckets, heads]`
    values: Vec<f32>,
    device: Device,
    table: RwLock<Arc<PositionBias>>,
}

impl RelativeBias {
    /// The bias with these values, `[buckets, heads]`.
    ///
    /// # Errors
    /// A device failure.
    ///
    /// # Panics
    /// If there is not one value a bucket and head.
    pub fn new(
        buckets: Buckets,
        heads: usize,
        values: Vec<f32>,
        device: &Device,
    ) -> Result<Self, KernelError> {
        assert_eq!(values.len(), buckets.count * heads, "a value a bucket and head");
        let table = RwLock::new(Arc::new(table(buckets, heads, &values, LENGTH_MIN, device)?));
        Ok(Self { buckets, heads, values, device: device.clone(), table })
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
        let length = length.next_power_of_two();
        let wider = table(self.buckets, self.heads, &self.values, length, &self.device)?;
        let mut known = self.table.write().expect(poisoned);
        // Another thread may have made a longer one.
        if known.reach < wider.reach {
            *known = Arc::new(wider);
        }
        Ok(known.clone())
    }
}

fn table(
    buckets: Buckets,
    heads: usize,
    values: &[f32],
    length: usize,
    device: &Device,
) -> Result<PositionBias, KernelError> {
    let reach = length - 1;
    let offsets = -(reach as i64)..=reach as i64;
    let buckets: Vec<usize> = offsets.map(|offset| buckets.of(offset)).collect();
    let row = |head: usize| buckets.iter().map(move |bucket| values[bucket * heads + head]);
    let table: Vec<f32> = (0..heads).flat_map(row).collect();
    Ok(PositionBias { table: Tensor::from_vec(table, (heads, 2 * reach + 1), device)?, reach })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of transformers' `MPNetEncoder.relative_position_bucket`.
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
}
