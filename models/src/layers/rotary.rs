//! Rotary tables, their scaling for long contexts, and the keys of `config.json` that set them
//! (transformers `modeling_rope_utils.py`).
//!
//! Must not know: any one family.

use std::f64::consts::PI;
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, RwLock};

use proxima_kernels::ops::rotary::RotaryTables;
use proxima_kernels::{Device, KernelError};
use serde_json::Value;

/// The range of numbers in rotary settings: beyond it, frequencies overflow.
const NUMBERS: RangeInclusive<f64> = 1e-6..=1e15;
/// Longest text of the first tables: enough for most.
const LENGTH_MIN: usize = 512;

/// The object with the rotary settings, and its name: as in transformers, `rope_scaling` takes
/// precedence over the newer `rope_parameters`.
pub fn rope_object<'a>(scaling: &'a Value, parameters: &'a Value) -> (&'static str, &'a Value) {
    match scaling.as_object().is_some_and(|keys| !keys.is_empty()) {
        true => ("rope_scaling", scaling),
        false => ("rope_parameters", parameters),
    }
}

/// How frequencies are scaled for contexts longer than the pretrained ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All are divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// NTK: a larger base, and frequencies divided by a power of the factor
    /// (Alibaba-NLP/new-impl).
    Ntk {
        /// The factor of the base.
        factor: f64,
    },
    /// Llama 3.1: low ones are divided by a factor, high ones are kept, those between are blended.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original / low` are scaled.
        low: f64,
        /// Wavelengths below `original / high` are kept.
        high: f64,
        /// The pretrained context.
        original: f64,
    },
    /// YaRN (Peng et al., 2023): as `Llama3`, blended by the index of a frequency; cosines and
    /// sines are scaled, too.
    Yarn {
        /// The factor.
        factor: f64,
        /// The pretrained context.
        original: f64,
        /// Rotations in the pretrained context above which frequencies are kept, and below which
        /// they are scaled.
        beta: [f64; 2],
        /// The factor of cosines and sines.
        attention: f64,
        /// Whether the range of blended frequencies is widened to whole indices.
        truncate: bool,
    },
}

/// Rotary positions of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RotaryRule {
    /// Base of the frequencies.
    pub theta: f64,
    /// Their scaling.
    pub scaling: Scaling,
}

impl RotaryRule {
    /// The rule of `rope_parameters` or `rope_scaling`; `theta` is the base if the object has none,
    /// and `positions` the pretrained context if it has none.
    ///
    /// # Errors
    /// An unknown type, or a number that is missing or not one.
    pub fn of(object: &Value, theta: f64, positions: usize) -> Result<Self, String> {
        let settings = RopeParameters { object, positions };
        let kind = object.get("rope_type").or_else(|| object.get("type"));
        let scaling = match kind.map_or(Some("default"), Value::as_str) {
            Some("default") => Scaling::None,
            Some("linear") => Scaling::Linear { factor: settings.number("factor")? },
            Some("llama3") => settings.llama3()?,
            Some("yarn") => settings.yarn()?,
            _ => {
                let kind = kind.map_or_else(String::new, Value::to_string);
                return Err(format!(
                    "rope_type {kind} is not supported; supported: default, linear, llama3, yarn"
                ));
            }
        };
        let rule = Self { theta: settings.optional("rope_theta")?.unwrap_or(theta), scaling };
        // Any head size will do to test whether frequencies are finite.
        let (frequencies, scale) = rule.frequencies(64);
        match frequencies.iter().chain([&scale]).all(|number| number.is_finite()) {
            true => Ok(rule),
            false => Err("the rotary settings give frequencies that are not finite".into()),
        }
    }

    /// The frequencies of a head of `size` elements, in float32 as transformers computes them, and
    /// the factor of cosines and sines.
    fn frequencies(&self, size: usize) -> (Vec<f32>, f32) {
        let share = |index: usize| 2.0 * index as f64 / size as f64;
        let plain = (0..size / 2).map(|index| (1.0 / self.theta.powf(share(index))) as f32);
        match self.scaling {
            Scaling::None => (plain.collect(), 1.0),
            Scaling::Linear { factor } => {
                (plain.map(|frequency| frequency / factor as f32).collect(), 1.0)
            }
            Scaling::Ntk { factor } => {
                let divisor = factor.powf(2.0 / size as f64);
                let base = self.theta * factor;
                let scaled =
                    (0..size / 2).map(|index| (1.0 / base.powf(share(index)) / divisor) as f32);
                (scaled.collect(), 1.0)
            }
            Scaling::Llama3 { factor, low, high, original } => {
                let scaled = plain.map(|frequency| {
                    let wavelength = 2.0 * PI / f64::from(frequency);
                    let slow = f64::from(frequency) / factor;
                    if wavelength > original / low {
                        slow as f32
                    } else if wavelength < original / high {
                        frequency
                    } else {
                        let kept = (original / wavelength - low) / (high - low);
                        ((1.0 - kept) * slow + kept * f64::from(frequency)) as f32
                    }
                });
                (scaled.collect(), 1.0)
            }
            Scaling::Yarn { factor, original, beta, attention, truncate } => {
                // The indices of the frequencies that turn this often in the pretrained context.
                let [mut low, mut high] = beta.map(|turns| {
                    size as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * self.theta.ln())
                });
                if truncate {
                    (low, high) = (low.floor(), high.ceil());
                }
                let (low, mut high) = (low.max(0.0), high.min(size as f64 - 1.0));
                if low == high {
                    high += 0.001;
                }
                let scaled = plain.enumerate().map(|(index, frequency)| {
                    let slowed = ((index as f64 - low) / (high - low)).clamp(0.0, 1.0);
                    let slow = f64::from(frequency) / factor;
                    (slow * slowed + f64::from(frequency) * (1.0 - slowed)) as f32
                });
                (scaled.collect(), attention as f32)
            }
        }
    }
}

/// An object with rotary settings.
struct RopeParameters<'a> {
    object: &'a Value,
    /// Positions of the network.
    positions: usize,
}

impl RopeParameters<'_> {
    fn optional(&self, key: &str) -> Result<Option<f64>, String> {
        let value = match self.object.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value,
        };
        match value.as_f64().filter(|number| NUMBERS.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let (least, most) = (NUMBERS.start(), NUMBERS.end());
                Err(format!("{key} is {value}, and must be a number from {least:e} to {most:e}"))
            }
        }
    }

    fn number(&self, key: &str) -> Result<f64, String> {
        self.optional(key)?.ok_or_else(|| format!("there is no {key}, which rope_type needs"))
    }

    /// The pretrained context.
    fn original(&self) -> Result<f64, String> {
        let original = self.optional("original_max_position_embeddings")?;
        Ok(original.unwrap_or(self.positions as f64))
    }

    fn llama3(&self) -> Result<Scaling, String> {
        let (low, high) = (self.number("low_freq_factor")?, self.number("high_freq_factor")?);
        if low >= high {
            return Err("low_freq_factor must be below high_freq_factor".into());
        }
        let (factor, original) = (self.number("factor")?, self.original()?);
        Ok(Scaling::Llama3 { factor, low, high, original })
    }

    fn yarn(&self) -> Result<Scaling, String> {
        let factor = self.number("factor")?;
        let mscale = |scale: f64| match factor > 1.0 {
            true => 0.1 * scale * factor.ln() + 1.0,
            false => 1.0,
        };
        let of_scales = match (self.optional("mscale")?, self.optional("mscale_all_dim")?) {
            (Some(one), Some(all)) => mscale(one) / mscale(all),
            _ => mscale(1.0),
        };
        let truncate = match self.object.get("truncate") {
            None => true,
            Some(Value::Bool(truncate)) => *truncate,
            Some(other) => return Err(format!("truncate is {other}, and must be true or false")),
        };
        Ok(Scaling::Yarn {
            factor,
            original: self.original()?,
            beta: [
                self.optional("beta_fast")?.unwrap_or(32.0),
                self.optional("beta_slow")?.unwrap_or(1.0),
            ],
            attention: self.optional("attention_factor")?.unwrap_or(of_scales),
            truncate,
        })
    }
}

/// How rows are rotated.
#[derive(Debug, Clone, Copy)]
pub struct Rotation<'a> {
    /// Position of each row.
    pub positions: &'a [u32],
    /// Tables with the angles of these positions.
    pub tables: &'a RotaryTables,
}

impl Rotation<'_> {
    /// How some of the rows are rotated.
    pub fn of_rows(self, rows: Range<usize>) -> Self {
        Self { positions: &self.positions[rows], ..self }
    }
}

/// Rotary tables that grow with the longest sequence seen, so that short texts do not pay for a
/// long context.
#[derive(Debug)]
pub struct Rotary {
    frequencies: Vec<f32>,
    scale: f32,
    device: Device,
    tables: RwLock<Arc<RotaryTables>>,
}

impl Rotary {
    /// Tables without scaling, for heads with `size` elements.
    ///
    /// # Errors
    /// A device failure.
    pub fn new(theta: f64, size: usize, device: &Device) -> Result<Self, KernelError> {
        Self::by(RotaryRule { theta, scaling: Scaling::None }, size, device)
    }

    /// Tables by a rule, for heads with `size` elements.
    ///
    /// # Errors
    /// A device failure.
    pub fn by(rule: RotaryRule, size: usize, device: &Device) -> Result<Self, KernelError> {
        let (frequencies, scale) = rule.frequencies(size);
        let tables = RotaryTables::of_frequencies(LENGTH_MIN, &frequencies, scale, device)?;
        let tables = RwLock::new(Arc::new(tables));
        Ok(Self { frequencies, scale, device: device.clone(), tables })
    }

    /// Tables for at least this many positions.
    ///
    /// # Errors
    /// A device failure.
    pub fn tables(&self, positions: usize) -> Result<Arc<RotaryTables>, KernelError> {
        let poisoned = "no code panics while it holds the tables";
        let tables = self.tables.read().expect(poisoned).clone();
        if tables.positions() >= positions {
            return Ok(tables);
        }
        let wanted = positions.next_power_of_two();
        let (frequencies, scale) = (&self.frequencies, self.scale);
        let tables = RotaryTables::of_frequencies(wanted, frequencies, scale, &self.device)?;
        let mut known = self.tables.write().expect(poisoned);
        // Another thread may have made longer ones.
        if known.positions() < wanted {
            *known = Arc::new(tables);
        }
        Ok(known.clone())
    }
}
