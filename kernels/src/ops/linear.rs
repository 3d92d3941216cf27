//! Linear layers with what follows them: bias, activation, gate, residual.

use candle_core::{DType, Device, Result, Tensor, bail};
use half::{bf16, f16};

use super::{CpuNumbers, matrix};
use crate::cpu::aligned::Plain;
use crate::cpu::gemm::{Packed, multiply};
use crate::cpu::{Activation, Epilogue, Isa};
use crate::stored::{StoredNumber, StoredTensor};

/// Weights `[columns, depth]` as the device wants them.
#[derive(Debug)]
enum Weights {
    F32(Packed<f32>),
    Bf16(Packed<bf16>),
    F16(Packed<f16>),
    /// Candle's own product, on other devices.
    Plain(Tensor),
}

impl Weights {
    /// Rows in the order `places` gives them: part and row within it, or nothing for a row of
    /// zeros.
    fn new(
        parts: &[&StoredTensor],
        places: &[Option<(usize, usize)>],
        depth: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        fn pack<E: Plain + StoredNumber>(
            parts: &[&StoredTensor],
            places: &[Option<(usize, usize)>],
            depth: usize,
        ) -> Packed<E> {
            Packed::new(places.len(), depth, |column, to| {
                if let Some((part, row)) = places[column] {
                    let width = parts[part].shape()[1];
                    parts[part].read(row * width, &mut to[..width]);
                }
            })
        }
        if !device.is_cpu() {
            let mut numbers = vec![0.0f32; places.len() * depth];
            for (place, row) in places.iter().zip(numbers.chunks_exact_mut(depth)) {
                if let Some((part, from)) = *place {
                    let width = parts[part].shape()[1];
                    parts[part].read(from * width, &mut row[..width]);
                }
            }
            let tensor = Tensor::from_vec(numbers, (places.len(), depth), device)?;
            return Ok(Self::Plain(tensor.to_dtype(dtype)?));
        }
        Ok(match dtype {
            DType::F32 => Self::F32(pack(parts, places, depth)),
            DType::BF16 => Self::Bf16(pack(parts, places, depth)),
            DType::F16 => Self::F16(pack(parts, places, depth)),
            other => bail!("weights in {other:?} are not served"),
        })
    }

    /// `x` times the weights on the CPU.
    fn multiply(&self, x: &Tensor, epilogue: &Epilogue<'_>) -> Result<Tensor> {
        let (columns, depth) = match self {
            Self::F32(packed) => (packed.columns(), packed.depth()),
            Self::Bf16(packed) => (packed.columns(), packed.depth()),
            Self::F16(packed) => (packed.columns(), packed.depth()),
            Self::Plain(_) => bail!("a product of the CPU with weights of another device"),
        };
        let rows = matrix(x, depth, "linear")?;
        let width = epilogue.width(columns);
        let mut out = vec![0.0; rows * width];
        let (x, isa) = (CpuNumbers::of(x)?, Isa::current());
        match self {
            Self::F32(packed) => multiply(isa, &x, packed, epilogue, &mut out),
            Self::Bf16(packed) => multiply(isa, &x, packed, epilogue, &mut out),
            Self::F16(packed) => multiply(isa, &x, packed, epilogue, &mut out),
            Self::Plain(_) => unreachable!("refused above"),
        }
        Tensor::from_vec(out, (rows, width), &Device::Cpu)
    }
}

/// `[n, depth] -> [n, columns]`: `act(x W^T + bias) + residual`.
#[derive(Debug)]
pub struct Linear {
    weights: Weights,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer of weights `[columns, depth]` laid below each other, with `biases` (as many as
    /// weights, or none) end to end. Inputs may be wider than the weights: further ones count as
    /// multiplied by zero.
    ///
    /// # Errors
    /// Shapes that disagree.
    pub fn new(
        parts: &[&StoredTensor],
        biases: &[&StoredTensor],
        depth: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let mut places = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let &[rows, columns] = part.shape() else { bail!("weights have two dimensions") };
            if columns > depth {
                bail!("weights of {columns} inputs in a layer of {depth}");
            }
            places.extend((0..rows).map(|row| Some((index, row))));
        }
        let bias = if biases.is_empty() {
            None
        } else {
            let numbers: Vec<f32> = biases.iter().flat_map(|bias| bias.to_f32()).collect();
            if numbers.len() != places.len() {
                bail!("{} biases for {} outputs", numbers.len(), places.len());
            }
            Some(Tensor::from_vec(numbers, places.len(), device)?)
        };
        Ok(Self { weights: Weights::new(parts, &places, depth, dtype, device)?, bias })
    }

    /// `x W^T + bias`
    ///
    /// # Errors
    /// Shapes that disagree, or a failure of the device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, None, None)
    }

    /// `act(x W^T + bias) + residual`
    ///
    /// # Errors
    /// Shapes that disagree, or a failure of the device.
    pub fn forward_with(
        &self,
        x: &Tensor,
        activation: Option<Activation>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        if let Weights::Plain(weights) = &self.weights {
            return plain(x, weights, self.bias.as_ref(), activation, residual);
        }
        let bias = self.bias.as_ref().map(CpuNumbers::of).transpose()?;
        let residual_numbers = residual.map(CpuNumbers::of).transpose()?;
        if residual.is_some_and(|residual| residual.dims().first() != x.dims().first()) {
            bail!("the residual has not as many rows as the input");
        }
        let epilogue = Epilogue::Plain {
            bias: bias.as_deref(),
            activation,
            residual: residual_numbers.as_deref(),
        };
        self.weights.multiply(x, &epilogue)
    }
}

/// `[n, depth] -> [n, width]`: `act(x G^T) * (x V^T)`, `width` rounded up to a multiple of 16 and
/// the outputs beyond the weights' own zero.
#[derive(Debug)]
pub struct GatedLinear {
    weights: Weights,
    activation: Activation,
}

/// Gates and values come in groups of this many rows.
const GROUP: usize = 16;

impl GatedLinear {
    /// A layer of gate and value weights, both `[width, depth]`.
    ///
    /// # Errors
    /// Shapes that disagree.
    pub fn new(
        gate: &StoredTensor,
        value: &StoredTensor,
        activation: Activation,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let &[width, depth] = gate.shape() else { bail!("weights have two dimensions") };
        if value.shape() != gate.shape() {
            bail!("gates {:?} and values {:?} differ", gate.shape(), value.shape());
        }
        let padded = Self::padded(width);
        let mut places = Vec::with_capacity(2 * padded);
        for group in (0..padded).step_by(GROUP) {
            for part in 0..2 {
                let rows = group..group + GROUP;
                places.extend(rows.map(|row| (row < width).then_some((part, row))));
            }
        }
        let weights = Weights::new(&[gate, value], &places, depth, dtype, device)?;
        Ok(Self { weights, activation })
    }

    /// The width of the output for weights of this width.
    pub fn padded(width: usize) -> usize {
        width.next_multiple_of(GROUP)
    }

    /// `act(x G^T) * (x V^T)`
    ///
    /// # Errors
    /// Shapes that disagree, or a failure of the device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Weights::Plain(weights) = &self.weights else {
            return self.weights.multiply(x, &Epilogue::Gated { activation: self.activation });
        };
        let both = plain(x, weights, None, None, None)?;
        let (rows, width) = both.dims2()?;
        let both = both.reshape((rows, width / 2 / GROUP, 2, GROUP))?;
        let gate = activate(&both.narrow(2, 0, 1)?, self.activation)?;
        (gate * both.narrow(2, 1, 1)?)?.reshape((rows, width / 2))
    }
}

/// The plain form of [`Linear::forward_with`], in candle's operations.
///
/// # Errors
/// Shapes that disagree, or a failure of the device.
pub fn plain(
    x: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let mut out = x.to_dtype(weights.dtype())?.matmul(&weights.t()?)?.to_dtype(DType::F32)?;
    if let Some(bias) = bias {
        out = out.broadcast_add(bias)?;
    }
    if let Some(activation) = activation {
        out = activate(&out, activation)?;
    }
    residual.map_or(Ok(out.clone()), |residual| out + residual)
}

/// The plain form of an activation.
fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Silu => x.silu(),
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
    }
}
