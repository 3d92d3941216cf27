//! Micro-kernels that accumulate step by step in vector registers: the tile loop they share, and
//! float32 fused multiply-adds on every instruction set.
//!
//! Must not know: what rows and columns stand for.

use super::micro_kernel::{Arithmetic, LINE, MicroKernel, PANEL_COLUMNS, Sums, check_tile};
use crate::cpu::isa::simd::{LANES, Simd};

/// One step of a micro-kernel: 128 bytes of weights (32 columns) times a few rows.
pub trait MicroKernelStep: Copy {
    /// A vector of 16 sums.
    type Sum: Copy;
    /// What it multiplies.
    const ARITHMETIC: Arithmetic;
    /// Rows of the largest tile whose sums fit the registers.
    const ROWS: usize;
    /// Steps per line of activations.
    const STEPS: usize;

    /// Prefetches a cache line; the address need not be mapped.
    fn prefetch(self, from: *const u8);
    /// 16 zeros.
    fn zero(self) -> Self::Sum;
    /// Loads 16 sums.
    ///
    /// # Safety
    /// `from` is valid for reading 64 bytes.
    unsafe fn load(self, from: *const f32) -> Self::Sum;
    /// Stores 16 sums.
    ///
    /// # Safety
    /// `to` is valid for writing 64 bytes.
    unsafe fn store(self, to: *mut f32, sum: Self::Sum);
    /// Accumulates one step: 128 bytes at `weights` times `x`, whose rows are a line apart.
    ///
    /// # Safety
    /// `weights` is valid for reading 128 bytes, `x` for reading `LINE / STEPS` bytes of each row.
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[Self::Sum; 2]; HEIGHT],
    );
}

/// Bytes of weights per step.
const STEP: usize = PANEL_COLUMNS * 4;
/// Prefetch distance of weights, in bytes. Past a panel's end it reaches into the next panel.
const AHEAD: usize = 24 * STEP;

/// A micro-kernel made of [`MicroKernelStep`]s.
#[derive(Debug, Clone, Copy)]
pub struct InSteps<T>(pub T);

impl<T: MicroKernelStep> MicroKernel for InSteps<T> {
    const ARITHMETIC: Arithmetic = T::ARITHMETIC;
    const ROWS: usize = T::ROWS;

    #[inline(always)]
    fn tile(self, height: usize, x: &[u8], weights: &[u8], sums: Sums<'_>, fresh: bool) {
        let t = self.0;
        if T::ROWS == 12 {
            match (height, fresh) {
                (1, _) => tile::<T, 1, true>(t, x, weights, sums),
                (2, _) => tile::<T, 2, true>(t, x, weights, sums),
                (3..=4, _) => tile::<T, 4, true>(t, x, weights, sums),
                (5..=8, _) => tile::<T, 8, true>(t, x, weights, sums),
                (_, true) => tile::<T, 12, true>(t, x, weights, sums),
                (_, false) => tile::<T, 12, false>(t, x, weights, sums),
            }
        } else if T::ROWS == 3 && height > 1 {
            tile::<T, 3, false>(t, x, weights, sums);
        } else if T::ROWS == 2 && height > 1 {
            tile::<T, 2, false>(t, x, weights, sums);
        } else {
            tile::<T, 1, true>(t, x, weights, sums);
        }
    }
}

#[inline(always)]
fn tile<T: MicroKernelStep, const HEIGHT: usize, const FETCH: bool>(
    t: T,
    x: &[u8],
    weights: &[u8],
    sums: Sums<'_>,
) {
    let lines = weights.len() / (T::STEPS * STEP);
    assert!(HEIGHT <= T::ROWS, "a tile is no taller than a row panel");
    check_tile(x, weights, lines, T::ROWS * LINE, &sums, HEIGHT);
    let mut all = [[t.zero(); 2]; HEIGHT];
    let out = sums.values.as_mut_ptr();
    // SAFETY: the largest offset into `x` is the last line's last row, and into `sums` the last
    // row's 32 columns; both are checked above. `weights` has `STEPS` steps per line by the
    // definition of `lines`.
    unsafe {
        if !sums.first {
            for (row, sums_of) in all.iter_mut().enumerate() {
                let at = out.add(row * sums.row);
                *sums_of = [t.load(at), t.load(at.add(LANES))];
            }
        }
        let (mut x, mut weights) = (x.as_ptr(), weights.as_ptr());
        for _ in 0..lines {
            for step in 0..T::STEPS {
                if FETCH {
                    t.prefetch(weights.wrapping_add(AHEAD));
                    t.prefetch(weights.wrapping_add(AHEAD + LINE));
                }
                t.step::<HEIGHT>(x.add(step * (LINE / T::STEPS)), weights, &mut all);
                weights = weights.wrapping_add(STEP);
            }
            x = x.wrapping_add(T::ROWS * LINE);
        }
        for (row, sums_of) in all.iter().enumerate() {
            let at = out.add(row * sums.row);
            t.store(at, sums_of[0]);
            t.store(at.add(LANES), sums_of[1]);
        }
    }
}

macro_rules! float_sums {
    ($simd:ident) => {
        type Sum = <$simd as Simd>::V;
        const ROWS: usize = <$simd as Simd>::TILE_ROWS;

        #[inline(always)]
        fn prefetch(self, from: *const u8) {
            self.0.prefetch(from);
        }
        #[inline(always)]
        fn zero(self) -> Self::Sum {
            self.0.splat(0.0)
        }
        #[inline(always)]
        unsafe fn load(self, from: *const f32) -> Self::Sum {
            // SAFETY: guaranteed by the caller.
            unsafe { self.0.load(from) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32, sum: Self::Sum) {
            // SAFETY: guaranteed by the caller.
            unsafe { self.0.store(to, sum) };
        }
    };
}

#[cfg(target_arch = "aarch64")]
pub(in crate::cpu) use float_sums;

/// float32 times float32.
#[derive(Debug, Clone, Copy)]
pub struct FmaF32<S>(pub S);

impl<S: Simd> MicroKernelStep for FmaF32<S> {
    float_sums!(S);
    const ARITHMETIC: Arithmetic = Arithmetic::F32;
    const STEPS: usize = 16;

    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[S::V; 2]; HEIGHT],
    ) {
        // SAFETY: guaranteed by the caller; packed elements are aligned.
        unsafe {
            let weights: *const f32 = weights.cast();
            let (left, right) = (self.0.load(weights), self.0.load(weights.add(LANES)));
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = self.0.splat(*x.add(row * LINE).cast::<f32>());
                *sums = [self.0.fma(x, left, sums[0]), self.0.fma(x, right, sums[1])];
            }
        }
    }
}

/// float32 times bfloat16, widened: the same bits as with the same weights in float32.
#[derive(Debug, Clone, Copy)]
pub struct FmaBf16<S>(pub S);

impl<S: Simd> MicroKernelStep for FmaBf16<S> {
    float_sums!(S);
    const ARITHMETIC: Arithmetic = Arithmetic::F32Bf16;
    const STEPS: usize = 8;

    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[S::V; 2]; HEIGHT],
    ) {
        // SAFETY: guaranteed by the caller; packed elements are aligned.
        unsafe {
            let weights: *const u16 = weights.cast();
            let left = self.0.load_bf16_pairs(weights);
            let right = self.0.load_bf16_pairs(weights.add(PANEL_COLUMNS));
            for (row, sums) in sums.iter_mut().enumerate() {
                let x: *const f32 = x.add(row * LINE).cast();
                let value = self.0.splat(*x);
                *sums = [self.0.fma(value, left.0, sums[0]), self.0.fma(value, right.0, sums[1])];
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let x: *const f32 = x.add(row * LINE).cast();
                let value = self.0.splat(*x.add(1));
                *sums = [self.0.fma(value, left.1, sums[0]), self.0.fma(value, right.1, sums[1])];
            }
        }
    }
}

/// float32 times IEEE half, widened: the same bits as with the same weights in float32.
#[derive(Debug, Clone, Copy)]
pub struct FmaF16<S>(pub S);

impl<S: Simd> MicroKernelStep for FmaF16<S> {
    float_sums!(S);
    const ARITHMETIC: Arithmetic = Arithmetic::F32F16;
    const STEPS: usize = 8;

    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[S::V; 2]; HEIGHT],
    ) {
        // SAFETY: guaranteed by the caller; packed elements are aligned.
        unsafe {
            for depth in 0..2 {
                let weights = weights.cast::<u16>().add(depth * PANEL_COLUMNS);
                let (left, right) = (self.0.load_f16(weights), self.0.load_f16(weights.add(LANES)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = self.0.splat(*x.add(row * LINE).cast::<f32>().add(depth));
                    *sums = [self.0.fma(x, left, sums[0]), self.0.fma(x, right, sums[1])];
                }
            }
        }
    }
}

/// u8 times i8 in plain integers, for CPUs without a suitable instruction; exact, as everywhere.
#[derive(Debug, Clone, Copy)]
pub struct PlainInt8;

impl MicroKernelStep for PlainInt8 {
    type Sum = [i32; LANES];
    const ARITHMETIC: Arithmetic = Arithmetic::Int8;
    const ROWS: usize = 2;
    const STEPS: usize = 16;

    #[inline(always)]
    fn prefetch(self, _from: *const u8) {}
    #[inline(always)]
    fn zero(self) -> Self::Sum {
        [0; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::Sum {
        // SAFETY: guaranteed by the caller; no alignment is assumed.
        unsafe { from.cast::<Self::Sum>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sum: Self::Sum) {
        // SAFETY: guaranteed by the caller; no alignment is assumed.
        unsafe { to.cast::<Self::Sum>().write_unaligned(sum) };
    }
    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[Self::Sum; 2]; HEIGHT],
    ) {
        // SAFETY: the caller guarantees four bytes per row and 128 bytes of weights.
        unsafe {
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = x.add(row * LINE).cast::<[u8; 4]>().read();
                for (half, sums) in sums.iter_mut().enumerate() {
                    let weights = weights.cast::<[[i8; 4]; LANES]>().add(half).read();
                    for (sum, weights) in sums.iter_mut().zip(&weights) {
                        for (x, weight) in x.iter().zip(weights) {
                            *sum += i32::from(*x) * i32::from(*weight);
                        }
                    }
                }
            }
        }
    }
}
