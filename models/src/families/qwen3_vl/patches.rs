//! The geometry of patches: their order and positions, their pixels, and the learned positions
//! around them.
//!
//! Must not know: layers, tensors.

use proxima_kernels::spec::Corner;
use proxima_media::Pixels;

/// Side of a patch, in pixels.
pub const PATCH: usize = 16;
/// Side of the square of patches that becomes one token.
pub const MERGE: usize = 2;
/// Frames per patch.
pub const FRAMES: usize = 2;
/// Values per pixel.
pub const CHANNELS: usize = 3;
/// Values per patch.
pub const PATCH_VALUES: usize = CHANNELS * FRAMES * PATCH * PATCH;

/// Rows and columns of patches in an image.
pub fn grid(pixels: &Pixels) -> [usize; 2] {
    [pixels.height() / PATCH, pixels.width() / PATCH]
}

/// Row and column of each patch of a grid; the patches of a token are consecutive.
pub fn coordinates([rows, columns]: [usize; 2]) -> impl Iterator<Item = [u32; 2]> {
    let inside = |block: usize| (0..MERGE).map(move |within| block * MERGE + within);
    (0..rows / MERGE).flat_map(move |block_row| {
        (0..columns / MERGE).flat_map(move |block_column| {
            let rows = inside(block_row);
            rows.flat_map(move |row| {
                inside(block_column).map(move |column| [row as u32, column as u32])
            })
        })
    })
}

/// Writes a patch's values, `[channels][frames][rows][columns]`, from -1 to 1. Missing frames are
/// replaced by the last one.
pub fn patch(pixels: &Pixels, [row, column]: [u32; 2], out: &mut [f32]) {
    let (top, left) = (row as usize * PATCH, column as usize * PATCH);
    for (plane, out) in out.chunks_exact_mut(PATCH * PATCH).enumerate() {
        let (channel, frame) = (plane / FRAMES, plane % FRAMES);
        let frame = pixels.frame(frame.min(pixels.frames() - 1));
        for (line, out) in out.chunks_exact_mut(PATCH).enumerate() {
            let first = ((top + line) * pixels.width() + left) * CHANNELS + channel;
            let line = frame[first..].iter().step_by(CHANNELS);
            line.zip(out).for_each(|(pixel, out)| *out = (f32::from(*pixel) - 127.5) / 127.5);
        }
    }
}

/// Spreads `count` positions evenly over a learned axis of `points`. For each: the point before it,
/// the next one, and its fraction of the way. In float32, as in the reference's `linspace`.
fn spread(count: usize, points: usize) -> Vec<(u32, u32, f32)> {
    let last = (points - 1) as f32;
    let step = if count > 1 { last / (count - 1) as f32 } else { 0.0 };
    let around = (0..count).map(|index| {
        let (from_start, from_end) = (step * index as f32, step * (count - 1 - index) as f32);
        let at = if count == 1 {
            0.0
        } else if index < count / 2 {
            from_start
        } else {
            last - from_end
        };
        let before = at as u32;
        (before, (before + 1).min(points as u32 - 1), at - before as f32)
    });
    around.collect()
}

/// The four learned positions around each patch of a grid, with bilinear weights, from a square
/// table with `side` rows and columns; the patches of a token are consecutive.
pub fn corners([rows, columns]: [usize; 2], side: usize) -> impl Iterator<Item = [Corner; 4]> {
    let (down, across) = (spread(rows, side), spread(columns, side));
    coordinates([rows, columns]).map(move |[row, column]| {
        let (above, below, down) = down[row as usize];
        let (left, right, across) = across[column as usize];
        let corner =
            |row: u32, column: u32, weight: f32| Corner { row: row * side as u32 + column, weight };
        [
            corner(above, left, (1.0 - down) * (1.0 - across)),
            corner(above, right, (1.0 - down) * across),
            corner(below, left, down * (1.0 - across)),
            corner(below, right, down * across),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_of_a_token_are_together() {
        let found: Vec<[u32; 2]> = coordinates([2, 4]).collect();
        assert_eq!(found, [[0, 0], [0, 1], [1, 0], [1, 1], [0, 2], [0, 3], [1, 2], [1, 3]]);
    }

    #[test]
    fn a_patch_holds_its_part_of_each_frame() {
        let (width, height) = (32, 32);
        let frame = |add: usize| {
            (0..width * height * 3).map(move |at| ((at / 3 + at % 3 + add) % 251) as u8)
        };
        let pixels = Pixels::new(width, height, frame(0).chain(frame(7)).collect());
        let mut out = vec![0.0; PATCH_VALUES];
        patch(&pixels, [1, 1], &mut out);
        let wanted = |channel: usize, add: usize, line: usize, at: usize| {
            let pixel = (16 + line) * width + 16 + at;
            (((pixel + channel + add) % 251) as f32 - 127.5) / 127.5
        };
        assert_eq!(out[0], wanted(0, 0, 0, 0));
        assert_eq!(out[256 + 5 * 16 + 3], wanted(0, 7, 5, 3));
        assert_eq!(out[2 * 256], wanted(1, 0, 0, 0));
        assert_eq!(out[PATCH_VALUES - 1], wanted(2, 7, 15, 15));
    }

    #[test]
    fn a_grid_of_the_tables_size_is_read_at_its_points() {
        for (position, corners) in coordinates([4, 4]).zip(corners([4, 4], 4)) {
            let [Corner { row, weight }, ..] = corners;
            assert_eq!((row, weight), (position[0] * 4 + position[1], 1.0));
        }
        let weights = corners([6, 2], 48)
            .map(|around| around.iter().map(|corner| corner.weight).sum::<f32>());
        assert!(weights.into_iter().all(|sum| (sum - 1.0).abs() < 1e-6));
    }
}
