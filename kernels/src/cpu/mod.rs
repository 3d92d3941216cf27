//! CPU kernels: slices in, slices out. Must not know: candle, layers, batches.
//!
//! Each module uses only those above it in this list.

pub mod buffer;
pub mod thread_pool;

pub mod isa;

pub mod gemm;

pub mod attention;
pub mod rowwise;

pub use gemm::epilogue::Epilogue;
pub use isa::Isa;
pub use rowwise::l2_normalize;
