//! Images and videos: what callers send, and the pixels a vision network is given.
//!
//! Must not know: tokens, tensors, the network, where bytes came from.

mod error;
mod file;
mod pixels;
mod video;

pub use error::MediaError;
pub use file::{MediaFile, Video, VideoSource};
pub use pixels::{Clip, Pixels};
pub use video::{TakeFrame, VideoInfo, VideoReader};
