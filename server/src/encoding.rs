//! How vectors are encoded in responses.
//!
//! Must not know: which dialect calls.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proxima_models::readout::quantize;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Encoding of the numbers.
///
/// `int8` is `round(127 v / max|v|)` and keeps the direction (cosine) but not the length; `uint8`
/// is `int8` + 128; in `ubinary` and `binary` a bit is 1 where `v >= 0`, eight per byte, most
/// significant bit first, and `binary` is the byte minus 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(remote = "Self", rename_all = "lowercase")]
pub enum OutputEncoding {
    /// JSON numbers.
    #[default]
    Float,
    /// Little-endian float32 bytes in base64.
    Base64,
    /// Signed bytes.
    Int8,
    /// Unsigned bytes.
    Uint8,
    /// Sign bits as signed bytes.
    Binary,
    /// Sign bits as unsigned bytes.
    Ubinary,
}

/// A vector as written.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum EncodedVector {
    /// JSON numbers.
    Float(Vec<f32>),
    /// Base64 text.
    Base64(String),
    /// Signed bytes.
    Signed(Vec<i8>),
    /// Unsigned bytes.
    Unsigned(Vec<u8>),
}

impl OutputEncoding {
    /// Encodes a vector.
    pub fn encode(self, vector: Vec<f32>) -> EncodedVector {
        match self {
            Self::Float => EncodedVector::Float(vector),
            Self::Base64 => {
                let mut bytes = Vec::with_capacity(4 * vector.len());
                vector.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                EncodedVector::Base64(BASE64_STANDARD.encode(bytes))
            }
            Self::Int8 => EncodedVector::Signed(quantize::int8(&vector)),
            Self::Uint8 => EncodedVector::Unsigned(quantize::uint8(&vector)),
            Self::Binary => EncodedVector::Signed(quantize::binary(&vector)),
            Self::Ubinary => EncodedVector::Unsigned(quantize::ubinary(&vector)),
        }
    }
}

impl OutputEncoding {
    /// As [`encode`](Self::encode), with all bytes in base64.
    pub fn packed(self, vector: Vec<f32>) -> EncodedVector {
        let bytes = match self.encode(vector) {
            EncodedVector::Float(numbers) => return Self::Base64.encode(numbers),
            EncodedVector::Base64(text) => return EncodedVector::Base64(text),
            EncodedVector::Signed(bytes) => bytes.into_iter().map(i8::cast_unsigned).collect(),
            EncodedVector::Unsigned(bytes) => bytes,
        };
        EncodedVector::Base64(BASE64_STANDARD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_as_documented() {
        let vector = vec![0.5, -0.25, 0.0, -1.0];
        let json = |encoding: OutputEncoding| {
            serde_json::to_string(&encoding.encode(vector.clone())).expect("written")
        };
        assert_eq!(json(OutputEncoding::Float), "[0.5,-0.25,0.0,-1.0]");
        assert_eq!(json(OutputEncoding::Base64), "\"AAAAPwAAgL4AAAAAAACAvw==\"");
        assert_eq!(json(OutputEncoding::Int8), "[64,-32,0,-127]");
        assert_eq!(json(OutputEncoding::Uint8), "[192,96,128,1]");
        assert_eq!(json(OutputEncoding::Ubinary), "[160]");
        assert_eq!(json(OutputEncoding::Binary), "[32]");
    }
}
