//! The vector operations, on 16 float32 lanes, that every instruction set implements.
//!
//! Must not know: any instruction set.

/// Elements per vector, on every instruction set.
pub const LANES: usize = 16;

/// A computation that runs on any instruction set.
///
/// Implementations mark `run` and everything it calls `#[inline(always)]`: only code inlined into
/// the instruction set's entry function is compiled with its instructions.
pub trait SimdOp {
    /// What it computes.
    type Output;
    /// Computes it with the instructions of `simd`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Vectors of 16 elements. All functions are `#[inline(always)]`, so that kernels inlined into an
/// instruction set's entry function use its instructions. A value of the type proves that the CPU
/// has them, so the arithmetic is safe to call.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of 16 float32 elements.
    type V: Copy;
    /// Rows of the largest GEMM tile, 32 columns wide, whose sums fit the registers.
    const TILE_ROWS: usize;

    /// Runs a kernel as a separate function, compiled once for this instruction set: for large code
    /// with many call sites.
    fn outlined<K: SimdOp>(self, kernel: K) -> K::Output;

    /// Broadcasts a value to all lanes.
    fn splat(self, value: f32) -> Self::V;
    /// Loads 16 elements.
    ///
    /// # Safety
    /// `from` is valid for reading 16 elements.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Loads 16 pairs of bfloat16 elements: returns the first of each pair, and the second of each.
    ///
    /// # Safety
    /// `from` is valid for reading 32 elements.
    unsafe fn load_bf16_pairs(self, from: *const u16) -> (Self::V, Self::V);
    /// Loads 16 IEEE half elements.
    ///
    /// # Safety
    /// `from` is valid for reading 16 elements.
    unsafe fn load_f16(self, from: *const u16) -> Self::V;
    /// Stores 16 elements.
    ///
    /// # Safety
    /// `to` is valid for writing 16 elements.
    unsafe fn store(self, to: *mut f32, value: Self::V);
    /// Rounds to bfloat16, ties to even; NaN stays NaN.
    #[inline(always)]
    fn round_bf16(self, value: Self::V) -> Self::V {
        let lanes = self.lanes(value).map(|value| half::bf16::from_f32(value).to_f32());
        // SAFETY: the array has 16 elements.
        unsafe { self.load(lanes.as_ptr()) }
    }
    /// Stores 16 elements rounded to bfloat16, ties to even; NaN stays NaN.
    ///
    /// # Safety
    /// `to` is valid for writing 16 elements.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, value: Self::V) {
        let rounded = self.lanes(value).map(|value| half::bf16::from_f32(value).to_bits());
        // SAFETY: the caller guarantees 16 elements; no alignment is assumed.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(rounded) };
    }
    /// Stores 32 elements rounded to bfloat16, like two calls of `store_bf16`.
    ///
    /// # Safety
    /// `to` is valid for writing 32 elements.
    #[inline(always)]
    unsafe fn store_bf16_twice(self, to: *mut u16, left: Self::V, right: Self::V) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            self.store_bf16(to, left);
            self.store_bf16(to.add(LANES), right);
        }
    }
    /// Stores 16 pairs of elements rounded to bfloat16, interleaving `first` and `second`.
    ///
    /// # Safety
    /// `to` is valid for writing 32 elements.
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut u16, first: Self::V, second: Self::V) {
        let (first, second) = (self.lanes(first), self.lanes(second));
        let round = |value: f32| half::bf16::from_f32(value).to_bits();
        let pairs: [[u16; 2]; LANES] =
            std::array::from_fn(|lane| [round(first[lane]), round(second[lane])]);
        // SAFETY: the caller guarantees 32 elements; no alignment is assumed.
        unsafe { to.cast::<[[u16; 2]; LANES]>().write_unaligned(pairs) };
    }
    /// Stores 16 integral values in `0..=255` as bytes; NaN becomes an arbitrary byte.
    ///
    /// # Safety
    /// `to` is valid for writing 16 bytes.
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8, value: Self::V) {
        let bytes = self.lanes(value).map(|value| value as u8);
        // SAFETY: the caller guarantees 16 bytes; no alignment is assumed.
        unsafe { to.cast::<[u8; LANES]>().write_unaligned(bytes) };
    }
    /// Prefetches a cache line; the address need not be mapped.
    #[inline(always)]
    fn prefetch(self, _from: *const u8) {}
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// Approximates `1/a` with a relative error below 2^-13 where the result is a normal number.
    #[inline(always)]
    fn reciprocal(self, a: Self::V) -> Self::V {
        self.div(self.splat(1.0), a)
    }
    /// `a * b + c`, rounded once
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`, so `b` if either is NaN
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`, so `b` if either is NaN
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { x } else { y }`, so `y` if either `a` or `b` is NaN
    fn select_lt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Rounds to the nearest integer, ties to even
    fn round(self, a: Self::V) -> Self::V;
    /// `a * 2^n` for integral `n` in `-126..=127`
    fn scale(self, a: Self::V, n: Self::V) -> Self::V;

    /// Transposes, bit for bit: lane `j` of vector `i` becomes lane `i` of vector `j`.
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut columns = [[0.0; LANES]; LANES];
        for (index, row) in rows.into_iter().enumerate() {
            for (column, number) in columns.iter_mut().zip(self.lanes(row)) {
                column[index] = number;
            }
        }
        let mut out = rows;
        for (out, column) in out.iter_mut().zip(&columns) {
            *out = self.load_part(column);
        }
        out
    }

    /// Loads the first elements of a slice, at most 16; the other lanes are zero.
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> Self::V {
        if from.len() >= LANES {
            // SAFETY: the slice has 16 elements.
            return unsafe { self.load(from.as_ptr()) };
        }
        let mut lanes = [0.0; LANES];
        let count = from.len().min(LANES);
        lanes[..count].copy_from_slice(&from[..count]);
        // SAFETY: the array has 16 elements.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Stores the first lanes, up to the slice's length or 16.
    #[inline(always)]
    fn store_part(self, to: &mut [f32], value: Self::V) {
        if to.len() >= LANES {
            // SAFETY: the slice has room for 16 elements.
            return unsafe { self.store(to.as_mut_ptr(), value) };
        }
        let lanes = self.lanes(value);
        let count = to.len().min(LANES);
        to[..count].copy_from_slice(&lanes[..count]);
    }

    /// The lanes as an array.
    #[inline(always)]
    fn lanes(self, value: Self::V) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: the array has room for 16 elements.
        unsafe { self.store(lanes.as_mut_ptr(), value) };
        lanes
    }

    /// Sums the lanes by halving, in the same order on every instruction set.
    #[inline(always)]
    fn sum(self, value: Self::V) -> f32 {
        let mut lanes = self.lanes(value);
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        lanes[0]
    }

    /// The largest lane; NaN if any lane is NaN.
    #[inline(always)]
    fn largest(self, value: Self::V) -> f32 {
        let mut lanes = self.lanes(value);
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                let (a, b) = (lanes[lane], lanes[lane + half]);
                lanes[lane] = if a > b || a.is_nan() { a } else { b };
            }
            half /= 2;
        }
        lanes[0]
    }
}
