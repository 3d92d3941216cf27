//! One output written by several threads, each its own part.

use std::marker::PhantomData;

/// A slice that threads write disjoint parts of.
#[derive(Debug)]
pub struct SharedMut<'a> {
    start: *mut f32,
    length: usize,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is used only through `part`, whose callers keep to disjoint parts.
unsafe impl Sync for SharedMut<'_> {}
// SAFETY: as above; the slice itself may be sent.
unsafe impl Send for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    /// Shares a slice.
    pub fn new(slice: &'a mut [f32]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// `count` numbers from `first` on.
    ///
    /// # Safety
    /// No other part handed out at the same time, by any thread, overlaps this one.
    ///
    /// # Panics
    /// If the part reaches beyond the slice.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's duty, stated above")]
    #[inline(always)]
    pub unsafe fn part(&self, first: usize, count: usize) -> &mut [f32] {
        assert!(
            first <= self.length && count <= self.length - first,
            "a part lies within the slice"
        );
        // SAFETY: within the slice, checked above; disjoint from others by the caller's word.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), count) }
    }
}
