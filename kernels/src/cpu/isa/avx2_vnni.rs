//! AVX-VNNI, which later CPUs with AVX2 have: products of bytes.

use super::avx2::Avx2;
use super::simd::SimdOp;

/// Proof that this CPU has AVX-VNNI beside AVX2.
#[derive(Debug, Clone, Copy)]
pub struct Avx2Vnni(Avx2);

impl Avx2Vnni {
    /// The token, if the CPU and the operating system support it.
    pub fn new() -> Option<Self> {
        Avx2::new().filter(|_| is_x86_feature_detected!("avxvnni")).map(Self)
    }

    /// The instructions for all else.
    pub fn base(self) -> Avx2 {
        self.0
    }

    /// Runs a kernel with the instructions for all else.
    pub fn enter<K: SimdOp>(self, kernel: K) -> K::Output {
        self.0.enter(kernel)
    }
}
