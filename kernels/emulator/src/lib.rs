//! Runs Proxima's CUDA kernels on the CPU, from the same sources that nvcc compiles, so that their
//! tests need no GPU.
//!
//! The threads of a block are fibers; warp-wide operations, tensor cores included, are computed as
//! PTX documents them. Shared memory starts as NaN, asynchronous copies arrive only when they are
//! waited for, and a seed determines the order of warps and lanes, so that missing synchronisation
//! shows in the results.
//! Must not know: any one kernel, candle.

mod buffer;

use std::ffi::{CStr, CString, c_char, c_void};
use std::fmt;

pub use buffer::{Block, Buffer, Element, Span};

/// How a kernel is launched.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    /// Number of blocks in each dimension.
    pub grid: [u32; 3],
    /// Threads per block; whole warps.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared: usize,
    /// Determines the order in which warps and lanes run.
    pub seed: u64,
}

/// A kernel argument.
#[derive(Debug)]
pub enum Arg {
    /// An `int`.
    Int(i32),
    /// A `long long`.
    Long(i64),
    /// A `float`.
    Float(f32),
    /// A buffer that the kernel reads or writes, or a null pointer: see [`read()`], [`write()`] and
    /// [`null()`].
    Pointer {
        /// `&` for reading, `*` for writing, and the element's letter; a null pointer has none.
        kind: Option<(u8, u8)>,
        /// The first element.
        address: *mut c_void,
    },
}

/// A buffer as an argument that the kernel reads.
pub fn read<T: Element>(buffer: &Buffer<T>) -> Arg {
    Arg::Pointer { kind: Some((b'&', T::LETTER)), address: buffer.start().cast() }
}

/// A buffer as an argument that the kernel writes.
pub fn write<T: Element>(buffer: &mut Buffer<T>) -> Arg {
    Arg::Pointer { kind: Some((b'*', T::LETTER)), address: buffer.start().cast() }
}

/// A null pointer of any type.
pub fn null() -> Arg {
    Arg::Pointer { kind: None, address: std::ptr::null_mut() }
}

/// Why a launch failed: wrong argument types, or a bug in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

/// The layout of the C++ machine's `Launch`.
#[repr(C)]
struct NativeLaunch {
    grid: [u32; 3],
    block: u32,
    shared: usize,
    seed: u64,
}

unsafe extern "C" {
    fn proxima_emulator_signature(name: *const c_char, to: *mut c_char) -> bool;
    fn proxima_emulator_run(
        name: *const c_char,
        launch: *const NativeLaunch,
        arguments: *mut *mut c_void,
        message: *mut c_char,
        message_bytes: usize,
    ) -> bool;
}

/// Runs a kernel by name.
///
/// # Errors
/// No such kernel, arguments that do not match its parameters, or a bug detected in the kernel.
///
/// # Safety
/// Buffers are as long as the kernel assumes; ids, positions and spans in them are in bounds;
/// nothing else reads or writes what the kernel writes meanwhile.
pub unsafe fn emulate(name: &str, launch: Launch, args: &[Arg]) -> Result<(), Fault> {
    let c_name = CString::new(name).map_err(|_| Fault("a name with a zero byte".to_owned()))?;
    check(name, &c_name, args)?;
    let mut arguments: Vec<*mut c_void> = args.iter().map(Arg::pointer).collect();
    let Launch { grid, block, shared, seed } = launch;
    let launch = NativeLaunch { grid, block, shared, seed };
    let mut message = [0 as c_char; 256];
    // SAFETY: `check` found that the arguments have the types of the kernel's parameters, and they
    // live in `args`; the caller vouches for what they point to. The message is cut to its length
    // and ends with a zero.
    let worked = unsafe {
        proxima_emulator_run(
            c_name.as_ptr(),
            &launch,
            arguments.as_mut_ptr(),
            message.as_mut_ptr(),
            message.len(),
        )
    };
    if worked {
        return Ok(());
    }
    // SAFETY: the machine wrote a zero-terminated message.
    let message = unsafe { CStr::from_ptr(message.as_ptr()) };
    Err(Fault(format!("{name}: {}", message.to_string_lossy())))
}

/// Checks that the arguments have the types of the kernel's parameters.
fn check(name: &str, c_name: &CStr, args: &[Arg]) -> Result<(), Fault> {
    let mut signature = [0 as c_char; 32];
    // SAFETY: a signature has at most 31 letters and a zero, so it fits.
    if !unsafe { proxima_emulator_signature(c_name.as_ptr(), signature.as_mut_ptr()) } {
        return Err(Fault(format!("there is no kernel {name}")));
    }
    let mut letters =
        signature.iter().map(|letter| *letter as u8).take_while(|letter| *letter != 0);
    for (index, arg) in args.iter().enumerate() {
        let letter = letters.next();
        let fits = match (arg, letter) {
            (Arg::Int(_), Some(b'i')) | (Arg::Long(_), Some(b'l')) => true,
            (Arg::Float(_), Some(b'f')) => true,
            (Arg::Pointer { kind, .. }, Some(access @ (b'&' | b'*'))) => {
                let element = letters.next().unwrap_or(0);
                kind.is_none_or(|kind| kind == (access, element))
            }
            _ => false,
        };
        if !fits {
            return Err(Fault(format!("{name}: argument {index}, {arg:?}, has the wrong type")));
        }
    }
    match letters.next() {
        None => Ok(()),
        Some(_) => Err(Fault(format!("{name}: takes more than {} arguments", args.len()))),
    }
}

impl Arg {
    /// The address of the argument's value.
    fn pointer(&self) -> *mut c_void {
        match self {
            Self::Int(number) => (&raw const *number).cast_mut().cast(),
            Self::Long(number) => (&raw const *number).cast_mut().cast(),
            Self::Float(number) => (&raw const *number).cast_mut().cast(),
            Self::Pointer { address, .. } => (&raw const *address).cast_mut().cast(),
        }
    }
}
