//! The device that a network computes on.
//!
//! Must not know: models, what is computed.

use std::fmt;
use std::str::FromStr;

use candle_core::{Device, Result};

use crate::{KernelError, cpu, cuda};

/// A device as requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The CPU.
    #[default]
    Cpu,
    /// A GPU if this build supports one and the machine has it, else the CPU.
    Auto,
    /// The NVIDIA GPU with this ordinal.
    Cuda(usize),
    /// The Apple GPU.
    Metal,
}

/// A device ready for use. Dropping it drops everything that this crate caches for the device, so a
/// failed one can be reopened.
#[derive(Debug)]
pub struct OpenDevice {
    /// Where tensors are.
    pub device: Device,
    /// A description: `cpu`, `metal`, or for example `cuda:0 (NVIDIA H200)`.
    pub name: String,
    /// The choice that opens it again; never [`DeviceChoice::Auto`].
    pub choice: DeviceChoice,
}

impl OpenDevice {
    /// Returns memory that no tensor uses to the system instead of keeping it for later tensors.
    /// Errors are ignored: the memory then just stays allocated.
    pub fn release_memory(&self) {
        let _ = cuda::release_memory(&self.device);
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        cuda::launch::forget(&self.device);
        cuda::forget(&self.device);
    }
}

/// How many rows saturate a device: larger batches take longer and gain no throughput.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchRows {
    /// This many.
    Known(usize),
    /// To be measured; at most this many.
    AtMost(usize),
}

impl BatchRows {
    /// The rows for a device. A CPU shares a batch among its threads; with only a few texts per
    /// thread, no text waits long for the others.
    pub fn of(device: &Device) -> Self {
        /// Per CPU thread.
        const ROWS: usize = 1024;
        /// On a GPU: GEMMs on a large one need some ten thousand rows for full speed.
        const ROWS_GPU: usize = 32_768;
        if device.is_cpu() {
            Self::Known(ROWS * cpu::thread_pool::threads())
        } else {
            Self::AtMost(ROWS_GPU)
        }
    }

    /// The largest value possible.
    pub fn most(self) -> usize {
        match self {
            Self::Known(rows) | Self::AtMost(rows) => rows,
        }
    }

    /// The value to use before anything is measured.
    pub fn before_measured(self) -> usize {
        match self {
            Self::Known(rows) => rows,
            Self::AtMost(rows) => rows / 2,
        }
    }
}

/// Whether an operation ran out of memory, so that a smaller one may succeed.
pub fn is_out_of_memory(error: &KernelError) -> bool {
    match error {
        KernelError::Io(error) => error.kind() == std::io::ErrorKind::OutOfMemory,
        KernelError::WithBacktrace { inner, .. } | KernelError::Context { inner, .. } => {
            is_out_of_memory(inner)
        }
        other => cuda::is_out_of_memory(other),
    }
}

/// An error's message for users, without the backtrace that it may carry.
pub fn sentence(error: &KernelError) -> String {
    match error {
        KernelError::WithBacktrace { inner, .. } => sentence(inner),
        KernelError::Context { inner, context } => format!("{context}: {}", sentence(inner)),
        KernelError::WithPath { inner, path } => format!("{}: {}", path.display(), sentence(inner)),
        other => other.to_string(),
    }
}

impl DeviceChoice {
    /// Parses one device, or several to use in parallel: `cuda:0,cuda:1`, or `cuda:all` for every
    /// NVIDIA GPU.
    ///
    /// # Errors
    /// A message: an unknown device, a mix of CUDA and other devices, a duplicate, or no GPU.
    pub fn several(text: &str) -> std::result::Result<Vec<Self>, String> {
        if text == "cuda:all" {
            let count = cuda::count().map_err(|error| format!("device {text}: {error}"))?;
            let all: Vec<Self> = (0..count).map(Self::Cuda).collect();
            return if all.is_empty() { Err("there is no CUDA device".into()) } else { Ok(all) };
        }
        let devices = text.split(',').map(|name| name.trim().parse());
        let devices = devices.collect::<std::result::Result<Vec<Self>, _>>()?;
        for (index, device) in devices.iter().enumerate() {
            if devices.len() > 1 && !matches!(device, Self::Cuda(_)) {
                return Err(format!("only CUDA devices can be combined, not {device}"));
            }
            if devices[..index].contains(device) {
                return Err(format!("device {device} is named twice"));
            }
        }
        Ok(devices)
    }

    /// Checks that the device is present, as far as can be told without opening it.
    ///
    /// # Errors
    /// A message, if it is not.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Cuda(ordinal) => cuda::present(ordinal),
            Self::Metal if !candle_core::utils::metal_is_available() => {
                candle_core::bail!("this build has no Metal: build it with --features metal")
            }
            _ => Ok(()),
        }
    }

    /// Whether this may be a GPU whose memory use can be limited.
    pub fn limits_memory(self) -> bool {
        matches!(self, Self::Cuda(_) | Self::Auto)
    }

    /// Opens the device. On an NVIDIA GPU, `memory_fraction` limits this process's tensors to that
    /// fraction of its memory; allocations beyond it fail ([`is_out_of_memory`]).
    ///
    /// # Errors
    /// A message, if the device was requested by name and is missing, or is not supported by this
    /// build. [`Self::Auto`] fails only if there is a GPU and it does not open.
    pub fn open(self, memory_fraction: Option<f64>) -> Result<OpenDevice> {
        match self {
            Self::Cpu => Ok(OpenDevice { device: Device::Cpu, name: "cpu".into(), choice: self }),
            Self::Metal => {
                self.check()?;
                let device = Device::new_metal(0)?;
                Ok(OpenDevice { device, name: "metal".into(), choice: self })
            }
            Self::Cuda(ordinal) => {
                let device = cuda::device(ordinal, memory_fraction)?;
                cuda::check(&device)?;
                let name = format!("cuda:{ordinal} ({})", cuda::properties(&device)?.name);
                Ok(OpenDevice { device, name, choice: self })
            }
            Self::Auto if cuda::count().is_ok_and(|count| count > 0) => {
                Self::Cuda(0).open(memory_fraction)
            }
            Self::Auto if candle_core::utils::metal_is_available() => Self::Metal.open(None),
            Self::Auto => Self::Cpu.open(None),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "auto" => Ok(Self::Auto),
            // PyTorch's name for it.
            None if matches!(text, "metal" | "mps") => Ok(Self::Metal),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", ordinal)) if ordinal.parse::<u16>().is_ok() => {
                Ok(Self::Cuda(ordinal.parse().unwrap_or_default()))
            }
            _ => Err(format!(
                "there is no device {text:.40?}: cpu, cuda, cuda:N, cuda:all, metal or auto"
            )),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Auto => f.write_str("auto"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (text, choice) in [
            ("cpu", DeviceChoice::Cpu),
            ("auto", DeviceChoice::Auto),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:13", DeviceChoice::Cuda(13)),
            ("metal", DeviceChoice::Metal),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("mps".parse(), Ok(DeviceChoice::Metal));
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CUDA"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_is_a_sentence_without_a_backtrace() {
        let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
        let inner = Box::new(KernelError::Msg("rows beyond the end".into()));
        let error = KernelError::WithBacktrace { inner, backtrace }.context("a product");
        assert_eq!(sentence(&error), "a product: rows beyond the end");
    }

    #[test]
    fn several_devices_are_different_gpus() {
        let two = DeviceChoice::several("cuda:0, cuda:1");
        assert_eq!(two, Ok(vec![DeviceChoice::Cuda(0), DeviceChoice::Cuda(1)]));
        assert_eq!(DeviceChoice::several("cpu"), Ok(vec![DeviceChoice::Cpu]));
        for text in ["", ",", "cuda:0,", "cuda,cuda:0", "cpu,cpu", "cuda:0,cpu", "auto,cuda:1"] {
            assert!(DeviceChoice::several(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_never_another() {
        assert_eq!(DeviceChoice::Cpu.open(None).expect("a processor").name, "cpu");
        let error = DeviceChoice::Cuda(4096).open(None).expect_err("no such device");
        assert!(error.to_string().contains("CUDA"), "{error}");
        assert!(DeviceChoice::Auto.open(None).is_ok());
    }
}
