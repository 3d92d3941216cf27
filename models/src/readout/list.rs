//! Hidden states at the marks of a list to vectors of its documents and its query, and scores of
//! documents from them ("last but not late" interaction: Wang, Li and Xiao, jina-reranker-v3, 2025;
//! `modeling.py` of its checkpoint).
//!
//! Must not know: tokenizers, requests, how documents became lists.

use proxima_kernels::KernelError;

use super::rows_of;
use super::score::HeadLayer;
use super::similarity::Similarity;
use crate::batch::HiddenStates;

/// The projector over the marks of a list.
#[derive(Debug)]
pub struct ListReadout {
    layers: Vec<HeadLayer>,
}

impl ListReadout {
    /// A projector of these layers.
    pub fn new(layers: Vec<HeadLayer>) -> Self {
        Self { layers }
    }

    /// A vector for each mark of every sequence, `[marks][width]` each, not normalised.
    ///
    /// # Errors
    /// A device failure.
    pub fn vectors(&self, hidden: &HiddenStates) -> Result<Vec<Vec<Vec<f32>>>, KernelError> {
        let mut x = hidden.rows.clone();
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        rows_of(&x, &hidden.offsets)
    }
}

/// The scores of all documents of one or several lists for the same query. Each list has the
/// vectors of its documents, then that of its query.
///
/// Scores are cosines with the mean of the lists' query vectors, weighted by the best score within
/// each list, from 0 to 1. A zero vector has the score 0.
pub fn combine_lists(lists: &[Vec<Vec<f32>>]) -> Vec<f32> {
    let lists = lists.iter().filter_map(|list| list.split_last());
    let lists: Vec<(&Vec<f32>, &[Vec<f32>])> = lists.collect();
    let cosine = Similarity::default();
    let width = lists.first().map_or(0, |(query, _)| query.len());
    let (mut mean, mut total) = (vec![0.0f64; width], 0.0);
    for (query, documents) in &lists {
        let scores = documents.iter().map(|document| cosine.of(query, document));
        let weight = f64::midpoint(1.0, scores.fold(-1.0, f32::max).into());
        total += weight;
        for (sum, value) in mean.iter_mut().zip(*query) {
            *sum += weight * f64::from(*value);
        }
    }
    // If no list has a weight, the mean is zero, and so are the scores.
    let mean: Vec<f32> =
        mean.iter().map(|sum| (sum / total.max(f64::MIN_POSITIVE)) as f32).collect();
    let documents = lists.iter().flat_map(|(_, documents)| documents.iter());
    documents.map(|document| cosine.of(&mean, document)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_list_has_the_cosines_with_its_query() {
        let list = vec![vec![1.0, 0.0], vec![-2.0, 0.0], vec![3.0, 3.0], vec![2.0, 0.0]];
        let scores = combine_lists(&[list]);
        assert_eq!(scores.len(), 3);
        assert_eq!(scores[..2], [1.0, -1.0]);
        assert!((scores[2] - 0.5f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn a_list_without_a_good_document_weighs_nothing() {
        // The second list's only document is opposite to its query: (1 - 1) / 2.
        let good = vec![vec![1.0, 0.0], vec![1.0, 0.0]];
        let bad = vec![vec![0.0, -1.0], vec![0.0, 1.0]];
        assert_eq!(combine_lists(&[good, bad.clone()]), [1.0, 0.0]);
        // Nor does a zero vector divide by zero.
        assert_eq!(combine_lists(&[bad]), [0.0]);
    }
}
