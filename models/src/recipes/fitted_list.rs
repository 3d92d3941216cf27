//! Lists of texts that become one sequence: what is cut of them to fit it.
//!
//! Must not know: templates, special tokens.

use std::sync::Arc;

use tokenizers::Encoding;

use super::tokenizer::TextTokenizer;
use crate::input::{InputError, Prepare};

/// Maximum number of attempts to truncate documents; later ones only correct the first's estimate.
const CUTS_MAX: usize = 4;

/// The error where beginnings of texts in a list would have to be cut.
pub const CUTS_ENDS: InputError = InputError::Kind(
    "cuts long texts of a list at their ends only; truncate at the right, or send shorter texts",
);

/// A list that fits the limit of a sequence.
pub struct FittedList {
    /// All of its tokens.
    pub encoding: Encoding,
    /// Whether documents were cut to fit.
    pub is_cut: bool,
}

impl FittedList {
    /// Truncates the longest documents until the list fits; the template is never cut. `encode(n)`
    /// tokenises the list with each document cut to `n` tokens.
    ///
    /// # Errors
    /// If it does not fit and nothing may be cut, or no documents would be left; or an error of
    /// `encode`.
    pub fn new(
        tokenizer: &TextTokenizer,
        how: &Prepare,
        documents: &[Arc<str>],
        document_tokens_max: Option<usize>,
        encode: impl Fn(Option<usize>) -> Result<Encoding, InputError>,
    ) -> Result<Self, InputError> {
        let limit = tokenizer.limit(how);
        let mut encoding = encode(document_tokens_max)?;
        let mut longest = None;
        for _ in 0..CUTS_MAX {
            let tokens = encoding.len();
            if tokens <= limit {
                return Ok(Self { encoding, is_cut: longest.is_some() });
            }
            if !how.truncate {
                return Err(InputError::TooLong { tokens, limit });
            }
            if tokenizer.cuts_left(how) {
                return Err(CUTS_ENDS);
            }
            let mut lengths = Vec::with_capacity(documents.len());
            for document in documents {
                let length = tokenizer.plain(document)?.len();
                lengths.push(length.min(longest.or(document_tokens_max).unwrap_or(length)));
            }
            let rest = tokens.saturating_sub(lengths.iter().sum());
            // Reserves a token per document, as tokens may merge or split where texts meet.
            let room = limit.saturating_sub(rest + documents.len());
            longest = Some(longest_within(&lengths, room));
            if longest == Some(0) {
                break;
            }
            encoding = encode(longest)?;
        }
        Err(InputError::QueryTooLong { limit })
    }
}

/// The largest cap per text with which texts of these lengths have at most `room` tokens in all.
fn longest_within(lengths: &[usize], room: usize) -> usize {
    let (mut fits, mut too_long) = (0, lengths.iter().max().map_or(1, |longest| longest + 1));
    while fits + 1 < too_long {
        let middle = usize::midpoint(fits, too_long);
        if lengths.iter().map(|length| *length.min(&middle)).sum::<usize>() <= room {
            fits = middle;
        } else {
            too_long = middle;
        }
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_texts_are_cut() {
        assert_eq!(longest_within(&[10, 2, 30], 42), 30);
        assert_eq!(longest_within(&[10, 2, 30], 22), 10);
        assert_eq!(longest_within(&[10, 2, 30], 12), 5);
        assert_eq!(longest_within(&[10, 2, 30], 2), 0);
    }
}
