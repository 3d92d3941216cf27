//! Every operation in candle's own operations: the definition that kernels are tested against, and
//! what computes on devices without kernels of their own.
//!
//! Must not know: kernels, layouts, batches.

pub mod attention;
pub mod embedding;
pub mod linear;
pub mod norm;
pub mod pool;
pub mod rotary;
