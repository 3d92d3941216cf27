//! The operations on vectors of 16 float32 numbers that every instruction set offers.
//!
//! Must not know: any instruction set.

/// Numbers in a vector, on every instruction set.
pub const LANES: usize = 16;

/// A computation that runs on any instruction set.
///
/// Implementations mark `run` and all it calls `#[inline(always)]`: only code inlined into the
/// instruction set's entry function is compiled with its instructions.
pub trait SimdOp {
    /// What it computes.
    type Output;
    /// Computes it with the instructions of `simd`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Vectors of 16 numbers. All functions are `#[inline(always)]`, so that kernels inlined into an
/// instruction set's entry function use its instructions; a value of the type is the proof that
/// the CPU has them, which is why the arithmetic is safe to call.
pub trait Simd: Copy + Send + Sync + 'static {
    /// 16 float32 numbers.
    type V: Copy;
    /// Rows of the largest product tile that fits the registers beside 32 columns.
    const TILE_ROWS: usize;

    /// Runs a kernel as a function of its own, compiled once for this instruction set, for what is
    /// large and called from many places.
    fn outlined<K: SimdOp>(self, kernel: K) -> K::Output;

    /// All lanes the same.
    fn splat(self, value: f32) -> Self::V;
    /// Loads 16 numbers.
    ///
    /// # Safety
    /// `from` is valid for reading 16 numbers.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// Loads 16 pairs of bfloat16 numbers: the first of each, and the second of each.
    ///
    /// # Safety
    /// `from` is valid for reading 32 numbers.
    unsafe fn load_bf16_pairs(self, from: *const u16) -> (Self::V, Self::V);
    /// Loads 16 IEEE half numbers.
    ///
    /// # Safety
    /// `from` is valid for reading 16 numbers.
    unsafe fn load_f16(self, from: *const u16) -> Self::V;
    /// Stores 16 numbers.
    ///
    /// # Safety
    /// `to` is valid for writing 16 numbers.
    unsafe fn store(self, to: *mut f32, value: Self::V);
    /// Rounded to bfloat16, ties to even; what is not a number stays so.
    #[inline(always)]
    fn round_bf16(self, value: Self::V) -> Self::V {
        let lanes = self.lanes(value).map(|value| half::bf16::from_f32(value).to_f32());
        // SAFETY: the array has 16 numbers.
        unsafe { self.load(lanes.as_ptr()) }
    }
    /// Stores 16 numbers rounded to bfloat16, ties to even; what is not a number stays so.
    ///
    /// # Safety
    /// `to` is valid for writing 16 numbers.
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, value: Self::V) {
        let rounded = self.lanes(value).map(|value| half::bf16::from_f32(value).to_bits());
        // SAFETY: the caller vouches for 16 numbers; no alignment is assumed.
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(rounded) };
    }
    /// Stores 32 numbers rounded to bfloat16, as two times `store_bf16`.
    ///
    /// # Safety
    /// `to` is valid for writing 32 numbers.
    #[inline(always)]
    unsafe fn store_bf16_twice(self, to: *mut u16, left: Self::V, right: Self::V) {
        // SAFETY: as the caller vouches.
        unsafe {
            self.store_bf16(to, left);
            self.store_bf16(to.add(LANES), right);
        }
    }
    /// Stores 16 pairs of numbers rounded to bfloat16: `first` and `second` side by side.
    ///
    /// # Safety
    /// `to` is valid for writing 32 numbers.
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut u16, first: Self::V, second: Self::V) {
        let (first, second) = (self.lanes(first), self.lanes(second));
        let round = |value: f32| half::bf16::from_f32(value).to_bits();
        let pairs: [[u16; 2]; LANES] =
            std::array::from_fn(|lane| [round(first[lane]), round(second[lane])]);
        // SAFETY: the caller vouches for 32 numbers; no alignment is assumed.
        unsafe { to.cast::<[[u16; 2]; LANES]>().write_unaligned(pairs) };
    }
    /// Stores 16 integral numbers of 0 to 255 as bytes; what is not a number becomes any.
    ///
    /// # Safety
    /// `to` is valid for writing 16 bytes.
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8, value: Self::V) {
        let bytes = self.lanes(value).map(|value| value as u8);
        // SAFETY: the caller vouches for 16 bytes; no alignment is assumed.
        unsafe { to.cast::<[u8; LANES]>().write_unaligned(bytes) };
    }
    /// Asks for a cache line that is going to be read; any address will do.
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
    /// About `1/a`, within 2^-13 of it relative to it where it is a normal number.
    #[inline(always)]
    fn reciprocal(self, a: Self::V) -> Self::V {
        self.div(self.splat(1.0), a)
    }
    /// `a * b + c`, rounded once
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`, so `b` where either is not a number
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`, so `b` where either is not a number
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { x } else { y }`, so `y` where either is not a number
    fn select_lt(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// To the nearest integer, ties to even
    fn round(self, a: Self::V) -> Self::V;
    /// `a * 2^n` for integral `n` in `-126..=127`
    fn scale(self, a: Self::V, n: Self::V) -> Self::V;

    /// Lane `j` of vector `i` becomes lane `i` of vector `j`, bit for bit.
    #[inline(always)]
    fn transpose(self, rows: [Self::V; LANES]) -> [Self::V; LANES] {
        let mut columns = [[0.0; LANES]; LANES];
        for (place, row) in rows.into_iter().enumerate() {
            for (column, number) in columns.iter_mut().zip(self.lanes(row)) {
                column[place] = number;
            }
        }
        let mut out = rows;
        for (out, column) in out.iter_mut().zip(&columns) {
            *out = self.load_part(column);
        }
        out
    }

    /// The first numbers of a slice, at most 16; the other lanes are zero.
    #[inline(always)]
    fn load_part(self, from: &[f32]) -> Self::V {
        if from.len() >= LANES {
            // SAFETY: the slice has 16 numbers.
            return unsafe { self.load(from.as_ptr()) };
        }
        let mut lanes = [0.0; LANES];
        let count = from.len().min(LANES);
        lanes[..count].copy_from_slice(&from[..count]);
        // SAFETY: the array has 16 numbers.
        unsafe { self.load(lanes.as_ptr()) }
    }

    /// Stores as many lanes as the slice has room for, at most 16.
    #[inline(always)]
    fn store_part(self, to: &mut [f32], value: Self::V) {
        if to.len() >= LANES {
            // SAFETY: the slice has room for 16 numbers.
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
        // SAFETY: the array has room for 16 numbers.
        unsafe { self.store(lanes.as_mut_ptr(), value) };
        lanes
    }

    /// The sum of the lanes, halves first: the same order on every instruction set.
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

    /// The largest lane; not a number if some lane is not.
    #[inline(always)]
    fn largest(self, value: Self::V) -> f32 {
        let keep = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
        let mut lanes = self.lanes(value);
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] = keep(lanes[lane], lanes[lane + half]);
            }
            half /= 2;
        }
        lanes[0]
    }
}
