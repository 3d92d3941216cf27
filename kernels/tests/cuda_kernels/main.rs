//! Every CUDA kernel, from the sources that nvcc compiles, against its plain form: run on the CPU
//! by proxima-emulator, so that no GPU is needed.
//!
//! Must not know: how kernels are loaded and launched on a GPU.

mod attention;
mod device;
mod elementwise;
mod embedding;
mod norms;
mod pooling;
