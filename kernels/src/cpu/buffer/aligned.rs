//! Memory that begins at a cache line, as lines of packed numbers do, so that loading a line takes
//! one; and memory used again: what a batch gives back the next one takes, as long as that is no
//! more than a bound, so that the system need not map and clear it again.
//!
//! Must not know: what is kept in it.

use parking_lot::Mutex;

/// Bytes of a cache line.
pub const LINE: usize = 64;

/// Memory that waits for its next use.
static SPARE: Mutex<Spare> = Mutex::new(Spare { all: Vec::new(), bytes: 0 });
/// Most pieces that wait: more than are in use at a time.
const SPARE_MAX: usize = 32;
/// Most bytes that wait; beyond it memory goes back to the system.
const SPARE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Pieces of memory, the one that has waited longest first.
struct Spare {
    all: Vec<Vec<u8>>,
    /// Of all together.
    bytes: usize,
}

impl Spare {
    /// The smallest piece that has room for as many bytes.
    fn take(&mut self, needed: usize) -> Option<Vec<u8>> {
        let fitting = (0..self.all.len()).filter(|at| self.all[*at].len() >= needed);
        let taken = self.all.remove(fitting.min_by_key(|at| self.all[*at].len())?);
        self.bytes -= taken.len();
        Some(taken)
    }

    /// Keeps a piece; gives what has waited longest and is too much with it.
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

/// Bytes from the start of a cache line.
pub struct AlignedBytes {
    /// Up to a line longer, to begin at one.
    memory: Vec<u8>,
    /// Where the first line begins.
    first: usize,
    length: usize,
    reused: bool,
}

impl AlignedBytes {
    /// `length` zeros, kept for long.
    pub fn zeros(length: usize) -> Self {
        Self::within(zeros(length + LINE - 1), length, false)
    }

    /// `length` bytes of any value, whose memory is used again when they are dropped.
    pub fn reused(length: usize) -> Self {
        let needed = length + LINE - 1;
        let spare = SPARE.lock().take(needed);
        Self::within(spare.unwrap_or_else(|| zeros(needed)), length, true)
    }

    /// The first lines of some memory, which never moves.
    fn within(memory: Vec<u8>, length: usize, reused: bool) -> Self {
        let start = memory.as_ptr().addr();
        let first = start.next_multiple_of(LINE) - start;
        Self { memory, first, length, reused }
    }
}

/// The system's own zeros where they are many, which cost nothing until they are used.
fn zeros(length: usize) -> Vec<u8> {
    vec![0; length]
}

/// The first `length` bytes of some memory, which is made larger where it has less: for scratch
/// memory that a thread keeps. What they hold is of no use.
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
            // Giving memory back to the system takes long: nobody waits for it.
            drop(too_much);
        }
    }
}

impl std::ops::Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.first..self.first + self.length]
    }
}

impl std::ops::DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.first..self.first + self.length]
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
pub fn cast<T: Plain>(bytes: &[u8]) -> &[T] {
    assert!(bytes.as_ptr().cast::<T>().is_aligned(), "numbers are aligned");
    // SAFETY: aligned, within the bytes, and any bits are a valid `T`.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / size_of::<T>()) }
}

/// Bytes as numbers to write.
///
/// # Panics
/// If they are not aligned for them.
#[inline(always)]
pub fn cast_mut<T: Plain>(bytes: &mut [u8]) -> &mut [T] {
    assert!(bytes.as_ptr().cast::<T>().is_aligned(), "numbers are aligned");
    let count = bytes.len() / size_of::<T>();
    // SAFETY: aligned, within the bytes, and any bits are a valid `T`.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) }
}

#[cfg(test)]
mod tests;
