//! Biases of attention by token and relative position: each layer compares queries with embeddings
//! of relative positions as keys, and keys with them as queries (DeBERTa's disentangled attention,
//! He et al., 2021; transformers `modeling_deberta_v2.py`).
//!
//! Must not know: any one family.

use proxima_kernels::ops::attention::{RowTerms, attention_by_token_for};
use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::linear_input::LinearInput;
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Heads, OffsetBuckets, Precision, Segment};
use proxima_kernels::stored::StoredTensor;
use proxima_kernels::{KernelError, Tensor};

use super::{LayerNorm, LinearPart, Loader};
use crate::checkpoint::CheckpointError;

/// Rows whose terms are in memory at a time, if no sequence is longer: each has two for each head
/// and bucket.
const ROWS_MAX: usize = 1024;

/// Buckets of relative positions: near ones have one each, farther ones share logarithmically wider
/// ones.
#[derive(Debug, Clone, Copy)]
pub struct LogBuckets {
    /// Buckets per direction; if at least as many as positions, each position has its own.
    pub span: usize,
    /// Positions from this on share the last bucket of their direction.
    pub distance_max: usize,
    /// Whether far positions share buckets.
    pub shares: bool,
}

impl LogBuckets {
    /// The bucket of an offset, from `-span` to `span`; that of the opposite is its negative.
    fn of(self, offset: i64) -> i64 {
        let (span, middle) = (self.span as i64, self.span as i64 / 2);
        let distance = offset.abs();
        if !self.shares || distance <= middle {
            return offset.clamp(-span, span);
        }
        // In float32, as transformers computes it.
        let near = middle as f32;
        let share = (distance as f32 / near).ln()
            / (((self.distance_max as f64 - 1.0) / middle as f64) as f32).ln();
        let far = middle + (share * (near - 1.0)).ceil() as i64;
        offset.signum() * far.min(span)
    }

    /// The bucket that is farthest from 0 in sequences of up to `length` tokens.
    fn farthest(self, length: usize) -> i64 {
        self.of(length.max(1) as i64 - 1)
    }

    /// Buckets of offsets in sequences of up to `length` tokens, counted from the lowest.
    fn table(self, length: usize) -> OffsetBuckets {
        let (reach, farthest) = (length.max(1) as i64 - 1, self.farthest(length));
        let of_offsets = (-reach..=reach).map(|offset| (self.of(offset) + farthest) as u32);
        OffsetBuckets::new(of_offsets.collect(), 2 * farthest as usize + 1)
    }

    /// For each bucket of [`table`](Self::table), the row of the table of embeddings for a query
    /// whose position relative to a key falls into it; if `mirrored`, for the opposite position.
    fn rows(self, length: usize, mirrored: bool) -> Vec<usize> {
        let (span, farthest) = (self.span as i64, self.farthest(length));
        let rows = (-farthest..=farthest).map(|bucket| {
            let bucket = if mirrored { -bucket } else { bucket };
            (bucket + span).clamp(0, 2 * span - 1) as usize
        });
        rows.collect()
    }
}

/// Names and sizes of a network's biases by token.
#[derive(Debug, Clone, Copy)]
pub struct TokenBiasConfig<'a> {
    /// The list of layers.
    pub layers: &'a str,
    /// Number of layers.
    pub count: usize,
    /// Heads of attention; as many for keys as for queries.
    pub heads: Heads,
    /// The table of embeddings of relative positions, `[2 * span, width]`.
    pub table: &'a str,
    /// Its norm, with its epsilon.
    pub norm: Option<(&'a str, f32)>,
    /// The buckets.
    pub buckets: LogBuckets,
    /// Longest sequence in tokens.
    pub length: usize,
    /// Name of the query projection in each layer.
    pub queries: &'a str,
    /// Name of the key projection in each layer.
    pub keys: &'a str,
}

/// The biases of a network.
#[derive(Debug)]
pub struct TokenBiases {
    layers: Vec<LayerTables>,
    heads: Heads,
    buckets: OffsetBuckets,
}

/// For each head, embeddings of relative positions, scaled: they turn a query or a key into its
/// terms, one per bucket.
#[derive(Debug)]
struct LayerTables {
    of_queries: Vec<Linear>,
    of_keys: Vec<Linear>,
}

impl TokenBiases {
    /// Computes the tables of all layers under the loader's prefix.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape, or a device failure.
    pub fn load(
        loader: &Loader<'_>,
        config: &TokenBiasConfig<'_>,
    ) -> Result<Self, CheckpointError> {
        let (width, count) = (config.heads.heads * config.heads.size, 2 * config.buckets.span);
        let table = loader.stored(config.table, &[count, width])?.to_f32();
        let failed = |error: KernelError| loader.failed(error);
        let mut table = Tensor::from_vec(table, (count, width), loader.device()).map_err(failed)?;
        if let Some((name, eps)) = config.norm {
            let norm = LayerNorm::load(loader, name, width, eps, true)?;
            table = norm.forward(&table).map_err(failed)?;
        }
        let rows = config.buckets.rows(config.length, false);
        let mirrored = config.buckets.rows(config.length, true);
        let layers = (0..config.count).map(|index| {
            let loader = loader.at(&format!("{}.{index}.", config.layers));
            Ok(LayerTables {
                // A query's terms are by the key's position relative to it.
                of_queries: tables_of(&loader, &table, config.keys, config.heads, &mirrored)?,
                of_keys: tables_of(&loader, &table, config.queries, config.heads, &rows)?,
            })
        });
        let layers = layers.collect::<Result<_, CheckpointError>>()?;
        Ok(Self { layers, heads: config.heads, buckets: config.buckets.table(config.length) })
    }

    /// Attention of whole sequences in the layer at `index`, then the layer `output` with a
    /// residual.
    ///
    /// # Errors
    /// A sequence that is longer than the network's longest, or a device failure.
    pub fn attend(
        &self,
        index: usize,
        qkv: &Rows,
        segments: &[Segment],
        output: &Linear,
        residual: &Rows,
    ) -> Result<Rows, KernelError> {
        let (groups, mut parts) = (groups(segments), Vec::new());
        if groups.len() == 1 {
            return self.attend_at_once(index, qkv, segments, output, residual);
        }
        for group in groups {
            let rows = group[0].rows.start..group[group.len() - 1].rows.end;
            let (qkv, residual) = (qkv.copied(rows.clone())?, residual.copied(rows.clone())?);
            let segments = group.iter().map(|segment| Segment {
                rows: segment.rows.start - rows.start..segment.rows.end - rows.start,
                ..segment.clone()
            });
            let segments: Vec<Segment> = segments.collect();
            parts.push(self.attend_at_once(index, &qkv, &segments, output, &residual)?);
        }
        Rows::joined(parts)
    }

    /// As [`attend`](Self::attend), with the terms of all rows in memory.
    fn attend_at_once(
        &self,
        index: usize,
        qkv: &Rows,
        segments: &[Segment],
        output: &Linear,
        residual: &Rows,
    ) -> Result<Rows, KernelError> {
        let terms = self.terms(&self.layers[index], qkv)?;
        let (heads, buckets) = (self.heads, &self.buckets);
        let mixed = attention_by_token_for(qkv, heads, segments.into(), &terms, buckets, output)?;
        output.of(&mixed, None, Some(residual))
    }

    /// The terms of some rows.
    fn terms(&self, layer: &LayerTables, qkv: &Rows) -> Result<RowTerms, KernelError> {
        let Heads { heads, size, .. } = self.heads;
        let terms = |tables: &[Linear], first: usize| -> Result<Vec<Rows>, KernelError> {
            let tables = tables.iter().enumerate().map(|(head, table)| {
                let columns = (first + head) * size..(first + head + 1) * size;
                table.of(&LinearInput::of_columns(qkv, columns, table.input_layout())?, None, None)
            });
            tables.collect()
        };
        Ok(RowTerms { queries: terms(&layer.of_queries, 0)?, keys: terms(&layer.of_keys, heads)? })
    }
}

/// Projects the relative-position embeddings with this layer's weights, split by head and scaled by
/// `1/sqrt(3·size)`.
fn tables_of(
    loader: &Loader<'_>,
    table: &Tensor,
    name: &str,
    heads: Heads,
    rows: &[usize],
) -> Result<Vec<Linear>, CheckpointError> {
    let failed = |error: KernelError| loader.failed(error);
    let (size, width) = (heads.size, heads.heads * heads.size);
    let scale = 1.0 / ((3 * size) as f32).sqrt();
    let projection =
        loader.with(Precision::Float32).linear(&[LinearPart::new(name, width)], width, true)?;
    let made = projection.forward(table).and_then(|made| made.to_vec2());
    let made: Vec<Vec<f32>> = made.map_err(failed)?;
    let of_heads = (0..heads.heads).map(|head| {
        let elements = rows.iter().flat_map(|row| &made[*row][head * size..(head + 1) * size]);
        let values: Vec<f32> = elements.map(|value| value * scale).collect();
        let stored = StoredTensor::of_values(&values, vec![rows.len(), size]);
        loader.layer(&stored.map_err(|problem| failed(KernelError::Msg(problem.to_string())))?)
    });
    of_heads.collect()
}

/// Segments in groups of at most [`ROWS_MAX`] rows, or a single segment.
fn groups(segments: &[Segment]) -> Vec<&[Segment]> {
    let (mut groups, mut first) = (Vec::new(), 0);
    for (index, segment) in segments.iter().enumerate() {
        if index > first && segment.rows.end - segments[first].rows.start > ROWS_MAX {
            groups.push(&segments[first..index]);
            first = index;
        }
    }
    if first < segments.len() {
        groups.push(&segments[first..]);
    }
    groups
}

#[cfg(test)]
mod tests {
    use proxima_kernels::spec::segments_of;

    use super::*;

    /// From transformers' `make_log_bucket_position`.
    #[test]
    fn buckets_are_those_of_transformers() {
        let buckets = LogBuckets { span: 256, distance_max: 512, shares: true };
        let near = [(0, 0), (1, 1), (127, 127), (128, 128), (129, 129), (131, 131), (140, 137)];
        let far =
            [(150, 143), (180, 160), (200, 169), (255, 192), (256, 192), (300, 207), (383, 229)];
        let last = [(400, 233), (450, 244), (500, 254), (509, 255), (510, 255), (511, 255)];
        for (offset, bucket) in near.into_iter().chain(far).chain(last) {
            assert_eq!(buckets.of(offset), bucket, "{offset}");
            assert_eq!(buckets.of(-offset), -bucket, "-{offset}");
        }
        let own = LogBuckets { span: 4, distance_max: 4, shares: false };
        assert_eq!(own.table(3).of_offsets(), [0, 1, 2, 3, 4]);
        assert_eq!(own.rows(3, false), [2, 3, 4, 5, 6]);
        assert_eq!(own.table(6).of_offsets(), [0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8]);
        assert_eq!(own.rows(6, false), [0, 1, 2, 3, 4, 5, 6, 7, 7]);
        assert_eq!(own.rows(6, true), [7, 7, 6, 5, 4, 3, 2, 1, 0]);
    }

    #[test]
    fn sequences_are_grouped_whole() {
        let rows = |offsets: &[usize]| -> Vec<usize> {
            let segments = segments_of(offsets);
            groups(&segments).iter().map(|group| group[group.len() - 1].rows.end).collect()
        };
        assert_eq!(rows(&[0, 5]), [5]);
        assert_eq!(rows(&[0, 1024, 1025, 2048, 5000, 5001]), [1024, 2048, 5000, 5001]);
        assert_eq!(rows(&[0, 600, 1000, 1024, 1100]), [1024, 1100]);
    }
}
