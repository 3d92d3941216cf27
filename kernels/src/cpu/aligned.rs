//! Memory aligned to cache lines, so that no vector load crosses one.

use half::{bf16, f16};

use super::simd::Element;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Numbers from the start of a cache line, zero at first.
pub struct AlignedVec<E> {
    lines: Vec<Line>,
    length: usize,
    element: std::marker::PhantomData<E>,
}

/// Plain numbers that any bits make a valid value of.
pub trait Plain: Element {}
impl Plain for f32 {}
impl Plain for bf16 {}
impl Plain for f16 {}

impl<E: Plain> AlignedVec<E> {
    /// `length` zeros.
    pub fn zeros(length: usize) -> Self {
        let lines = (length * size_of::<E>()).div_ceil(size_of::<Line>());
        Self { lines: vec![Line([0; 16]); lines], length, element: std::marker::PhantomData }
    }
}

impl<E: Plain> std::ops::Deref for AlignedVec<E> {
    type Target = [E];
    fn deref(&self) -> &[E] {
        // SAFETY: the lines hold at least `length` elements, aligned to 64, and any bits are a
        // valid `E`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<E: Plain> std::ops::DerefMut for AlignedVec<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: the lines hold at least `length` elements, aligned to 64, and any bits are a
        // valid `E`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

impl<E> std::fmt::Debug for AlignedVec<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AlignedVec({})", self.length)
    }
}
