//! AVX-VNNI, which later CPUs with AVX2 have: 8-bit dot products.

use super::avx2::Avx2;
use super::simd::SimdOp;

/// Proof that this CPU has AVX-VNNI in addition to AVX2.
#[derive(Debug, Clone, Copy)]
pub struct Avx2Vnni(Avx2);

impl Avx2Vnni {
    /// The token, if the CPU and the operating system support these instructions.
    pub fn new() -> Option<Self> {
        Avx2::new().filter(|_| is_x86_feature_detected!("avxvnni")).map(Self)
    }

    /// The base instruction set, for everything but GEMM.
    pub fn base(self) -> Avx2 {
        self.0
    }

    /// Runs a kernel compiled for the base instruction set.
    pub fn enter<K: SimdOp>(self, kernel: K) -> K::Output {
        self.0.enter(kernel)
    }
}
