//! Every CUDA kernel, from the sources that nvcc compiles, against its plain form. proxima-emulator
//! runs them on the CPU, so no GPU is needed.
//!
//! Must not know: how kernels are loaded and launched on a GPU.

mod attention;
mod device;
mod elementwise;
mod embedding;
mod norms;
mod pooling;
