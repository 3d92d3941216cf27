//! Linear layers with their epilogues: bias, activation, gate, residual.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::linear_input::{Inner, InputLayout, LayoutKind, LinearInput};
use super::norm::rms_norm_for;
use super::rows::Rows;
use super::{Backend, CpuSlice, StoredRow, on_device, read};
use crate::cpu::gemm::micro_kernel::{Arithmetic, BYTES_DEPTH_MAX};
use crate::cpu::gemm::pack_lhs::PackedLhs;
use crate::cpu::gemm::pack_rhs::PackedRhs;
use crate::cpu::gemm::{multiply, multiply_packed};
use crate::cpu::{Epilogue, Isa};
use crate::cuda::launch;
use crate::reference;
use crate::spec::{Activation, Precision};
use crate::stored::StoredTensor;

impl Precision {
    /// The arithmetic that the CPU uses for weights stored in this dtype.
    fn arithmetic(self, isa: Isa, stored: DType) -> Arithmetic {
        let tiles = isa.multiplies_tiles();
        match (self, stored) {
            (Self::Int8, _) => Arithmetic::Int8,
            (Self::Bfloat16, _) if isa.multiplies_bf16() => Arithmetic::Bf16,
            (Self::Float32, DType::BF16) if tiles => Arithmetic::SplitBf16,
            (Self::Bfloat16, _) | (Self::Float32, DType::BF16) => Arithmetic::F32Bf16,
            (Self::Float16 | Self::Float32, _) if tiles => Arithmetic::SplitF32,
            (Self::Float16, _) | (Self::Float32, DType::F16) => Arithmetic::F32F16,
            (Self::Float32, _) => Arithmetic::F32,
        }
    }

    /// The dtype in which other devices hold weights.
    fn dtype(self, stored: DType) -> Result<DType> {
        Ok(match self {
            Self::Float32 if matches!(stored, DType::BF16 | DType::F16) => DType::F32,
            Self::Float32 => stored,
            Self::Bfloat16 => DType::BF16,
            Self::Float16 => DType::F16,
            Self::Int8 => bail!("int8 is supported on the CPU only; choose another dtype"),
        })
    }
}

/// Weights `[columns, depth]` in the device's layout.
#[derive(Debug)]
enum LinearWeights {
    /// On the CPU.
    Packed(PackedRhs, Arithmetic),
    /// On any other device.
    Tensor(Tensor),
}

impl LinearWeights {
    /// Takes the parts' rows in this order.
    fn new(
        parts: &[&StoredTensor],
        rows: &[StoredRow],
        depth: usize,
        precision: Precision,
        device: &Device,
    ) -> Result<Self> {
        let stored = parts.first().map_or(DType::F32, |part| part.dtype());
        let alike = parts.iter().all(|part| part.dtype() == stored);
        let stored = if alike { stored } else { DType::F32 };
        if device.is_cpu() {
            let arithmetic = precision.arithmetic(Isa::current(), stored);
            if arithmetic == Arithmetic::Int8 && depth > BYTES_DEPTH_MAX {
                bail!("{depth} inputs are more than the {BYTES_DEPTH_MAX} that int8 can sum");
            }
            let packed = PackedRhs::new(arithmetic.weights(), rows.len(), depth, |column, to| {
                read(parts, rows[column], to);
            });
            return Ok(Self::Packed(packed, arithmetic));
        }
        Ok(Self::Tensor(on_device(parts, rows, depth, precision.dtype(stored)?, device)?))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Packed(packed, _) => packed.bytes(),
            Self::Tensor(weights) => weights.elem_count() * weights.dtype().size_in_bytes(),
        }
    }

    fn device(&self) -> &Device {
        match self {
            Self::Packed(..) => &Device::Cpu,
            Self::Tensor(weights) => weights.device(),
        }
    }

    fn input_layout(&self) -> InputLayout {
        InputLayout(match self {
            Self::Packed(_, arithmetic) => LayoutKind::Packed(Isa::current().packing(*arithmetic)),
            Self::Tensor(weights) => LayoutKind::Tensor(weights.dtype()),
        })
    }

    /// `x` times the packed weights.
    fn multiply(&self, x: &LinearInput, epilogue: &Epilogue<'_>) -> Result<Rows> {
        let (weights, arithmetic, x) = self.packed(x)?;
        let mut out = Rows::cpu(x.rows(), epilogue.width(weights.columns()));
        multiply(Isa::current(), arithmetic, x, weights, epilogue, out.elements_mut()?);
        Ok(out)
    }

    /// As `multiply`, with the result in the next layer's input layout.
    fn multiply_for(
        &self,
        x: &LinearInput,
        epilogue: &Epilogue<'_>,
        next: InputLayout,
    ) -> Result<LinearInput> {
        let packing = next.packing()?;
        let (weights, arithmetic, x) = self.packed(x)?;
        let isa = Isa::current();
        let packed = multiply_packed(isa, arithmetic, x, weights, epilogue, packing);
        Ok(LinearInput(Inner::Packed(packed)))
    }

    fn packed<'a>(
        &'a self,
        x: &'a LinearInput,
    ) -> Result<(&'a PackedRhs, Arithmetic, &'a PackedLhs)> {
        let (Self::Packed(weights, arithmetic), Inner::Packed(x)) = (self, &x.0) else {
            bail!("linear: the weights are on the CPU, the input is on another device")
        };
        if x.width() != weights.depth() || x.packing() != Isa::current().packing(*arithmetic) {
            let (width, packing) = (x.width(), x.packing());
            let depth = weights.depth();
            bail!("linear: rows have {width} elements ({packing:?}), expected {depth}");
        }
        Ok((weights, *arithmetic, x))
    }

    /// Whether CUDA adds a residual to their product and normalises the sum in one kernel, with the
    /// result in this dtype.
    fn fuses_norm(&self, dtype: DType) -> bool {
        matches!(self, Self::Tensor(weights) if weights.dtype() == dtype) && dtype != DType::F16
    }

    /// Weights and input on a device other than the CPU.
    fn tensors<'a>(&'a self, x: &'a LinearInput) -> Result<(&'a Tensor, &'a Tensor)> {
        match (self, &x.0) {
            (Self::Tensor(weights), Inner::Tensor(x)) => Ok((weights, x)),
            _ => bail!("linear: the input is on the CPU, the weights are on another device"),
        }
    }
}

/// `[n, depth] -> [n, columns]`: `act(x W^T + bias) + residual`.
#[derive(Debug)]
pub struct Linear {
    weights: LinearWeights,
    bias: Option<Tensor>,
}

impl Linear {
    /// Concatenates weights `[columns, depth]` along the output dimension, and `biases` likewise
    /// (one value per output in all, or no biases). Weights narrower than `depth` are padded with
    /// zeros, so the extra inputs are multiplied by zero.
    ///
    /// # Errors
    /// Mismatched shapes.
    pub fn new(
        parts: &[&StoredTensor],
        biases: &[&StoredTensor],
        depth: usize,
        precision: Precision,
        device: &Device,
    ) -> Result<Self> {
        let mut sources = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            let &[rows, columns] = part.shape() else {
                bail!("linear: weights have shape {:?}, expected two dimensions", part.shape());
            };
            if columns > depth {
                bail!("linear: weights take {columns} inputs, expected at most {depth}");
            }
            sources.extend((0..rows).map(|row| Some((index, row))));
        }
        let bias = if biases.is_empty() {
            None
        } else {
            let elements: Vec<f32> = biases.iter().flat_map(|bias| bias.to_f32()).collect();
            if elements.len() != sources.len() {
                bail!("linear: {} biases, expected {}", elements.len(), sources.len());
            }
            Some(Tensor::from_vec(elements, sources.len(), device)?)
        };
        Ok(Self { weights: LinearWeights::new(parts, &sources, depth, precision, device)?, bias })
    }

    /// Size of its weights in memory, in bytes.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// The layout in which it takes its input.
    pub fn input_layout(&self) -> InputLayout {
        self.weights.input_layout()
    }

    /// Where its weights are.
    pub fn device(&self) -> &Device {
        self.weights.device()
    }

    /// Whether it rounds inputs to bfloat16 or 8 bits, so that attention before it may round too.
    pub(super) fn rounds(&self) -> bool {
        matches!(self.weights, LinearWeights::Packed(_, Arithmetic::Bf16 | Arithmetic::Int8))
    }

    /// `x W^T + bias`
    ///
    /// # Errors
    /// Mismatched shapes, or a device failure.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, None, None)
    }

    /// `act(x W^T + bias) + residual`
    ///
    /// # Errors
    /// Mismatched shapes, or a device failure.
    pub fn forward_with(
        &self,
        x: &Tensor,
        activation: Option<Activation>,
        residual: Option<&Rows>,
    ) -> Result<Tensor> {
        self.of(&LinearInput::of(x, self.input_layout())?, activation, residual)?.tensor()
    }

    /// `act(x W^T + bias) + residual` for an input in this layer's layout.
    ///
    /// # Errors
    /// Mismatched shapes, or a device failure.
    pub fn of(
        &self,
        x: &LinearInput,
        activation: Option<Activation>,
        residual: Option<&Rows>,
    ) -> Result<Rows> {
        let bias = self.bias.as_ref();
        match Backend::of(self.device()) {
            Backend::Cpu => {
                let bias = bias.map(CpuSlice::of).transpose()?;
                let (weights, _, packed) = self.weights.packed(x)?;
                let shape = [packed.rows(), weights.columns()];
                if let Some(found) = residual.map(Rows::shape).transpose()?
                    && found != shape
                {
                    bail!("linear: the residual has shape {found:?}, expected {shape:?}");
                }
                let residual = residual.map(Rows::elements).transpose()?;
                let epilogue = Epilogue::Plain { bias: bias.as_deref(), activation, residual };
                self.weights.multiply(x, &epilogue)
            }
            Backend::Cuda => {
                let (weights, x) = self.weights.tensors(x)?;
                let residual = residual.map(Rows::device_tensor).transpose()?;
                let out = launch::linear::linear(x, weights, bias, activation, residual)?;
                Ok(Rows::on_device(out))
            }
            Backend::Reference => {
                let (weights, x) = self.weights.tensors(x)?;
                let residual = residual.map(Rows::tensor).transpose()?;
                let residual = residual.as_ref();
                let out = reference::linear::linear(x, weights, bias, activation, residual)?;
                Ok(Rows::on_device(out))
            }
        }
    }

    /// `act(x W^T + bias)` for an input in this layer's layout, with the result in the next
    /// layer's.
    ///
    /// # Errors
    /// Mismatched shapes, or a device failure.
    pub fn apply_for(
        &self,
        x: &LinearInput,
        activation: Option<Activation>,
        next: InputLayout,
    ) -> Result<LinearInput> {
        match Backend::of(self.device()) {
            Backend::Cpu => {
                let bias = self.bias.as_ref().map(CpuSlice::of).transpose()?;
                let epilogue =
                    Epilogue::Plain { bias: bias.as_deref(), activation, residual: None };
                self.weights.multiply_for(x, &epilogue, next)
            }
            Backend::Cuda | Backend::Reference => {
                let rows = self.of(x, activation, None)?;
                Ok(LinearInput(Inner::Tensor(rows.device_tensor()?.to_dtype(next.dtype()?)?)))
            }
        }
    }
}

/// The RMS norm applied to the sum of a layer's output and its residual.
#[derive(Debug, Clone, Copy)]
pub struct NormAfter<'a> {
    /// `[width]`, float32.
    pub weight: &'a Tensor,
    /// Added to the mean of squares.
    pub eps: f32,
    /// The input layout of the next layer, in which the norm's result is written.
    pub layout: InputLayout,
}

impl Linear {
    /// `residual + x W^T + bias`, and its norm. On a CUDA device with bfloat16 weights, the product
    /// is rounded to bfloat16 before it is added; with IEEE half weights it is not, since it might
    /// overflow.
    ///
    /// # Errors
    /// Mismatched shapes, or a device failure.
    pub fn add_and_norm(
        &self,
        x: &LinearInput,
        residual: &Rows,
        norm: NormAfter<'_>,
    ) -> Result<(Rows, LinearInput)> {
        let NormAfter { weight, eps, layout } = norm;
        match (Backend::of(self.device()), layout.0) {
            (Backend::Cuda, LayoutKind::Tensor(dtype)) if self.weights.fuses_norm(dtype) => {
                let (weights, x) = self.weights.tensors(x)?;
                let (bias, residual) = (self.bias.as_ref(), residual.device_tensor()?);
                let (sums, normed) =
                    launch::linear::add_and_norm(x, weights, bias, residual, weight, eps)?;
                Ok((Rows::on_device(sums), LinearInput(Inner::Tensor(normed))))
            }
            (Backend::Cpu | Backend::Cuda | Backend::Reference, _) => {
                let sums = self.of(x, None, Some(residual))?;
                let normed = rms_norm_for(&sums, weight, eps, layout)?;
                Ok((sums, normed))
            }
        }
    }
}

/// `[n, depth] -> [n, width]`: `act(x G^T) * (x V^T)`. `width` is rounded up to a multiple of 16;
/// outputs beyond those of the weights are zero.
#[derive(Debug)]
pub struct GatedLinear {
    weights: LinearWeights,
    activation: Activation,
}

/// Gate and value rows alternate in groups of this many.
const GROUP: usize = 16;

impl GatedLinear {
    /// A layer from gate and value weights, both `[width, depth]`.
    ///
    /// # Errors
    /// Mismatched shapes.
    pub fn new(
        gate: &StoredTensor,
        value: &StoredTensor,
        activation: Activation,
        precision: Precision,
        device: &Device,
    ) -> Result<Self> {
        let &[width, depth] = gate.shape() else {
            bail!("gated linear: weights have shape {:?}, expected two dimensions", gate.shape());
        };
        if value.shape() != gate.shape() {
            bail!("gated linear: gates have shape {:?}, values {:?}", gate.shape(), value.shape());
        }
        let padded = Self::padded(width);
        let mut sources = Vec::with_capacity(2 * padded);
        for group in (0..padded).step_by(GROUP) {
            for part in 0..2 {
                let rows = group..group + GROUP;
                sources.extend(rows.map(|row| (row < width).then_some((part, row))));
            }
        }
        let weights = LinearWeights::new(&[gate, value], &sources, depth, precision, device)?;
        Ok(Self { weights, activation })
    }

    /// The output width for weights of this width.
    pub fn padded(width: usize) -> usize {
        width.next_multiple_of(GROUP)
    }

    /// Size of its weights in memory, in bytes.
    pub fn weight_bytes(&self) -> usize {
        self.weights.bytes()
    }

    /// The layout in which it takes its input.
    pub fn input_layout(&self) -> InputLayout {
        self.weights.input_layout()
    }

    /// `act(x G^T) * (x V^T)` for an input in this layer's layout, with the result in the next
    /// layer's.
    ///
    /// # Errors
    /// Mismatched shapes, or a device failure.
    pub fn apply_for(&self, x: &LinearInput, next: InputLayout) -> Result<LinearInput> {
        match Backend::of(self.weights.device()) {
            Backend::Cpu => {
                let epilogue = Epilogue::Gated { activation: self.activation };
                self.weights.multiply_for(x, &epilogue, next)
            }
            Backend::Cuda => {
                let (weights, x) = self.weights.tensors(x)?;
                let gated = launch::linear::gated(x, weights, self.activation)?;
                Ok(LinearInput(Inner::Tensor(gated.to_dtype(next.dtype()?)?)))
            }
            Backend::Reference => {
                let (weights, x) = self.weights.tensors(x)?;
                let gated = reference::linear::gated(x, weights, GROUP, self.activation)?;
                Ok(LinearInput(Inner::Tensor(gated.to_dtype(next.dtype()?)?)))
            }
        }
    }
}
