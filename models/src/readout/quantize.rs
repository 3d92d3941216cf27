//! Output encodings of a vector with one byte or one bit per component.
//!
//! Scales: `int8` is `round(127 * v / max|v|)`, which keeps the direction (cosine) but not the
//! length; `uint8` is `int8 + 128`. A bit is 1 where `v >= 0`, most significant bit first, with the
//! last byte padded with zeros; `ubinary` is that byte, `binary` the byte minus 128 as a signed
//! integer.
//!
//! Must not know: wire formats.

/// Signed bytes, `-127..=127`, scaled by the vector's largest magnitude. A zero vector gives zeros.
pub fn int8(vector: &[f32]) -> Vec<i8> {
    let peak = vector.iter().fold(0.0f32, |peak, value| peak.max(value.abs()));
    if peak == 0.0 {
        return vec![0; vector.len()];
    }
    vector.iter().map(|value| (value / peak * 127.0).round() as i8).collect()
}

/// [`int8`] plus 128: `1..=255`, where 128 is zero.
pub fn uint8(vector: &[f32]) -> Vec<u8> {
    int8(vector).into_iter().map(|value| (i16::from(value) + 128) as u8).collect()
}

/// Sign bits packed into bytes.
pub fn ubinary(vector: &[f32]) -> Vec<u8> {
    let bytes = vector.chunks(8).map(|chunk| {
        let bits = chunk.iter().enumerate().filter(|(_, value)| **value >= 0.0);
        bits.fold(0u8, |byte, (bit, _)| byte | 0x80 >> bit)
    });
    bytes.collect()
}

/// [`ubinary`] minus 128, as signed bytes.
pub fn binary(vector: &[f32]) -> Vec<i8> {
    ubinary(vector).into_iter().map(|byte| (i16::from(byte) - 128) as i8).collect()
}
