//! One output slice written by several threads in disjoint parts.
//!
//! Must not know: what the parts are.

use std::marker::PhantomData;

/// A slice that threads write disjoint parts of.
#[derive(Debug)]
pub struct SharedMut<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: the pointer is used only through `part`, whose callers guarantee disjoint parts.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}
// SAFETY: as above; the slice itself is `Send`.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    /// Shares a slice.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// `count` elements from `first` on.
    ///
    /// # Safety
    /// No other part in use at the same time, on any thread, overlaps this one.
    ///
    /// # Panics
    /// If the part extends past the slice.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's duty, stated above")]
    #[inline(always)]
    pub unsafe fn part(&self, first: usize, count: usize) -> &mut [T] {
        assert!(
            first <= self.length && count <= self.length - first,
            "a part lies within the slice"
        );
        // SAFETY: within the slice, checked above; disjoint from others, guaranteed by the caller.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), count) }
    }
}
