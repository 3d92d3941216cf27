//! Arranges sequences as a tree of segments, in which a shared prefix is laid out once.
//!
//! Must not know: what rows cost, how long anything is cached.

use std::sync::Arc;

use proxima_kernels::spec::{Ancestor, Segment};

use super::visual::{Gathered, Visual};
use super::{Parent, Prefix, RaggedBatch, SegmentToCache, Sequence};

/// Minimum number of tokens, beyond those already shared, for a shared segment of their own.
const SHARED_MIN: usize = 16;

/// Maximum number of segments on a path that exist only because of recent sequences. Attention
/// packs all earlier keys for each segment, so a batch of texts cut in many places by recent ones
/// would need memory many times its size.
const RECENT_MAX: usize = 4;

/// A sequence of the batch, or a recent one that shows where later ones may branch off.
struct TrieEntry<'a> {
    tokens: &'a [u32],
    /// For a sequence of the batch, its index there and itself.
    sequence: Option<(usize, &'a Sequence)>,
}

/// Entries (sorted, `first..last`) that share their first `depth` tokens.
struct Branch {
    first: usize,
    last: usize,
    depth: usize,
    parent: Option<Parent>,
    /// Segments before it that exist only because of a recent sequence.
    by_recent: usize,
}

/// See [`RaggedBatch::sharing`].
pub fn lay_out(
    sequences: &[&Sequence],
    recent: &[Arc<[u32]>],
    mut find: impl FnMut(&[u32]) -> Option<Arc<Prefix>>,
) -> RaggedBatch {
    assert!(!sequences.is_empty(), "a batch has at least one sequence");
    let mut tree = Tree {
        batch: RaggedBatch {
            tokens: Vec::new(),
            segments: Vec::new(),
            ends: vec![usize::MAX; sequences.len()],
            second_texts: Vec::new(),
            pooling_skips: Vec::new(),
            shares: true,
            cached: Vec::new(),
            to_cache: Vec::new(),
            visuals: Vec::new(),
            mrope_positions: Vec::new(),
            marked: None,
        },
        entries: Vec::new(),
        images: Gathered::default(),
    };
    // Sequences grouped by the cached prefix that they continue.
    let mut groups: Vec<(Option<Arc<Prefix>>, Vec<TrieEntry<'_>>)> = Vec::new();
    for (index, sequence) in sequences.iter().enumerate() {
        let tokens = sequence.tokens.as_slice();
        assert!(!tokens.is_empty(), "a sequence has at least one token");
        // The last row is always computed: it is what is read out.
        let base = find(tokens)
            .filter(|base| base.tokens().len() < tokens.len() && tokens.starts_with(base.tokens()));
        let group = groups.iter_mut().find(|(prefix, _)| match (prefix, &base) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        });
        let entry = TrieEntry { tokens, sequence: Some((index, sequence)) };
        match group {
            Some((_, entries)) => entries.push(entry),
            None => groups.push((base, vec![entry])),
        }
    }
    for (base, mut entries) in groups {
        let before = base.as_ref().map_or(&[][..], |base| base.tokens());
        let fitting = recent.iter().map(|tokens| &**tokens);
        let fitting =
            fitting.filter(|tokens| tokens.len() > before.len() && tokens.starts_with(before));
        entries.extend(fitting.map(|tokens| TrieEntry { tokens, sequence: None }));
        entries.sort_by_key(|entry| entry.tokens);
        tree.entries = entries;
        tree.grow(before.len(), base);
    }
    (tree.batch.visuals, tree.batch.mrope_positions) = tree.images.finish();
    tree.batch
}

/// Length of the common prefix of two lists. An image is shared whole or not at all: only all of
/// its ids together identify it.
pub fn common(a: &[u32], b: &[u32]) -> usize {
    let mut length = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let is_visual = |ids: &[u32], at: usize| ids.get(at).is_some_and(|id| Visual::stands_for(*id));
    if is_visual(a, length) || is_visual(b, length) {
        while length > 0 && is_visual(a, length - 1) {
            length -= 1;
        }
    }
    length
}

/// Length of the common prefix of the batch's sequences among sorted entries.
fn own_common(entries: &[TrieEntry<'_>]) -> usize {
    let mut own = entries.iter().filter(|entry| entry.sequence.is_some()).map(|entry| entry.tokens);
    let first = own.next().unwrap_or_default();
    own.next_back().map_or(first.len(), |last| common(first, last))
}

struct Tree<'a> {
    batch: RaggedBatch,
    entries: Vec<TrieEntry<'a>>,
    images: Gathered<'a>,
}

impl Tree<'_> {
    fn grow(&mut self, depth: usize, base: Option<Arc<Prefix>>) {
        let parent = base.map(Parent::Cached);
        let last = self.entries.len();
        let mut branches = vec![Branch { first: 0, last, depth, parent, by_recent: 0 }];
        while let Some(branch) = branches.pop() {
            self.branch(branch, &mut branches);
        }
    }

    fn branch(&mut self, mut branch: Branch, further: &mut Vec<Branch>) {
        if branch.by_recent == RECENT_MAX {
            // A stable sort puts recent entries first, and they are dropped.
            let entries = &mut self.entries[branch.first..branch.last];
            entries.sort_by_key(|entry| entry.sequence.is_some());
            branch.first += entries.iter().filter(|entry| entry.sequence.is_none()).count();
        }
        let entries = &self.entries[branch.first..branch.last];
        let Some((_, sequence)) = entries.iter().find_map(|entry| entry.sequence) else { return };
        let (low, high) = (entries[0].tokens, entries[entries.len() - 1].tokens);
        let shared = if entries.len() == 1 { low.len() } else { common(low, high) };
        if entries.len() == 1 || shared >= branch.depth + SHARED_MIN {
            branch.by_recent += usize::from(own_common(entries) > shared);
            let tokens = low[..shared].to_vec();
            self.images.add(sequence, branch.depth..shared);
            let segment =
                self.add_segment(&tokens[branch.depth..], branch.depth, branch.parent.as_ref());
            let last_row = self.batch.segments[segment].rows.end - 1;
            while branch.first < branch.last && self.entries[branch.first].tokens.len() == shared {
                if let Some((index, _)) = self.entries[branch.first].sequence {
                    self.batch.ends[index] = last_row;
                }
                branch.first += 1;
            }
            if branch.first == branch.last {
                return;
            }
            self.batch.to_cache.push(SegmentToCache {
                segment,
                tokens,
                parent: branch.parent.take(),
            });
            (branch.depth, branch.parent) = (shared, Some(Parent::Segment(segment)));
        }
        let Branch { mut first, last, depth, parent, by_recent } = branch;
        for next in first + 1..=last {
            let together = next < last && {
                let (before, after) = (self.entries[next - 1].tokens, self.entries[next].tokens);
                common(&before[depth..], &after[depth..]) >= SHARED_MIN
            };
            if !together {
                let parent = parent.clone();
                further.push(Branch { first, last: next, depth, parent, by_recent });
                first = next;
            }
        }
    }

    fn add_segment(&mut self, tokens: &[u32], start: usize, parent: Option<&Parent>) -> usize {
        let first = self.batch.tokens.len();
        self.batch.tokens.extend_from_slice(tokens);
        let ancestors = match parent {
            None => Vec::new(),
            Some(Parent::Cached(prefix)) => self.cached_ancestors(prefix),
            Some(Parent::Segment(segment)) => {
                let segment = &self.batch.segments[*segment];
                let mut ancestors = segment.ancestors.clone();
                match ancestors.last_mut() {
                    Some(Ancestor::Batch(rows)) if rows.end == segment.rows.start => {
                        rows.end = segment.rows.end;
                    }
                    _ => ancestors.push(Ancestor::Batch(segment.rows.clone())),
                }
                ancestors
            }
        };
        self.batch.segments.push(Segment {
            rows: first..self.batch.tokens.len(),
            start,
            ancestors,
        });
        self.batch.segments.len() - 1
    }

    /// A cached prefix and those it continues, outermost first.
    fn cached_ancestors(&mut self, prefix: &Arc<Prefix>) -> Vec<Ancestor> {
        let mut chain = vec![prefix.clone()];
        while let Some(parent) = chain[chain.len() - 1].parent() {
            chain.push(parent.clone());
        }
        let ancestors = chain.into_iter().rev().map(|prefix| {
            let known = self.batch.cached.iter().position(|other| Arc::ptr_eq(other, &prefix));
            Ancestor::Cached(known.unwrap_or_else(|| {
                self.batch.cached.push(prefix);
                self.batch.cached.len() - 1
            }))
        });
        ancestors.collect()
    }
}

#[cfg(test)]
mod tests;
