//! Buffers aligned to cache lines, so that a packed line is loaded from a single cache line; and a
//! bounded pool of recycled buffers: the next batch reuses what the last one released, and the
//! system need not map and zero it again.
//!
//! Must not know: what the buffers hold.

use parking_lot::Mutex;

/// Bytes of a cache line.
pub const LINE: usize = 64;

/// The pool of buffers that await reuse.
static SPARE: Mutex<Spare> = Mutex::new(Spare { all: Vec::new(), bytes: 0 });
/// Maximum number of buffers in the pool: more than are in use at once.
const SPARE_MAX: usize = 32;
/// Maximum bytes in the pool; the excess returns to the system.
const SPARE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Pooled buffers, oldest first.
struct Spare {
    all: Vec<Vec<u8>>,
    /// Total size.
    bytes: usize,
}

impl Spare {
    /// Takes the smallest buffer of at least `needed` bytes.
    fn take(&mut self, needed: usize) -> Option<Vec<u8>> {
        let fitting = (0..self.all.len()).filter(|at| self.all[*at].len() >= needed);
        let taken = self.all.remove(fitting.min_by_key(|at| self.all[*at].len())?);
        self.bytes -= taken.len();
        Some(taken)
    }

    /// Adds a buffer and returns what no longer fits: the oldest buffers, or the new one if it
    /// alone exceeds the limit.
    fn give(&mut self, memory: Vec<u8>) -> Vec<Vec<u8>> {
        if memory.len() > SPARE_BYTES_MAX {
            return vec![memory];
        }
        self.bytes += memory.len();
        self.all.push(memory);
        let mut count = 0;
        while self.all.len() - count > SPARE_MAX || self.bytes > SPARE_BYTES_MAX {
            self.bytes -= self.all[count].len();
            count += 1;
        }
        self.all.drain(..count).collect()
    }
}

/// A byte buffer that starts at a cache line.
pub struct AlignedBytes {
    /// Longer than `length` by at least `LINE - 1` bytes, to fit an aligned start.
    memory: Vec<u8>,
    /// Offset of the first cache line.
    first: usize,
    length: usize,
    reused: bool,
}

impl AlignedBytes {
    /// `length` zeros, for long-lived data; never pooled.
    pub fn zeros(length: usize) -> Self {
        Self::within(zeros(length + LINE - 1), length, false)
    }

    /// A recycled buffer with stale contents; it returns to the pool on drop.
    pub fn reused(length: usize) -> Self {
        let needed = length + LINE - 1;
        let spare = SPARE.lock().take(needed);
        Self::within(spare.unwrap_or_else(|| zeros(needed)), length, true)
    }

    /// The part of `memory` from its first cache line on. Its heap allocation never moves.
    fn within(memory: Vec<u8>, length: usize, reused: bool) -> Self {
        let start = memory.as_ptr().addr();
        let first = start.next_multiple_of(LINE) - start;
        Self { memory, first, length, reused }
    }
}

/// Large requests get untouched zero pages from the system, which cost nothing until used.
fn zeros(length: usize) -> Vec<u8> {
    vec![0; length]
}

/// The first `length` bytes of a thread's scratch buffer, which is reallocated if it is too small.
/// The contents are unspecified.
pub(in crate::cpu) fn grown(memory: &mut Option<AlignedBytes>, length: usize) -> &mut [u8] {
    if memory.as_ref().is_none_or(|memory| memory.len() < length) {
        *memory = Some(AlignedBytes::zeros(length));
    }
    memory.as_deref_mut().map_or(&mut [], |memory| &mut memory[..length])
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        if self.reused {
            let too_much = SPARE.lock().give(std::mem::take(&mut self.memory));
            // Freed outside the lock: returning memory to the system is slow.
            drop(too_much);
        }
    }
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.memory[self.first..self.first + self.length]
    }
}

impl std::ops::DerefMut for AlignedBytes {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.first..self.first + self.length]
    }
}

impl std::fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedBytes({})", self.length)
    }
}

/// Plain data for which any bit pattern is valid, aligned to at most 64 bytes.
///
/// # Safety
/// Every bit pattern is valid, there is no padding, and the alignment divides 64.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}
// SAFETY: a primitive type: every bit pattern is valid.
unsafe impl Plain for f32 {}
// SAFETY: a primitive type: every bit pattern is valid.
unsafe impl Plain for i32 {}
// SAFETY: a primitive type: every bit pattern is valid.
unsafe impl Plain for u32 {}
// SAFETY: a primitive type: every bit pattern is valid.
unsafe impl Plain for u16 {}
// SAFETY: a primitive type: every bit pattern is valid.
unsafe impl Plain for i8 {}
// SAFETY: a primitive type: every bit pattern is valid.
unsafe impl Plain for u8 {}

/// Reinterprets bytes as elements; an incomplete last one is left out.
///
/// # Panics
/// If the bytes are not aligned for `T`.
#[inline(always)]
pub fn cast<T: Plain>(bytes: &[u8]) -> &[T] {
    assert!(bytes.as_ptr().cast::<T>().is_aligned(), "elements are aligned");
    // SAFETY: aligned, within the bytes, and every bit pattern is a valid `T`.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
}

/// Like [`cast`], but mutable.
///
/// # Panics
/// If the bytes are not aligned for `T`.
#[inline(always)]
pub fn cast_mut<T: Plain>(bytes: &mut [u8]) -> &mut [T] {
    assert!(bytes.as_ptr().cast::<T>().is_aligned(), "elements are aligned");
    let count = bytes.len() / size_of::<T>();
    // SAFETY: aligned, within the bytes, and every bit pattern is a valid `T`.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) }
}

#[cfg(test)]
mod tests;
