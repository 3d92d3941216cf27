//! Which device a network computes on.
//!
//! Must not know: models, what is computed.

use std::fmt;
use std::str::FromStr;

use candle_core::{Device, Result};

use crate::cuda;

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

/// A device that is ready.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// Where tensors are.
    pub device: Device,
    /// What it is: `cpu`, `metal`, or such as `cuda:0 (NVIDIA H200)`.
    pub name: String,
}

impl DeviceChoice {
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

    /// Opens the device.
    ///
    /// # Errors
    /// A sentence, if it was asked for and is not there, or not in this build. [`Self::Auto`] fails
    /// only if there is a GPU and it does not open.
    pub fn open(self) -> Result<OpenDevice> {
        match self {
            Self::Cpu => Ok(OpenDevice { device: Device::Cpu, name: "cpu".into() }),
            Self::Metal => {
                self.check()?;
                Ok(OpenDevice { device: Device::new_metal(0)?, name: "metal".into() })
            }
            Self::Cuda(ordinal) => {
                let device = cuda::device(ordinal)?;
                let name = format!("cuda:{ordinal} ({})", cuda::properties(&device)?.name);
                Ok(OpenDevice { device, name })
            }
            Self::Auto if cuda::count().is_ok_and(|count| count > 0) => Self::Cuda(0).open(),
            Self::Auto if candle_core::utils::metal_is_available() => Self::Metal.open(),
            Self::Auto => Self::Cpu.open(),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "auto" => Ok(Self::Auto),
            None if text == "metal" => Ok(Self::Metal),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", ordinal)) if ordinal.parse::<u16>().is_ok() => {
                Ok(Self::Cuda(ordinal.parse().unwrap_or_default()))
            }
            _ => Err(format!("there is no device {text:.40?}: cpu, cuda, cuda:N, metal or auto")),
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
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "CUDA"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_never_another() {
        assert_eq!(DeviceChoice::Cpu.open().expect("a processor").name, "cpu");
        let error = DeviceChoice::Cuda(4096).open().expect_err("no such device");
        assert!(error.to_string().contains("CUDA"), "{error}");
        assert!(DeviceChoice::Auto.open().is_ok());
    }
}
