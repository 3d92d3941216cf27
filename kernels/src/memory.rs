//! The global allocator. When the system is out of memory, Rust aborts; while a model is being
//! loaded, which is when large allocations happen, the process exits with a message instead.
//!
//! Must not know: what is loaded.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Exit code of a failed command.
const EXIT_FAILURE: libc::c_int = 1;

/// Loads in progress.
static LOADS: AtomicUsize = AtomicUsize::new(0);

/// The system allocator, extended by [`Loading`].
#[derive(Debug, Clone, Copy)]
pub struct Allocator;

/// While one of these is alive, a failed allocation ends the process with a message (exit code 1).
#[derive(Debug)]
pub struct Loading(());

impl Loading {
    /// Begins a load.
    #[must_use]
    pub fn begin() -> Self {
        LOADS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        LOADS.fetch_sub(1, Ordering::Relaxed);
    }
}

// SAFETY: every call forwards to the system allocator, and none unwinds.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller upholds `GlobalAlloc`'s contract, which is also that of `System`.
        checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        checked(unsafe { System.realloc(memory, layout, size) }, size)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[inline]
fn checked(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() && LOADS.load(Ordering::Relaxed) > 0 {
        exhausted(bytes);
    }
    memory
}

/// Ends the process. Does not allocate, take a lock or block on a full stderr pipe.
#[cold]
fn exhausted(bytes: usize) -> ! {
    let mut text = [0u8; 256];
    let mut rest = &mut text[..];
    // A message that does not fit is truncated.
    let _ = writeln!(
        rest,
        "proxima: out of memory while a model is loaded: {bytes} more bytes are not available; \
         raise the limit of the process or container, or serve fewer or smaller models"
    );
    let left = rest.len();
    let length = text.len() - left;
    #[cfg(unix)]
    {
        let events = libc::POLLOUT;
        let mut ready = libc::pollfd { fd: libc::STDERR_FILENO, events, revents: 0 };
        // SAFETY: `poll` gets one valid `pollfd`, and `write` reads `length` bytes, at most those
        // of `text`.
        unsafe {
            if libc::poll(&mut ready, 1, 0) == 1 && ready.revents & libc::POLLOUT != 0 {
                libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), length);
            }
        }
    }
    #[cfg(not(unix))]
    let _ = length;
    // SAFETY: `_exit` takes an integer and never returns; no destructor runs, as in an abort.
    unsafe { libc::_exit(EXIT_FAILURE) }
}
