//! How two vectors are compared (sentence-transformers `similarity_fn_name`).
//!
//! Must not know: tokenizers, requests.

use proxima_kernels::l2_normalize;

pub use crate::checkpoint::SimilarityFunction;

/// How a model's unnormalised vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Similarity {
    /// The function.
    pub function: SimilarityFunction,
    /// Whether the model normalises its vectors; if so, these are scaled to unit length first.
    pub normalized: bool,
}

impl Similarity {
    /// The similarity of two vectors of the same length, computed in double precision. A cosine
    /// with a zero vector is 0.
    pub fn of(self, a: &[f32], b: &[f32]) -> f32 {
        let pairs = |a: &[f32], b: &[f32], of: fn(f64, f64) -> f64| -> f64 {
            a.iter().zip(b).map(|(a, b)| of(f64::from(*a), f64::from(*b))).sum()
        };
        if self.function == SimilarityFunction::Cosine {
            let dot = |a: &[f32], b: &[f32]| pairs(a, b, |a, b| a * b);
            let lengths = (dot(a, a) * dot(b, b)).sqrt();
            return if lengths > 0.0 { (dot(a, b) / lengths) as f32 } else { 0.0 };
        }
        let (a, b) = (self.own(a), self.own(b));
        let value = match self.function {
            SimilarityFunction::Cosine | SimilarityFunction::Dot => pairs(&a, &b, |a, b| a * b),
            SimilarityFunction::Euclidean => -pairs(&a, &b, |a, b| (a - b).powi(2)).sqrt(),
            SimilarityFunction::Manhattan => -pairs(&a, &b, |a, b| (a - b).abs()),
        };
        value as f32
    }

    /// A vector as the model's own code returns it.
    fn own(self, vector: &[f32]) -> Vec<f32> {
        let mut vector = vector.to_vec();
        if self.normalized {
            l2_normalize(&mut vector);
        }
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_of_sentence_transformers() {
        let (a, b) = ([3.0, 4.0], [1.0, 0.0]);
        let of = |function, normalized| Similarity { function, normalized }.of(&a, &b);
        for (function, raw, of_length_one) in [
            (SimilarityFunction::Cosine, 0.6, 0.6),
            (SimilarityFunction::Dot, 3.0, 0.6),
            (SimilarityFunction::Euclidean, -20.0f32.sqrt(), -0.8f32.sqrt()),
            (SimilarityFunction::Manhattan, -6.0, -1.2),
        ] {
            let close = |found: f32, wanted: f32| (found - wanted).abs() < 1e-6;
            assert!(close(of(function, false), raw), "{}", function.name());
            assert!(close(of(function, true), of_length_one), "{}", function.name());
        }
        let zero = Similarity::default().of(&[0.0, 0.0], &b);
        assert_eq!(zero, 0.0);
    }
}
