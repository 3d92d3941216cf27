//! Memory aligned to cache lines, so that no vector load crosses one, and used again: what a batch
//! gives back the next one takes, so that nothing large is allocated while requests are served.
//!
//! Must not know: what is kept in it.

use parking_lot::Mutex;

/// Buffers that wait for their next use.
static SPARE: Mutex<Vec<Vec<Line>>> = Mutex::new(Vec::new());
/// Most buffers that wait.
const SPARE_MAX: usize = 16;
/// Larger buffers, of unusually long texts, go back to the system.
const SPARE_LINES_MAX: usize = 32 * 1024 * 1024 / size_of::<Line>();

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes from the start of a cache line.
pub struct AlignedBytes {
    lines: Vec<Line>,
    length: usize,
    reused: bool,
}

impl AlignedBytes {
    /// `length` zeros, kept for long.
    pub fn zeros(length: usize) -> Self {
        let lines = vec![Line([0; 64]); length.div_ceil(size_of::<Line>())];
        Self { lines, length, reused: false }
    }

    /// `length` bytes of any value, whose memory is used again when they are dropped.
    pub fn reused(length: usize) -> Self {
        let needed = length.div_ceil(size_of::<Line>());
        let mut spare = SPARE.lock();
        let fitting = (0..spare.len()).filter(|at| spare[*at].len() >= needed);
        let best = fitting.min_by_key(|at| spare[*at].len());
        let taken = best.map(|at| spare.swap_remove(at));
        if taken.is_none() && spare.len() == SPARE_MAX {
            // The smallest, which is of least use, makes room.
            let smallest = (0..spare.len()).min_by_key(|at| spare[*at].len()).unwrap_or(0);
            spare.swap_remove(smallest);
        }
        drop(spare);
        let lines = taken.unwrap_or_else(|| vec![Line([0; 64]); needed]);
        Self { lines, length, reused: true }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if !self.reused || self.lines.len() > SPARE_LINES_MAX {
            return;
        }
        let mut spare = SPARE.lock();
        if spare.len() == SPARE_MAX {
            // The smallest goes: it is the cheapest to get again.
            let smallest = (0..spare.len()).min_by_key(|at| spare[*at].len()).unwrap_or(0);
            spare.swap_remove(smallest);
        }
        spare.push(std::mem::take(&mut self.lines));
    }
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the lines hold at least `length` bytes, all initialised.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl std::ops::DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the lines hold at least `length` bytes, all initialised.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({})", self.length)
    }
}

/// Plain numbers that any bits make a valid value of, of at most 64 bytes' alignment.
///
/// # Safety
/// Every bit pattern is valid, and the alignment divides 64.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}
// SAFETY: any bits are a number.
unsafe impl Plain for f32 {}
// SAFETY: any bits are a number.
unsafe impl Plain for i32 {}
// SAFETY: any bits are a number.
unsafe impl Plain for u32 {}
// SAFETY: any bits are a number.
unsafe impl Plain for u16 {}
// SAFETY: any bits are a number.
unsafe impl Plain for i8 {}
// SAFETY: any bits are a number.
unsafe impl Plain for u8 {}

/// Bytes as numbers.
///
/// # Panics
/// If they are not aligned for them.
#[inline(always)]
pub fn numbers<T: Plain>(bytes: &[u8]) -> &[T] {
    assert!(bytes.as_ptr().cast::<T>().is_aligned(), "numbers are aligned");
    // SAFETY: aligned, within the bytes, and any bits are a valid `T`.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
}

/// Bytes as numbers to write.
///
/// # Panics
/// If they are not aligned for them.
#[inline(always)]
pub fn numbers_mut<T: Plain>(bytes: &mut [u8]) -> &mut [T] {
    assert!(bytes.as_ptr().cast::<T>().is_aligned(), "numbers are aligned");
    let count = bytes.len() / size_of::<T>();
    // SAFETY: aligned, within the bytes, and any bits are a valid `T`.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) }
}
