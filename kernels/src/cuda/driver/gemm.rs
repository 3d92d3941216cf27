//! GEMMs by cuBLASLt, with plans found once per shape.
//!
//! Must not know: layers, what a product is for.

mod tuning;

use std::collections::{HashMap, HashSet};
use std::ffi::c_void;
use std::mem::{MaybeUninit, size_of};
use std::sync::{Arc, LazyLock};

use candle_core::cuda_backend::{DeviceId, WrapErr as _};
use candle_core::{CudaDevice, DType, Tensor, bail};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr as _};
use parking_lot::Mutex;

use super::module::address;
use crate::KernelError;
use crate::cuda::types::Gemm;

/// The cuBLASLt state of each device.
static LIBRARIES: LazyLock<Mutex<HashMap<DeviceId, Arc<Mutex<Library>>>>> =
    LazyLock::new(Mutex::default);

/// Workspace for cuBLASLt: the size that NVIDIA recommends for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;
/// Rows of the smallest plan that cuBLASLt chooses.
const ROWS_LEAST: usize = 512;
/// Rows of the plan that is chosen by timing.
const ROWS_FEW: usize = 64;
/// Algorithms requested from cuBLASLt, best first.
const CANDIDATES: usize = 16;
const NOT_SUPPORTED: sys::cublasStatus_t = sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED;
/// Plans are cached for this many shapes.
const PLANS_MAX: usize = 4096;

/// `x W^T + bias + added` for `x` `[rows, depth]` and `W` `[columns, depth]` of the same dtype,
/// accumulated in float32, rounded and written to `out`.
///
/// The sum over the depth is never split among blocks (no split-K), so the order in which a row is
/// summed does not depend on the number of rows, as long as cuBLASLt chooses kernels of one kind.
///
/// # Errors
///
/// Mismatched shapes or dtypes, tensors of another device, or a failure of cuBLASLt.
pub fn gemm(product: &Gemm<'_>, out: &Tensor) -> Result<(), KernelError> {
    let shape = Shape::of(product, out.dtype())?;
    if out.dims() != [shape.rows, shape.columns] {
        bail!("a product of {} x {} for {:?}", shape.rows, shape.columns, out.shape())
    }
    let library = library(product.x.device().as_cuda_device()?)?;
    library.lock().run(product, shape, out)
}

/// Drops the cuBLASLt state of a device.
pub(super) fn forget(device: &CudaDevice) {
    LIBRARIES.lock().remove(&device.id());
}

fn library(device: &CudaDevice) -> Result<Arc<Mutex<Library>>, KernelError> {
    let mut libraries = LIBRARIES.lock();
    if let Some(library) = libraries.get(&device.id()) {
        return Ok(library.clone());
    }
    let library = Arc::new(Mutex::new(Library::new(device)?));
    libraries.insert(device.id(), library.clone());
    Ok(library)
}

/// What distinguishes one GEMM from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Shape {
    rows: usize,
    columns: usize,
    depth: usize,
    dtype: DType,
    out: DType,
    bias: bool,
    added: bool,
}

impl Shape {
    fn of(product: &Gemm<'_>, out: DType) -> Result<Self, KernelError> {
        let (rows, depth) = product.x.dims2()?;
        let (columns, weights_depth) = product.weights.dims2()?;
        let dtype = product.x.dtype();
        if depth != weights_depth || dtype != product.weights.dtype() {
            bail!(
                "a product of {:?} ({dtype:?}) and {:?} ({:?})",
                product.x.shape(),
                product.weights.shape(),
                product.weights.dtype()
            )
        }
        if product.bias.is_some_and(|bias| bias.dims() != [columns] || bias.dtype() != out) {
            bail!(
                "gemm: the bias has shape {:?}, expected [{columns}]",
                product.bias.map(Tensor::shape)
            )
        }
        if product
            .added
            .is_some_and(|added| added.dims() != [rows, columns] || added.dtype() != out)
        {
            bail!(
                "gemm: added rows have shape {:?}, expected [{rows}, {columns}]",
                product.added.map(Tensor::shape)
            )
        }
        let (bias, added) = (product.bias.is_some(), product.added.is_some());
        Ok(Self { rows, columns, depth, dtype, out, bias, added })
    }

    /// The shape whose plan is used: the number of rows is rounded up to one of a few values, so
    /// that few plans are cached.
    ///
    /// In float32 one plan computes any number of rows, because cuBLASLt's kernels for more rows
    /// sum in another order; those for tensor cores do not. Plans that cuBLASLt chooses for few
    /// rows are slower than those for several hundred.
    fn planned(self) -> Self {
        let step = match self.rows {
            _ if self.dtype == DType::F32 => return Self { rows: ROWS_LEAST, ..self },
            rows if rows <= ROWS_FEW => ROWS_FEW,
            rows if rows <= 4096 => ROWS_LEAST,
            _ => 4096,
        };
        Self { rows: self.rows.next_multiple_of(step), ..self }
    }
}

/// cuBLASLt on one device, for its one stream.
struct Library {
    handle: sys::cublasLtHandle_t,
    stream: Arc<CudaStream>,
    workspace: CudaSlice<u8>,
    plans: HashMap<Shape, GemmPlan>,
    /// Shapes with a plan of their own, because the plan for the rounded number of rows does not
    /// support them.
    exact: HashSet<Shape>,
}

// SAFETY: a cuBLASLt handle may be used from any thread, and a lock guards the whole struct.
unsafe impl Send for Library {}

impl Library {
    fn new(device: &CudaDevice) -> Result<Self, KernelError> {
        let stream = device.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let workspace = stream.alloc_zeros::<u8>(WORKSPACE_BYTES).w()?;
        let handle = result::create_handle().map_err(failed)?;
        Ok(Self { handle, stream, workspace, plans: HashMap::new(), exact: HashSet::new() })
    }

    fn run(&mut self, product: &Gemm<'_>, shape: Shape, out: &Tensor) -> Result<(), KernelError> {
        self.stream.context().bind_to_thread().w()?;
        let planned = if self.exact.contains(&shape) { shape } else { shape.planned() };
        let mut done = self.run_plan(product, shape, planned, out)?;
        if planned != shape && done.as_ref().is_err_and(|error| error.0 == NOT_SUPPORTED) {
            // The algorithm for the planned number of rows does not support this one.
            if self.exact.len() >= PLANS_MAX {
                self.exact.clear();
            }
            self.exact.insert(shape);
            done = self.run_plan(product, shape, shape, out)?;
        }
        done.map_err(|error| failed(error).context(format!("a product of {shape:?}")))
    }

    /// Runs a GEMM of `shape` with the plan of `planned`, which is made if missing.
    fn run_plan(
        &mut self,
        product: &Gemm<'_>,
        shape: Shape,
        planned: Shape,
        out: &Tensor,
    ) -> Result<Result<(), CublasError>, KernelError> {
        if !self.plans.contains_key(&planned) {
            let is_for_few = planned.rows == ROWS_FEW && planned == shape.planned();
            let plan = match is_for_few {
                true => self.tuned(product, planned)?,
                false => self.plan(planned)?,
            };
            if self.plans.len() >= PLANS_MAX {
                self.plans.clear();
            }
            self.plans.insert(planned, plan);
        }
        let Some(plan) = self.plans.get(&planned) else { bail!("no plan for {shape:?}") };
        self.start(product, shape, plan, out)
    }

    /// Launches a GEMM of a shape with a plan.
    fn start(
        &self,
        product: &Gemm<'_>,
        shape: Shape,
        plan: &GemmPlan,
        out: &Tensor,
    ) -> Result<Result<(), CublasError>, KernelError> {
        let pointer = |tensor: &Tensor| address(tensor).map(|address| address as *const c_void);
        if let Some(bias) = product.bias {
            plan.operation.set(
                sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                &address(bias)?,
            )?;
        }
        let layouts = MatrixLayouts::of(shape)?;
        let result = pointer(out)?;
        let added = product.added.map_or(Ok(result), pointer)?;
        let (one, beta) = (1.0f32, if shape.added { 1.0f32 } else { 0.0 });
        let (workspace, _guard) = self.workspace.device_ptr(&self.stream);
        // SAFETY: all descriptors are alive; the tensors have the shapes that they describe, on
        // this device, and are freed in stream order.
        Ok(unsafe {
            result::matmul(
                self.handle,
                plan.operation.0,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                pointer(product.weights)?,
                layouts.weights.0,
                pointer(product.x)?,
                layouts.x.0,
                added,
                layouts.out.0,
                result.cast_mut(),
                layouts.out.0,
                &plan.algorithm,
                workspace as *mut c_void,
                WORKSPACE_BYTES,
                self.stream.cu_stream().cast(),
            )
        })
    }

    /// The plan of a shape: cuBLASLt's best algorithm, preferably one that also supports single
    /// rows.
    fn plan(&self, shape: Shape) -> Result<GemmPlan, KernelError> {
        let found = self.candidates(shape)?;
        let (operation, layouts) = (Operation::of(shape)?, MatrixLayouts::of(shape)?);
        let single = MatrixLayouts::of(Shape { rows: 1, ..shape })?;
        let best = found.iter().find(|one| {
            self.computes(&operation, &layouts, one) && self.computes(&operation, &single, one)
        });
        let Some(best) = best.or(found.first()) else {
            bail!("cuBLASLt has no algorithm for {shape:?}")
        };
        Ok(GemmPlan { operation, algorithm: *best })
    }

    /// Algorithms for a shape, fastest first by cuBLASLt's estimate.
    fn candidates(&self, shape: Shape) -> Result<Vec<sys::cublasLtMatmulAlgo_t>, KernelError> {
        let operation = Operation::of(shape)?;
        let layouts = MatrixLayouts::of(shape)?;
        let wish = Preference::new()?;
        wish.set(
            sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            &WORKSPACE_BYTES,
        )?;
        // No split-K reduction: its order would depend on the number of rows.
        wish.set(
            sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            &0u32,
        )?;
        let mut found = [const { MaybeUninit::zeroed() }; CANDIDATES];
        let mut count = 0;
        // SAFETY: all descriptors were created above; cuBLASLt writes at most `CANDIDATES` results.
        unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                operation.0,
                layouts.weights.0,
                layouts.x.0,
                layouts.out.0,
                layouts.out.0,
                wish.0,
                CANDIDATES as i32,
                found.as_mut_ptr().cast(),
                &mut count,
            )
        }
        .result()
        .map_err(failed)?;
        // SAFETY: the results are plain data, for which zeros are valid.
        let found = found.map(|one: MaybeUninit<sys::cublasLtMatmulHeuristicResult_t>| unsafe {
            one.assume_init()
        });
        let found = found.iter().take(usize::try_from(count).unwrap_or(0));
        Ok(found.map(|one| one.algo).collect())
    }

    /// Whether an algorithm supports matrices of these layouts.
    fn computes(
        &self,
        operation: &Operation,
        layouts: &MatrixLayouts,
        algorithm: &sys::cublasLtMatmulAlgo_t,
    ) -> bool {
        let mut result = MaybeUninit::zeroed();
        // SAFETY: all descriptors are alive; cuBLASLt reads the algorithm and writes one result.
        let checked = unsafe {
            sys::cublasLtMatmulAlgoCheck(
                self.handle,
                operation.0,
                layouts.weights.0,
                layouts.x.0,
                layouts.out.0,
                layouts.out.0,
                algorithm,
                result.as_mut_ptr(),
            )
        };
        // SAFETY: it is plain data, for which zeros are valid.
        let result: sys::cublasLtMatmulHeuristicResult_t = unsafe { result.assume_init() };
        checked.result().is_ok() && result.workspaceSize <= WORKSPACE_BYTES
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: `new` created the handle, and nothing uses it any more. A failure to destroy it
        // has no consequences.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

/// How a shape is computed: matmul descriptor and algorithm.
struct GemmPlan {
    operation: Operation,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// A matmul descriptor.
struct Operation(sys::cublasLtMatmulDesc_t);

impl Operation {
    fn of(shape: Shape) -> Result<Self, KernelError> {
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let made = result::create_matmul_desc(sums, sys::cudaDataType_t::CUDA_R_32F);
        let operation = made.map(Self).map_err(failed)?;
        // cuBLASLt matrices are column-major, so ours appear transposed. Weights therefore come
        // first, and are transposed back.
        const TURNED: i32 = 1;
        operation.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, &TURNED)?;
        if shape.bias {
            operation.set(
                sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_EPILOGUE,
                &sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            )?;
        }
        Ok(operation)
    }

    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulDescAttributes_t,
        value: &T,
    ) -> Result<(), KernelError> {
        // SAFETY: the descriptor is alive; cuBLASLt copies a value of the attribute's size, which
        // is that of `T` for each attribute set here.
        let set = unsafe {
            result::set_matmul_desc_attribute(
                self.0,
                attribute,
                (&raw const *value).cast(),
                size_of::<T>(),
            )
        };
        set.map_err(failed)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: `of` created it, and nothing uses it any more.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// Layouts of a GEMM's matrices.
struct MatrixLayouts {
    weights: MatrixLayout,
    x: MatrixLayout,
    out: MatrixLayout,
}

impl MatrixLayouts {
    fn of(shape: Shape) -> Result<Self, KernelError> {
        Ok(Self {
            weights: MatrixLayout::new(shape.dtype, shape.depth, shape.columns)?,
            x: MatrixLayout::new(shape.dtype, shape.depth, shape.rows)?,
            out: MatrixLayout::new(shape.out, shape.columns, shape.rows)?,
        })
    }
}

/// Layout of a column-major matrix: `columns` columns of `height` contiguous elements.
struct MatrixLayout(sys::cublasLtMatrixLayout_t);

impl MatrixLayout {
    fn new(dtype: DType, height: usize, columns: usize) -> Result<Self, KernelError> {
        let dtype = match dtype {
            DType::F32 => sys::cudaDataType_t::CUDA_R_32F,
            DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
            DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
            other => bail!("cuBLASLt is not asked for products of {other:?}"),
        };
        let layout =
            result::create_matrix_layout(dtype, height as u64, columns as u64, height as i64);
        layout.map(Self).map_err(failed)
    }
}

impl Drop for MatrixLayout {
    fn drop(&mut self) {
        // SAFETY: `new` created it, and nothing uses it any more.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// Preferences for the search of algorithms.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new() -> Result<Self, KernelError> {
        result::create_matmul_pref().map(Self).map_err(failed)
    }

    fn set<T>(
        &self,
        attribute: sys::cublasLtMatmulPreferenceAttributes_t,
        value: &T,
    ) -> Result<(), KernelError> {
        // SAFETY: as in `Operation::set`.
        let set = unsafe {
            result::set_matmul_pref_attribute(
                self.0,
                attribute,
                (&raw const *value).cast(),
                size_of::<T>(),
            )
        };
        set.map_err(failed)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: `new` created it, and nothing uses it any more.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

fn failed(error: CublasError) -> KernelError {
    match error.0 {
        sys::cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED => {
            let kind = std::io::ErrorKind::OutOfMemory;
            KernelError::Io(std::io::Error::new(kind, "cuBLASLt has no memory"))
        }
        _ => KernelError::wrap(error),
    }
}
