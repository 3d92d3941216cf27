//! Images and videos: what callers send, and the pixels a vision network is given.
//!
//! Must not know: tokens, tensors, the network, where bytes came from.

mod cache;
mod decode;
mod error;
mod file;
mod pixels;
mod preprocess;
mod resample;
mod room;
mod sizes;
mod video;

pub use error::MediaError;
pub use file::{MediaFile, Video, VideoSource};
pub use pixels::{Clip, Pixels};
pub use preprocess::{MediaOptions, Preprocessor};
pub use video::{TakeFrame, VideoInfo, VideoReader};
