//! Plans for few rows, found by timing: the fastest of the algorithms that give the same bits as
//! the plan for more rows. cuBLASLt's own choice, with split-K forbidden, can be ten times slower.
//!
//! Must not know: layers, the actual inputs.

use std::time::{Duration, Instant};

use candle_core::cuda_backend::WrapErr as _;
use candle_core::{DType, Device, Tensor};

use super::{
    Gemm, GemmPlan, Library, MatrixLayouts, NOT_SUPPORTED, Operation, ROWS_LEAST, Shape, failed,
    sys,
};
use crate::KernelError;

/// Launches per timing.
const LAUNCHES: u32 = 10;
/// Rows of a second shape, whose algorithms are tried too.
const ROWS_FEWER: usize = 16;

impl Library {
    /// The plan for a shape of few rows, timed with these weights.
    pub(super) fn tuned(&self, product: &Gemm<'_>, shape: Shape) -> Result<GemmPlan, KernelError> {
        let mut best = self.plan(Shape { rows: ROWS_LEAST, ..shape })?;
        let device = product.x.device();
        let x = noise(shape.rows, shape.depth, shape.dtype, device)?;
        let added = product.added.map(|_| noise(shape.rows, shape.columns, shape.out, device));
        let added = added.transpose()?;
        let trial = Gemm { x: &x, added: added.as_ref(), ..*product };
        let Some(wanted) = self.result(&trial, shape, &best)? else { return self.plan(shape) };
        let mut fastest = self.time(&trial, shape, &best)?;
        for algorithm in self.for_few(shape)? {
            let plan = GemmPlan { operation: Operation::of(shape)?, algorithm };
            if self.result(&trial, shape, &plan)?.is_some_and(|result| result == wanted) {
                let time = self.time(&trial, shape, &plan)?;
                if time < fastest {
                    (best, fastest) = (plan, time);
                }
            }
        }
        Ok(best)
    }

    /// Algorithms for a shape of few rows that also support single rows.
    fn for_few(&self, shape: Shape) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, KernelError> {
        let (operation, single) =
            (Operation::of(shape)?, MatrixLayouts::of(Shape { rows: 1, ..shape })?);
        let mut found = self.candidates(shape)?;
        // Finding none for the second shape is not an error.
        found.extend(self.candidates(Shape { rows: ROWS_FEWER, ..shape }).unwrap_or_default());
        found.retain(|algorithm| self.computes(&operation, &single, algorithm));
        Ok(found)
    }

    /// The bits that a plan computes; `None` if it does not support the shape.
    fn result(
        &self,
        product: &Gemm<'_>,
        shape: Shape,
        plan: &GemmPlan,
    ) -> Result<Option<Vec<u32>>, KernelError> {
        let out = Tensor::zeros((shape.rows, shape.columns), shape.out, product.x.device())?;
        match self.start(product, shape, plan, &out)? {
            Err(error) if error.0 == NOT_SUPPORTED => return Ok(None),
            started => started.map_err(failed)?,
        }
        let values: Vec<f32> =
            out.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        Ok(Some(values.into_iter().map(f32::to_bits).collect()))
    }

    /// How long `LAUNCHES` launches take.
    fn time(
        &self,
        product: &Gemm<'_>,
        shape: Shape,
        plan: &GemmPlan,
    ) -> Result<Duration, KernelError> {
        let out = Tensor::zeros((shape.rows, shape.columns), shape.out, product.x.device())?;
        self.stream.synchronize().w()?;
        let begun = Instant::now();
        for _ in 0..LAUNCHES {
            self.start(product, shape, plan, &out)?.map_err(failed)?;
        }
        self.stream.synchronize().w()?;
        Ok(begun.elapsed())
    }
}

/// Fixed pseudo-random values in -1..1.
fn noise(rows: usize, width: usize, dtype: DType, device: &Device) -> Result<Tensor, KernelError> {
    let mut state = 0x9e37_79b9_u32;
    let mut values: Vec<f32> = Vec::with_capacity(rows * width);
    for _ in 0..rows * width {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        values.push(state as f32 / (1u32 << 31) as f32 - 1.0);
    }
    Tensor::from_vec(values, (rows, width), &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
}
