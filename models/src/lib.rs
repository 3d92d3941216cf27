//! Checkpoints, tokens and tensors: everything from files on disk to hidden states, vectors and
//! scores.
//!
//! Must not know: tokio, HTTP, wire formats, the network, environment variables, the clock.

#![forbid(unsafe_code)]

pub mod batch;
pub mod checkpoint;
pub mod conventions;
pub mod families;
pub mod info;
pub mod input;
pub mod item;
pub mod layers;
mod load;
mod memory;
pub mod model;
mod precision;
mod progress;
pub mod readout;
pub mod recipes;
mod task;

pub use batch::{Encoder, HiddenStates, Prefix, RaggedBatch, Sequence};
pub use checkpoint::{Checkpoint, CheckpointError};
pub use info::{Capabilities, ModelInfo};
pub use input::{Input, InputError, ListwiseTemplate, Prepare, Prompt, TruncationSide};
pub use item::{Content, Item, Part};
pub use load::LoadOptions;
pub use memory::memory_needed;
pub use model::Model;
pub use progress::Progress;
pub use proxima_kernels::spec::Precision;
pub use proxima_kernels::{
    Allocator, BatchRows, DeviceChoice, Loading, OpenDevice, instruction_set, is_out_of_memory,
    sentence,
};
pub use proxima_media as media;
pub use proxima_media::{ImageHeader, MediaFile, Video, VideoSource};
pub use task::Task;

/// A failure while a model runs.
pub use proxima_kernels::KernelError as ModelError;

/// Sets the number of threads for kernels; only the first call in a process has an effect.
pub use proxima_kernels::{check_instruction_set, set_threads};
