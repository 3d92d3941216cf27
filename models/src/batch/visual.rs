//! Rows of a sequence that stand for images and frames, and their positions.
//!
//! Must not know: how pixels become hidden states.

use std::ops::Range;
use std::sync::Arc;

use super::Sequence;
use proxima_media::Pixels;

/// Set in pixel ids, never in vocabulary ids.
const VISUAL_BIT: u32 = 1 << 31;

/// An image, or a group of frames that are encoded together, in a sequence or a batch.
#[derive(Debug, Clone)]
pub struct Visual {
    /// Index of its first row there.
    pub start: usize,
    /// Height and width of its grid of rows.
    pub grid: [usize; 2],
    /// The pixels.
    pub pixels: Arc<Pixels>,
}

impl Visual {
    /// Its rows.
    pub fn rows(&self) -> Range<usize> {
        self.start..self.start + self.grid[0] * self.grid[1]
    }

    /// Ids for its rows: the digest that identifies its pixels, 31 bits per row, repeated. Equal
    /// ids thus mean equal pixels, and code that compares sequences by ids need not know of images.
    /// Models give an image at least four rows.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        let words = self.pixels.digest().chunks_exact(4);
        let word = |word: &[u8]| u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        let ids = words.map(move |bytes| VISUAL_BIT | word(bytes));
        ids.cycle().take(self.rows().len())
    }

    /// Whether an id stands for pixels.
    pub fn stands_for(id: u32) -> bool {
        id & VISUAL_BIT != 0
    }
}

/// Parts of sequences, in the order of the batch.
#[derive(Debug, Default)]
pub(super) struct Gathered<'a> {
    parts: Vec<(&'a Sequence, Range<usize>)>,
}

impl<'a> Gathered<'a> {
    /// Appends a part of a sequence. It holds each image whole or not at all.
    pub fn add(&mut self, sequence: &'a Sequence, part: Range<usize>) {
        self.parts.push((sequence, part));
    }

    /// The batch's images, and the (time, height, width) positions of its rows. A sequence may
    /// continue after an image cached from an earlier batch: then there are positions without
    /// images. Both are empty if no sequence has an image.
    pub fn finish(self) -> (Vec<Visual>, Vec<[u32; 3]>) {
        let (mut visuals, mut positions) = (Vec::new(), Vec::new());
        let mut row = 0;
        for (sequence, part) in &self.parts {
            let inside = sequence.visuals.iter().filter(|visual| part.contains(&visual.start));
            visuals.extend(inside.map(|visual| {
                let start = row + visual.start - part.start;
                Visual { start, ..visual.clone() }
            }));
            row += part.len();
        }
        if self.parts.iter().any(|(sequence, _)| !sequence.visuals.is_empty()) {
            for (sequence, part) in self.parts {
                positions.extend_from_slice(&mrope_positions_of(sequence)[part]);
            }
        }
        (visuals, positions)
    }
}

/// M-RoPE positions (time, height, width) of a sequence's rows (transformers
/// `modeling_qwen3_vl.py`, `get_rope_index`): text advances in all three, an image has a single
/// time, and what follows it starts after its longer side.
fn mrope_positions_of(sequence: &Sequence) -> Vec<[u32; 3]> {
    let mut positions: Vec<[u32; 3]> = Vec::with_capacity(sequence.tokens.len());
    let mut next = 0;
    for visual in &sequence.visuals {
        let texts = (visual.start - positions.len()) as u32;
        positions.extend((next..next + texts).map(|position| [position; 3]));
        next += texts;
        let [rows, columns] = visual.grid.map(|side| side as u32);
        let grid = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        positions.extend(grid.map(|(row, column)| [next, next + row, next + column]));
        next += rows.max(columns);
    }
    let texts = (sequence.tokens.len() - positions.len()) as u32;
    positions.extend((next..next + texts).map(|position| [position; 3]));
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::RaggedBatch;

    fn picture(colour: u8, [rows, columns]: [usize; 2], start: usize) -> Visual {
        let (height, width) = (rows * 2, columns * 2);
        let pixels = Pixels::new(width, height, vec![colour; width * height * 3]);
        Visual { start, grid: [rows, columns], pixels: Arc::new(pixels) }
    }

    /// Texts of these lengths, each followed by an image, and a last text.
    fn sequence(texts: &[u32], images: &[(u8, [usize; 2])], last: u32) -> Sequence {
        let mut sequence = Sequence::default();
        for (text, (colour, grid)) in texts.iter().zip(images) {
            sequence.tokens.extend(0..*text);
            let visual = picture(*colour, *grid, sequence.tokens.len());
            sequence.tokens.extend(visual.ids());
            sequence.visuals.push(visual);
        }
        sequence.tokens.extend(100..100 + last);
        sequence
    }

    #[test]
    fn positions_go_around_images_as_published() {
        let sequence = sequence(&[2, 1], &[(1, [2, 3]), (2, [3, 1])], 2);
        let image = [[2, 2, 2], [2, 2, 3], [2, 2, 4], [2, 3, 2], [2, 3, 3], [2, 3, 4]];
        let mut wanted = vec![[0; 3], [1; 3]];
        wanted.extend(image);
        wanted.extend([[5; 3], [6, 6, 6], [6, 7, 6], [6, 8, 6], [9; 3], [10; 3]]);
        assert_eq!(mrope_positions_of(&sequence), wanted);
    }

    #[test]
    fn equal_beginnings_with_an_image_are_one_segment_and_other_images_part_before_it() {
        let (red, blue) = ((1, [4, 5]), (2, [4, 5]));
        let red_and_more = sequence(&[20, 20], &[red, red], 3);
        let red_and_less = sequence(&[20], &[red], 30);
        let blue = sequence(&[20], &[blue], 30);
        let all = [&red_and_more, &red_and_less, &blue];
        let batch = RaggedBatch::sharing(&all, &[], |_| None);
        // The text, then the red image, then what differs.
        let lengths: Vec<usize> =
            batch.segments().iter().map(|segment| segment.rows.len()).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 20 + 20 + (20 + 20 + 3) + 30 + (20 + 30));
        assert_eq!(batch.visuals().len(), 3);
        for visual in batch.visuals() {
            let inside = |segment: &&proxima_kernels::spec::Segment| {
                segment.rows.start <= visual.start && visual.rows().end <= segment.rows.end
            };
            assert!(
                batch.segments().iter().any(|segment| inside(&segment)),
                "an image is in one segment"
            );
            let ids = &batch.tokens()[visual.rows()];
            assert!(ids.iter().all(|id| Visual::stands_for(*id)));
        }
        let positions = batch.mrope_positions().expect("there are images");
        assert_eq!(positions.len(), batch.tokens().len());
    }

    #[test]
    fn ids_that_agree_by_chance_do_not_share_an_image() {
        let mut one = sequence(&[20], &[(1, [4, 5])], 3);
        let mut other = sequence(&[20], &[(2, [4, 5])], 3);
        // As if the first 31 bits of both digests were the same.
        (one.tokens[20], other.tokens[20]) = (VISUAL_BIT, VISUAL_BIT);
        let batch = RaggedBatch::sharing(&[&one, &other], &[], |_| None);
        assert_eq!(batch.segments()[0].rows.len(), 20);
        assert_eq!(batch.visuals().len(), 2);
    }

    #[test]
    fn texts_alone_have_no_mrope_positions() {
        let text = sequence(&[], &[], 30);
        assert_eq!(RaggedBatch::new([&text]).mrope_positions(), None);
        let image = sequence(&[3], &[(1, [2, 2])], 1);
        let batch = RaggedBatch::new([&text, &image]);
        assert_eq!(batch.visuals()[0].rows(), 33..37);
        assert_eq!(batch.mrope_positions().map(<[_]>::len), Some(38));
    }
}
