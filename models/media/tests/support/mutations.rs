//! Corrupts valid files, from a seed, and checks that none does harm.

use std::sync::Arc;

use proxima_media::{MediaError, MediaFile, MediaOptions, Preprocessor, Video, VideoSource};

/// A small pseudo-random number generator.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        ((self.0 >> 33) as usize) % end.max(1)
    }
}

/// A file with a few bits, bytes, integers or slices changed.
pub fn mutate(file: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..=random.below(6) {
        if file.is_empty() {
            break;
        }
        // Headers are short and matter more than what follows.
        let reach = if random.below(2) == 0 { file.len().min(96) } else { file.len() };
        let at = random.below(reach);
        let end = (at + 1 + random.below(16)).min(file.len());
        match random.below(8) {
            0 => file[at] ^= 1 << random.below(8),
            1 => file[at] = random.below(256) as u8,
            2 => file[at..end].fill([0, 0xff, 0x7f, 0x80][random.below(4)]),
            3 => file.truncate(at),
            4 => drop(file.drain(at..end)),
            5 => {
                let piece = file[at..end].to_vec();
                let to = random.below(file.len());
                file.splice(to..to, piece);
            }
            6 => {
                let from = random.below(other.len());
                let piece = &other[from..(from + 24).min(other.len())];
                let size = piece.len().min(file.len() - at);
                file[at..at + size].copy_from_slice(&piece[..size]);
            }
            _ => {
                let number = [0u32, 1, 0x7fff_ffff, 0xffff_ffff, 0x1_0000][random.below(5)];
                let bytes = number.to_le_bytes();
                let size = (1 << random.below(3)).min(file.len() - at);
                file[at..at + size].copy_from_slice(&bytes[..size]);
            }
        }
    }
    if file.starts_with(b"\x89PNG") && random.below(4) > 0 {
        sum_up(&mut file);
    }
    file
}

/// The checksum of a PNG chunk.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 * (crc & 1));
        }
    }
    !crc
}

/// Corrects the checksum of each chunk of a PNG file; otherwise most changes would never be parsed.
fn sum_up(file: &mut [u8]) {
    let mut at = 8;
    while let Some(size) = file.get(at..).and_then(|rest| rest.first_chunk()) {
        let end = (at + 8).saturating_add(u32::from_be_bytes(*size) as usize);
        let Some(name_and_data) = file.get(at + 4..end) else { break };
        let sum = crc32(name_and_data).to_be_bytes();
        let Some(stored) = file.get_mut(end..end + 4) else { break };
        stored.copy_from_slice(&sum);
        at = end + 4;
    }
}

/// A preprocessor for small images.
pub fn preprocessor() -> Preprocessor {
    let options = MediaOptions {
        pixels_max: 1 << 18,
        frames_max: 128,
        cache_bytes_max: 1 << 20,
        reader: None,
        live_bytes_max: 1 << 30,
        decode_bytes_max: 1 << 30,
    };
    Preprocessor::new(&options, 32)
}

/// Decodes a file in every possible way and checks that results are complete. Returns whether it is
/// an image.
pub fn take(preprocessor: &Preprocessor, bytes: Vec<u8>, sound: &Arc<MediaFile>) -> bool {
    let file = Arc::new(MediaFile::new(bytes));
    let image = preprocessor.image(&file);
    if let Ok(pixels) = &image {
        assert_eq!(pixels.frame(0).len(), pixels.width() * pixels.height() * 3);
        assert!(pixels.width() * pixels.height() <= 1800 * 32 * 32);
    }
    let video = |source| preprocessor.video(&Video { source, fps: None, frames_max: Some(4) });
    let frames = vec![sound.clone(), file.clone()];
    let clips = [video(VideoSource::Frames(frames)), video(VideoSource::File(file))];
    for error in clips.iter().filter_map(|clip| clip.as_ref().err()).chain(image.as_ref().err()) {
        // A decoder's panic becomes an error; here it counts as a bug of ours.
        assert!(!matches!(error, MediaError::GaveUp { .. }), "{error}");
    }
    for clip in clips.into_iter().flatten() {
        assert_eq!(clip.groups.len(), clip.seconds.len());
        assert!(clip.groups.iter().all(|group| group.frames() == 2));
        assert!(clip.seconds.iter().all(|seconds| seconds.is_finite()));
    }
    image.is_ok()
}
