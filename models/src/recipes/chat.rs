//! Shared by the Qwen3-VL recipes: a chat of texts, images and videos, written and tokenised piece
//! by piece (transformers `processing_qwen3_vl.py`).
//!
//! Must not know: which network follows, what the chat asks, where media come from.

mod template;

use std::sync::Arc;

use super::tokenizer::TextTokenizer;
use super::{Cancelled, NetworkTraits};
use crate::batch::{Sequence, Visual};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::input::{InputError, Prepare};
use crate::item::{Content, Item, Part};
use proxima_media::{MediaError, MediaOptions, Pixels, Preprocessor, VideoReader};

/// Side of a token's square of pixels: two patches of 16.
const FACTOR: usize = 32;
/// Replaces an item without parts.
const NOTHING: &str = "NULL";
/// Precedes an image or a group of frames.
const BEGIN: &str = "<|vision_start|>";
/// Follows an image or a group of frames.
const END: &str = "<|vision_end|>";

/// A tokenizer of texts and a preprocessor of media.
pub struct Chat {
    /// Tokenises the texts.
    pub tokenizer: TextTokenizer,
    media: Preprocessor,
}

impl Chat {
    /// The tokenizer and preprocessor of a checkpoint.
    ///
    /// # Errors
    /// A tokenizer that cannot be read, or a template for a different chat.
    pub fn load(
        checkpoint: &Checkpoint,
        traits: &NetworkTraits,
        media: &MediaOptions,
    ) -> Result<Self, CheckpointError> {
        template::check(checkpoint)?;
        let tokenizer = TextTokenizer::load(checkpoint, traits)?;
        for token in [BEGIN, END, "<|im_start|>", "<|im_end|>"] {
            tokenizer.id(checkpoint, token)?;
        }
        Ok(Self { tokenizer, media: Preprocessor::new(media, FACTOR) })
    }

    /// Begins an empty chat. Images and videos may have at most `limit` tokens; they are never
    /// truncated, so writing stops as soon as they exceed it. It also stops once the caller has
    /// cancelled.
    pub fn begin<'a>(&'a self, limit: usize, cancelled: Cancelled<'a>) -> ChatWriter<'a> {
        ChatWriter {
            chat: self,
            cancelled,
            reader: self.media.reader(),
            text: String::new(),
            sequence: Sequence::default(),
            limit,
            of_media: 0,
            images: 0,
            videos: 0,
        }
    }
}

/// A chat being written.
pub struct ChatWriter<'a> {
    chat: &'a Chat,
    cancelled: Cancelled<'a>,
    /// Shared by all videos of the input, as are its limits.
    reader: Option<Arc<dyn VideoReader>>,
    /// Text not yet tokenised: adjacent texts are tokenised as one.
    text: String,
    sequence: Sequence,
    /// Limit and number of tokens of images and videos.
    limit: usize,
    of_media: usize,
    /// Images and videos so far; an error names the index of the failing one.
    images: usize,
    videos: usize,
}

impl ChatWriter<'_> {
    /// Appends a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Appends a query or document, of whose texts at most this many tokens each are used.
    ///
    /// # Errors
    /// A text that cannot be tokenised, an image or video that cannot be used, or a caller who has
    /// cancelled.
    pub fn content(
        &mut self,
        content: &Content,
        tokens: Option<usize>,
    ) -> Result<&mut Self, InputError> {
        match content {
            Content::Text(text) => Ok(self.text(self.chat.tokenizer.part(text, tokens)?)),
            Content::Item(item) => self.item(item, tokens),
        }
    }

    /// Appends an item.
    ///
    /// # Errors
    /// As [`content`](Self::content).
    pub fn item(&mut self, item: &Item, tokens: Option<usize>) -> Result<&mut Self, InputError> {
        if item.title.is_some() {
            return Err(InputError::NoTitle);
        }
        if item.parts.is_empty() {
            return Ok(self.text(NOTHING));
        }
        for part in &item.parts {
            if (self.cancelled)() {
                return Err(InputError::Abandoned);
            }
            match part {
                Part::Text(text) => {
                    self.text(self.chat.tokenizer.part(text, tokens)?);
                }
                Part::Image(file) => {
                    let index = self.images;
                    self.images += 1;
                    let wrong = |source| InputError::Media { kind: "image", index, source };
                    let pixels = self.chat.media.image(file).map_err(wrong)?;
                    self.visual(pixels)?;
                }
                Part::Video(video) => {
                    let index = self.videos;
                    self.videos += 1;
                    let wrong =
                        |source: MediaError| InputError::Media { kind: "video", index, source };
                    let clip =
                        self.chat.media.video_by(video, self.reader.as_deref()).map_err(wrong)?;
                    for (seconds, group) in clip.seconds.iter().zip(&clip.groups) {
                        self.text(&format!("<{seconds:.1} seconds>"));
                        self.visual(group.clone())?;
                    }
                }
            }
        }
        Ok(self)
    }

    fn visual(&mut self, pixels: Arc<Pixels>) -> Result<(), InputError> {
        self.text(BEGIN);
        self.flush()?;
        let grid = [pixels.height() / FACTOR, pixels.width() / FACTOR];
        let visual = Visual { start: self.sequence.tokens.len(), grid, pixels };
        self.of_media += visual.rows().len();
        if self.of_media > self.limit {
            let (tokens, limit) = (self.of_media, self.limit);
            return Err(InputError::MediaTooLong { tokens, limit });
        }
        self.sequence.tokens.extend(visual.ids());
        self.sequence.visuals.push(visual);
        self.text(END);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), InputError> {
        let text = std::mem::take(&mut self.text);
        if text.is_empty() {
            return Ok(());
        }
        let encoding = self.chat.tokenizer.plain(&text)?;
        // Text ids are checked here: the sequence also has ids of pixels, which are outside the
        // vocabulary.
        self.chat.tokenizer.check_ids(encoding.get_ids())?;
        self.sequence.tokens.extend(encoding.get_ids());
        Ok(())
    }

    /// The chat as one sequence, untruncated.
    ///
    /// # Errors
    /// A text that cannot be tokenised.
    pub fn finish(&mut self) -> Result<Sequence, InputError> {
        self.flush()?;
        Ok(std::mem::take(&mut self.sequence))
    }
}

/// Whether a sequence of `tokens` is to be truncated to `limit`.
///
/// # Errors
/// If it is too long and truncation was not asked for, or is to be on the left.
pub fn is_cut(tokens: usize, limit: usize, how: &Prepare) -> Result<bool, InputError> {
    use crate::input::TruncationSide::Left;
    match tokens {
        _ if tokens <= limit => Ok(false),
        _ if !how.truncate => Err(InputError::TooLong { tokens, limit }),
        _ if how.side == Left => Err(InputError::Kind("truncates inputs at the right end only")),
        _ => Ok(true),
    }
}
