//! Checks of a request's inputs, and of the results of preparing them.
//!
//! Must not know: queues, batches, threads.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proxima_models::media::MediaError;
use proxima_models::{Input, InputError, MediaFile, Prepare, Sequence};

use crate::error::EngineError;
use crate::prepare::{ItemError, ItemResult};

/// Inputs of a request that are prepared in the same way. A request may have several such parts,
/// and is admitted as a whole.
pub struct InputPart {
    /// The inputs.
    pub inputs: Vec<Input>,
    /// How to prepare each.
    pub how: Prepare,
}

impl InputPart {
    /// The only part of a request whose inputs are all prepared in the same way.
    pub fn only(inputs: Vec<Input>, how: Prepare) -> Vec<Self> {
        vec![Self { inputs, how }]
    }
}

/// Bytes reserved for inputs that wait to be tokenised or decoded; released on drop.
pub struct TextBytes<'a> {
    /// All bytes reserved for this kind of input.
    pub waiting: &'a AtomicUsize,
    /// The bytes of this reservation.
    pub bytes: usize,
}

impl Drop for TextBytes<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Checks that a number is within its bounds.
pub fn in_bounds(
    what: &'static str,
    asked: usize,
    bounds: RangeInclusive<usize>,
) -> Result<(), EngineError> {
    if bounds.contains(&asked) {
        Ok(())
    } else {
        Err(EngineError::OutOfBounds { what, asked, bounds })
    }
}

/// Checks that no limit of tokens is 0, which would leave only special tokens to compute.
///
/// # Errors
/// The first limit of 0.
pub fn check_limits(how: &Prepare) -> Result<(), EngineError> {
    for (what, limit) in [
        ("the tokens of a document", how.document_tokens_max),
        ("the tokens of the query", how.query_tokens_max),
        ("the tokens of a sequence", how.tokens_max),
    ] {
        limit.map_or(Ok(()), |limit| in_bounds(what, limit, 1..=usize::MAX))?;
    }
    Ok(())
}

/// If the pixel budget is full, checks that this request does not itself take more than half of it:
/// then a retry would not help.
pub fn check_room(results: &[ItemResult<Sequence>]) -> Result<(), EngineError> {
    let full = results.iter().find_map(|(result, _)| match result {
        Err(ItemError::Invalid(InputError::Media {
            source: MediaError::Full { limit }, ..
        })) => Some(*limit),
        _ => None,
    });
    let Some(limit) = full else { return Ok(()) };
    let sequences = results.iter().filter_map(|(result, _)| result.as_ref().ok());
    let pixels = sequences.flat_map(|sequence| &sequence.visuals).map(|visual| &visual.pixels);
    let unique: HashMap<_, _> =
        pixels.map(|pixels| (Arc::as_ptr(pixels), pixels.bytes())).collect();
    let bytes: usize = unique.values().sum();
    if bytes > limit / 2 { Err(EngineError::TooManyPixels { bytes, limit }) } else { Ok(()) }
}

/// All results, or the error of the first input that failed.
pub fn in_order<R>(results: Vec<ItemResult<R>>) -> Result<Vec<R>, EngineError> {
    let results = results.into_iter().enumerate().map(|(index, (result, _))| {
        result.map_err(|error| match error {
            // The input is valid, but the pixel budget is full for now.
            ItemError::Invalid(InputError::Media { source: MediaError::Full { .. }, .. }) => {
                EngineError::Overloaded { retry_after: Duration::from_secs(1) }
            }
            ItemError::Invalid(source) => EngineError::Input { index, source },
            ItemError::Panicked => EngineError::Panicked { index },
        })
    });
    results.collect()
}

/// Bytes of texts and files; each file counts once.
pub fn bytes_of<'a>(inputs: impl Iterator<Item = &'a Input> + Clone) -> usize {
    let files: HashMap<*const MediaFile, usize> = inputs
        .clone()
        .flat_map(Input::files)
        .map(|file| (Arc::as_ptr(file), file.bytes().len()))
        .collect();
    inputs.map(Input::bytes).sum::<usize>() + files.values().sum::<usize>()
}
