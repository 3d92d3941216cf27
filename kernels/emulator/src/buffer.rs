//! Memory as a device provides it: aligned, and here surrounded by NaN that must stay unchanged.
//!
//! Must not know: kernels, launches.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use half::{bf16, f16};

/// Alignment of device memory.
const ALIGNMENT: usize = 256;
/// Bytes before and after a buffer, each 0xff: NaN in every type.
const MARGIN: usize = 4096;

/// Consecutive query rows, as given to attention: the kernels' `Block`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// First row in the batch.
    pub row: i32,
    /// Number of rows.
    pub rows: i32,
    /// Position of the first row in its sequence.
    pub position: i32,
    /// Index of its sequence's first span.
    pub first_span: i32,
    /// Number of spans.
    pub spans: i32,
    /// Number of keys in all of them.
    pub length: i32,
}

/// Keys and values of some rows of a sequence: the kernels' `Span`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Address of the first row's key of head 0; for rows of the batch itself, the index of the
    /// first.
    pub address: u64,
    /// Elements from row to row; 0 for rows of the batch itself.
    pub stride: i32,
    /// Number of rows.
    pub rows: i32,
}

mod sealed {
    /// Plain data, valid for any bits.
    pub trait Sealed: Copy + 'static {}
}

/// A type that kernels take by address.
pub trait Element: sealed::Sealed {
    /// Its letter in kernel signatures.
    const LETTER: u8;
}

macro_rules! elements {
    ($($type:ty: $letter:literal),*) => {
        $(
            impl sealed::Sealed for $type {}
            impl Element for $type {
                const LETTER: u8 = $letter;
            }
        )*
    };
}

elements!(f32: b'f', bf16: b'b', f16: b'h', u32: b'u', Block: b'B', Span: b'S');

/// Emulated device memory.
pub struct Buffer<T: Element> {
    start: NonNull<T>,
    len: usize,
    owned: PhantomData<T>,
}

impl<T: Element> Buffer<T> {
    /// A copy of elements.
    pub fn of(elements: &[T]) -> Self {
        let layout = Self::layout(elements.len());
        // SAFETY: the layout is not empty, as it includes the margins.
        let memory = unsafe { alloc(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        // SAFETY: all these bytes are in the allocation.
        unsafe { memory.write_bytes(0xff, layout.size()) };
        // SAFETY: the margin is within the allocation, and preserves the alignment.
        let start = unsafe { memory.add(MARGIN).cast::<T>() };
        // SAFETY: there is room for the elements after the margin, and the memory is newly
        // allocated.
        unsafe { start.copy_from_nonoverlapping(NonNull::from(elements).cast(), elements.len()) };
        Self { start, len: elements.len(), owned: PhantomData }
    }

    fn layout(len: usize) -> Layout {
        let bytes = 2 * MARGIN + (len * size_of::<T>()).next_multiple_of(ALIGNMENT);
        Layout::from_size_align(bytes, ALIGNMENT).expect("a buffer that memory can hold")
    }

    /// The elements.
    ///
    /// # Panics
    /// If something was written before or after them.
    pub fn elements(&self) -> Vec<T> {
        assert!(self.margins_are_whole(), "a kernel wrote beyond a buffer");
        // SAFETY: `len` elements are initialised, and any bits are a valid element.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }.to_vec()
    }

    fn margins_are_whole(&self) -> bool {
        let bytes = Self::layout(self.len).size();
        // SAFETY: the margin is before the elements, in the same allocation.
        let memory = unsafe { self.start.cast::<u8>().sub(MARGIN) };
        // SAFETY: all bytes of the allocation were initialised.
        let memory = unsafe { std::slice::from_raw_parts(memory.as_ptr(), bytes) };
        let end = MARGIN + self.len * size_of::<T>();
        memory[..MARGIN].iter().chain(&memory[end..]).all(|byte| *byte == 0xff)
    }

    /// The address of an element, for a [`Span`].
    ///
    /// # Panics
    /// If there is no such element.
    pub fn address_of(&self, index: usize) -> u64 {
        assert!(index < self.len, "element {index} of {}", self.len);
        (self.start.as_ptr().addr() + index * size_of::<T>()) as u64
    }

    pub(crate) fn start(&self) -> *mut T {
        // Spans refer to the memory by its address alone.
        self.start.as_ptr().expose_provenance();
        self.start.as_ptr()
    }
}

impl<T: Element> fmt::Debug for Buffer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Buffer({} elements)", self.len)
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: the margin is before the elements, in the same allocation.
        let memory = unsafe { self.start.cast::<u8>().sub(MARGIN) };
        // SAFETY: `of` allocated it with this layout.
        unsafe { dealloc(memory.as_ptr(), Self::layout(self.len)) };
    }
}
