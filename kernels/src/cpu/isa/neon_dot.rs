//! FEAT_BF16 and FEAT_I8MM of 64-bit Arm: bfloat16 and 8-bit dot products.

use std::arch::is_aarch64_feature_detected;

use super::neon::Neon;
use super::simd::SimdOp;

/// Proof that this CPU has FEAT_BF16 and FEAT_I8MM in addition to NEON.
#[derive(Debug, Clone, Copy)]
pub struct NeonDot(Neon);

impl NeonDot {
    /// The token, if the CPU and the operating system support these instructions.
    pub fn new() -> Option<Self> {
        let has = is_aarch64_feature_detected!("bf16") && is_aarch64_feature_detected!("i8mm");
        Neon::new().filter(|_| has).map(Self)
    }

    /// The base instruction set, for everything but GEMM.
    pub fn base(self) -> Neon {
        self.0
    }

    /// Runs a kernel compiled for the base instruction set.
    pub fn enter<K: SimdOp>(self, kernel: K) -> K::Output {
        self.0.enter(kernel)
    }
}
