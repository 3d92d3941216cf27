//! The bfloat16 and 8-bit matrix extensions of 64-bit Arm.

use std::arch::is_aarch64_feature_detected;

use super::neon::Neon;
use super::simd::SimdOp;

/// Proof that this CPU has FEAT_BF16 and FEAT_I8MM beside NEON.
#[derive(Debug, Clone, Copy)]
pub struct NeonDot(Neon);

impl NeonDot {
    /// The token, if the CPU and the operating system support it.
    pub fn new() -> Option<Self> {
        let has = is_aarch64_feature_detected!("bf16") && is_aarch64_feature_detected!("i8mm");
        Neon::new().filter(|_| has).map(Self)
    }

    /// The instructions for all else.
    pub fn base(self) -> Neon {
        self.0
    }

    /// Runs a kernel with the instructions for all else.
    pub fn enter<K: SimdOp>(self, kernel: K) -> K::Output {
        self.0.enter(kernel)
    }
}
