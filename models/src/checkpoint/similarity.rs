//! How vectors are compared, according to the files (sentence-transformers `similarity_fn_name`).
//!
//! Must not know: how it is computed.

use serde::Deserialize;

/// A function of two vectors that is larger the more similar they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SimilarityFunction {
    /// The cosine of their angle.
    #[default]
    Cosine,
    /// Their dot product.
    Dot,
    /// Their negative Euclidean distance.
    Euclidean,
    /// Their negative Manhattan distance.
    Manhattan,
}

impl SimilarityFunction {
    /// Its name in configuration files and responses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::Euclidean => "euclidean",
            Self::Manhattan => "manhattan",
        }
    }
}
