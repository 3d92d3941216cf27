//! Vectors sent by clients: lists of numbers or base64.
//!
//! Must not know: what they are compared with.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::Failure;

/// Vectors, one per document.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SentVectors(Vec<SentVector>);

/// A vector.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a list of numbers or base64 text")]
enum SentVector {
    /// Numbers.
    Numbers(Vec<f32>),
    /// Little-endian float32 in base64.
    Base64(String),
}

impl SentVectors {
    /// The vectors, of which there must be `count`.
    ///
    /// # Errors
    /// A different number of vectors, or text that is not base64 of float32.
    pub fn numbers(self, count: usize) -> Result<Vec<Vec<f32>>, Failure> {
        let wrong = |message: String| Failure::Body { message, syntax: false };
        if self.0.len() != count {
            let found = self.0.len();
            return Err(wrong(format!("{found} document_embeddings for {count} documents")));
        }
        let vectors = self.0.into_iter().enumerate();
        let numbers = |(index, vector)| match vector {
            SentVector::Numbers(numbers) => Ok(numbers),
            SentVector::Base64(text) => decode(&text).ok_or_else(|| {
                wrong(format!("document_embeddings {index} is not base64 of float32 numbers"))
            }),
        };
        vectors.map(numbers).collect()
    }
}

fn decode(text: &str) -> Option<Vec<f32>> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let numbers = bytes.chunks_exact(4).map(|four| [four[0], four[1], four[2], four[3]]);
    Some(numbers.map(f32::from_le_bytes).collect())
}
