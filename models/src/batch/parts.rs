//! Splits a batch into parts of whole sequences, each of which one thread takes through a layer
//! alone: activations stay in that core's cache between operations, and threads synchronise once
//! per layer rather than once per operation. No row depends on the part it is in.
//!
//! A part that would leave other threads idle is computed by all threads together, operation by
//! operation.
//! Must not know: what a layer does.

use std::ops::Range;

use proxima_kernels::ops::rows::Rows;
use proxima_kernels::spec::{Ancestor, Segment};
use proxima_kernels::{KernelError, thread_pool};

use super::RaggedBatch;

/// Approximate rows per part: with fewer, a layer's weights are read too often; with more,
/// activations overflow the L2 cache.
const ROWS: usize = 384;
/// Largest size of a layer's weights, in bytes, at which a batch is split among several threads:
/// each of them reads all weights, which for large layers costs more than cached activations save.
/// Measured: 3.5 MB gains, 14 MB loses (benches/README.md).
const WEIGHT_BYTES_MAX: usize = 4 << 20;
/// A split is used if the busiest thread gets at most this many percent more than an equal share.
const UNEVEN_PERCENT: usize = 15;

/// Some sequences of a batch.
#[derive(Debug)]
pub struct BatchPart {
    /// Its rows in the batch.
    rows: Range<usize>,
    /// Its segments, as indices into the batch's.
    segment_range: Range<usize>,
    /// Its segments, with rows counted from its own first row.
    segments: Vec<Segment>,
}

impl BatchPart {
    fn new(batch: &RaggedBatch, segment_range: Range<usize>) -> Self {
        let segments = &batch.segments[segment_range.clone()];
        let rows = segments[0].rows.start..segments[segments.len() - 1].rows.end;
        let shifted = |rows: &Range<usize>, by: usize| rows.start - by..rows.end - by;
        let shifted_ancestor = |ancestor: &Ancestor| match ancestor {
            Ancestor::Batch(seen) => Ancestor::Batch(shifted(seen, rows.start)),
            Ancestor::Cached(index) => Ancestor::Cached(*index),
        };
        let segments = segments.iter().map(|segment| Segment {
            rows: shifted(&segment.rows, rows.start),
            start: segment.start,
            ancestors: segment.ancestors.iter().map(shifted_ancestor).collect(),
        });
        let segments = segments.collect();
        Self { rows, segment_range, segments }
    }

    /// Its rows in the batch.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// Its segments, as indices into the batch's.
    pub fn segment_range(&self) -> Range<usize> {
        self.segment_range.clone()
    }

    /// Its segments, with rows counted from its own first row.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// How a batch is split.
#[derive(Debug, PartialEq, Eq)]
struct Split {
    /// Segments of each part that one thread computes alone, largest part first.
    alone: Vec<Range<usize>>,
    /// Segments of each part that all threads compute together.
    together: Vec<Range<usize>>,
}

impl Split {
    /// Everything in one part.
    fn none(batch: &RaggedBatch) -> Self {
        let all = 0..batch.segments.len();
        Self { alone: Vec::new(), together: vec![all] }
    }

    fn of(batch: &RaggedBatch, threads: usize) -> Self {
        let segments = &batch.segments;
        let rows = |segment_range: &Range<usize>| {
            segments[segment_range.end - 1].rows.end - segments[segment_range.start].rows.start
        };
        let (mut trees, mut together) = (trees(segments), Vec::new());
        while !trees.is_empty() {
            let mut alone = shares(&trees, rows, threads);
            if is_even(alone.iter().map(rows), threads) {
                alone.sort_by_key(|part| std::cmp::Reverse(rows(part)));
                return Self { alone, together };
            }
            let largest = (0..trees.len()).max_by_key(|index| rows(&trees[*index]));
            together.extend(largest.map(|index| trees.remove(index)));
        }
        Self::none(batch)
    }
}

/// Joins neighbouring trees into parts of about equal size, the same number for each thread.
fn shares(
    trees: &[Range<usize>],
    rows: impl Fn(&Range<usize>) -> usize,
    threads: usize,
) -> Vec<Range<usize>> {
    let total: usize = trees.iter().map(&rows).sum();
    let count = total.div_ceil(ROWS * threads) * threads;
    let (mut parts, mut last_share, mut before) = (Vec::<Range<usize>>::new(), count, 0);
    for tree in trees {
        // Which of `count` equal shares its middle falls into.
        let share = (before + rows(tree) / 2) * count / total;
        before += rows(tree);
        match parts.last_mut() {
            Some(last) if share == last_share && last.end == tree.start => last.end = tree.end,
            _ => parts.push(tree.clone()),
        }
        last_share = share;
    }
    parts
}

/// Whether threads that each take the next part when they are free finish at about the same time.
fn is_even(parts: impl Iterator<Item = usize>, threads: usize) -> bool {
    let (mut busy, mut total) = (vec![0; threads], 0);
    for rows in parts {
        total += rows;
        if let Some(first) = busy.iter_mut().min() {
            *first += rows;
        }
    }
    let longest = busy.into_iter().max().unwrap_or(0);
    longest * threads * 100 <= total * (100 + UNEVEN_PERCENT)
}

/// The smallest ranges of segments that attend to no batch rows outside themselves.
fn trees(segments: &[Segment]) -> Vec<Range<usize>> {
    let (mut trees, mut end, mut seen) = (Vec::new(), segments.len(), usize::MAX);
    for (index, segment) in segments.iter().enumerate().rev() {
        for ancestor in &segment.ancestors {
            if let Ancestor::Batch(rows) = ancestor {
                seen = seen.min(rows.start);
            }
        }
        if seen >= segment.rows.start {
            trees.push(index..end);
            (end, seen) = (index, usize::MAX);
        }
    }
    trees.reverse();
    trees
}

/// The parts of a batch on their way through a network.
#[derive(Debug)]
pub struct InParts<S> {
    alone: Vec<One<S>>,
    together: Vec<One<S>>,
}

#[derive(Debug)]
struct One<S> {
    part: BatchPart,
    /// Absent only after a failure.
    state: Option<S>,
    failure: Option<KernelError>,
}

impl<S: Send> InParts<S> {
    /// Makes the initial state of each part from its rows of `hidden`; `weight_bytes` is the size
    /// of one layer's weights.
    ///
    /// # Errors
    /// The first failure of `make`, or a device failure.
    pub fn new(
        batch: &RaggedBatch,
        hidden: Rows,
        weight_bytes: usize,
        make: impl Fn(&BatchPart, Rows) -> Result<S, KernelError>,
    ) -> Result<Self, KernelError> {
        let threads = thread_pool::threads();
        // Images are located by their rows in the whole batch, so a batch with images is not split.
        let many_weights = threads > 1 && weight_bytes > WEIGHT_BYTES_MAX;
        let whole = !hidden.is_on_cpu() || many_weights || !batch.visuals.is_empty();
        let split = if whole { Split::none(batch) } else { Split::of(batch, threads) };
        if let ([all], []) | ([], [all]) = (&split.alone[..], &split.together[..]) {
            let part = BatchPart::new(batch, all.clone());
            let state = Some(make(&part, hidden)?);
            return Ok(Self { alone: vec![], together: vec![One { part, state, failure: None }] });
        }
        let one = |segment_range: Range<usize>| {
            let part = BatchPart::new(batch, segment_range);
            let state = Some(make(&part, hidden.copied(part.rows())?)?);
            Ok(One { part, state, failure: None })
        };
        Ok(Self {
            alone: split.alone.into_iter().map(one).collect::<Result<_, KernelError>>()?,
            together: split.together.into_iter().map(one).collect::<Result<_, KernelError>>()?,
        })
    }

    /// Advances every part by one step. Calls `pause`, in which the caller may compute something
    /// else, before each part that all threads compute together and once before the others; with a
    /// single thread, before each part.
    ///
    /// # Errors
    /// The first failure of `step`, in the order of the parts. The other parts are stepped all the
    /// same.
    pub fn step(
        &mut self,
        pause: &dyn Fn(),
        step: impl Fn(&BatchPart, S) -> Result<S, KernelError> + Sync,
    ) -> Result<(), KernelError> {
        let take = |one: &mut One<S>| {
            if let Some(state) = one.state.take() {
                match step(&one.part, state) {
                    Ok(state) => one.state = Some(state),
                    Err(failure) => one.failure = Some(failure),
                }
            }
        };
        for one in &mut self.together {
            pause();
            take(one);
        }
        // With several threads, synchronising between parts would cost more than a pause gains.
        let at_a_time = if thread_pool::threads() == 1 { 1 } else { self.alone.len().max(1) };
        for round in self.alone.chunks_mut(at_a_time) {
            pause();
            thread_pool::for_each_part(round, 1, |_, one| one.iter_mut().for_each(take));
        }
        let mut all = self.together.iter_mut().chain(&mut self.alone);
        all.find_map(|one| one.failure.take()).map_or(Ok(()), Err)
    }

    /// The final states, in row order.
    pub fn finish(self) -> Vec<S> {
        let mut all: Vec<One<S>> = self.together.into_iter().chain(self.alone).collect();
        all.sort_by_key(|one| one.part.rows.start);
        all.into_iter().filter_map(|one| one.state).collect()
    }
}

#[cfg(test)]
mod tests;
