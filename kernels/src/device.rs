//! Which device a network computes on.
//!
//! Must not know: models, what is computed.

use std::fmt;
use std::str::FromStr;

use candle_core::{Device, Result};

use crate::{KernelError, cpu, cuda};

/// A device as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU if this build knows one and the machine has it, else the processor.
    Auto,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

/// A device that is ready. When it is dropped, nothing here keeps the device open any longer, so
/// that one that failed can be opened anew.
#[derive(Debug)]
pub struct OpenDevice {
    /// Where tensors are.
    pub device: Device,
    /// What it is: `cpu`, `metal`, or such as `cuda:0 (NVIDIA H200)`.
    pub name: String,
    /// How it is opened again; never [`DeviceChoice::Auto`].
    pub choice: DeviceChoice,
}

impl OpenDevice {
    /// Gives memory that tensors no longer need back to the system, where it would be kept for the
    /// next ones. That this fails is of no consequence.
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

/// Rows that keep a device busy: with more, a batch takes longer for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchRows {
    /// So many.
    Known(usize),
    /// That is to be measured; at most so many.
    AtMost(usize),
}

impl BatchRows {
    /// Of a device. On a CPU a batch is shared out among threads: of a few texts for each, none has
    /// to wait long for the others.
    pub fn of(device: &Device) -> Self {
        /// Of a thread of the CPU.
        const ROWS: usize = 1024;
        /// Of a GPU: products of a large one need some ten thousand for full speed.
        const ROWS_GPU: usize = 32_768;
        if device.is_cpu() {
            Self::Known(ROWS * cpu::thread_pool::threads())
        } else {
            Self::AtMost(ROWS_GPU)
        }
    }

    /// The largest number that comes into question.
    pub fn most(self) -> usize {
        match self {
            Self::Known(rows) | Self::AtMost(rows) => rows,
        }
    }

    /// What to take where nothing has been measured.
    pub fn before_measured(self) -> usize {
        match self {
            Self::Known(rows) => rows,
            Self::AtMost(rows) => rows / 2,
        }
    }
}

/// Whether an operation failed for want of memory, so that a smaller one may work.
pub fn is_out_of_memory(error: &KernelError) -> bool {
    match error {
        KernelError::Io(error) => error.kind() == std::io::ErrorKind::OutOfMemory,
        KernelError::WithBacktrace { inner, .. } | KernelError::Context { inner, .. } => {
            is_out_of_memory(inner)
        }
        other => cuda::is_out_of_memory(other),
    }
}

/// What an error says, for people: without the backtrace that it may hold.
pub fn sentence(error: &KernelError) -> String {
    match error {
        KernelError::WithBacktrace { inner, .. } => sentence(inner),
        KernelError::Context { inner, context } => format!("{context}: {}", sentence(inner)),
        KernelError::WithPath { inner, path } => format!("{}: {}", path.display(), sentence(inner)),
        other => other.to_string(),
    }
}

impl DeviceChoice {
    /// One device, or several to compute side by side: `cuda:0,cuda:1`, or `cuda:all` for every
    /// NVIDIA GPU there is.
    ///
    /// # Errors
    /// A sentence: a name that is none, others than NVIDIA GPUs together, one twice, or no GPU.
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
                return Err(format!("only CUDA devices compute side by side, not {device}"));
            }
            if devices[..index].contains(device) {
                return Err(format!("device {device} is named twice"));
            }
        }
        Ok(devices)
    }

    /// That such a device is there, as far as it is known before it is opened.
    ///
    /// # Errors
    /// A sentence, if it is not.
    pub fn check(self) -> Result<()> {
        match self {
            Self::Cuda(ordinal) => cuda::present(ordinal),
            Self::Metal if !candle_core::utils::metal_is_available() => {
                candle_core::bail!("this build has no Metal: build it with --features metal")
            }
            _ => Ok(()),
        }
    }

    /// Whether it may be a GPU whose memory can be limited.
    pub fn limits_memory(self) -> bool {
        matches!(self, Self::Cuda(_) | Self::Auto)
    }

    /// Opens the device. On an NVIDIA GPU, tensors of this process get at most `memory_fraction` of
    /// its memory, if there is such a limit; what is above fails ([`is_out_of_memory`]).
    ///
    /// # Errors
    /// A sentence, if it was asked for and is not there, or not in this build. [`Self::Auto`] fails
    /// only if there is a GPU and it does not open.
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
            // PyTorch's name for it, too.
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
