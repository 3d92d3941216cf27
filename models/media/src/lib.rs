//! Images and videos: from the files that callers send to the pixels a vision network takes.
//!
//! Must not know: tokens, tensors, the network, where bytes came from.

#![forbid(unsafe_code)]

mod cache;
mod decode;
mod error;
mod file;
mod header;
mod memory_budget;
mod pixels;
mod preprocess;
mod resample;
mod size;
mod sizes;
mod video;

pub use error::MediaError;
pub use file::{MediaFile, Video, VideoSource};
pub use header::ImageHeader;
pub use pixels::{Clip, Pixels};
pub use preprocess::{MediaOptions, Preprocessor};
pub use video::{TakeFrame, VideoInfo, VideoReader};
