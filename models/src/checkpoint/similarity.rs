//! How the files say that vectors are compared (sentence-transformers `similarity_fn_name`).
//!
//! Must not know: how it is computed.

use serde::Deserialize;

/// A function of two vectors that is larger the more alike they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SimilarityFunction {
    /// The cosine of their angle.
    #[default]
    Cosine,
    /// Their dot product.
    Dot,
    /// Their Euclidean distance, negative.
    Euclidean,
    /// The sum of the distances of their components, negative.
    Manhattan,
}

impl SimilarityFunction {
    /// Its name in configuration files and answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::Euclidean => "euclidean",
            Self::Manhattan => "manhattan",
        }
    }
}
