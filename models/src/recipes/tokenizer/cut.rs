//! Truncates texts to the limit of a sequence.
//!
//! Must not know: any one model's template.

use tokenizers::{Encoding, TruncationDirection, TruncationParams};

use super::TextTokenizer;
use crate::input::{InputError, Prepare};

/// A text, or two, after truncation.
pub struct Cut<T> {
    /// The tokens kept.
    pub kept: T,
    /// Whether there were more.
    pub is_cut: bool,
}

impl TextTokenizer {
    /// Tokens of two texts, of which the longer is truncated first until the whole sequence fits
    /// the limit.
    ///
    /// # Errors
    /// As [`plain`](Self::plain), or if truncation is needed but not asked for, or nothing would
    /// be left.
    pub fn cut_pair(
        &self,
        first: &str,
        second: &str,
        how: &Prepare,
    ) -> Result<Cut<(Encoding, Encoding)>, InputError> {
        let (added, limit) = (self.added(true), self.limit(how));
        let kept = limit.saturating_sub(added);
        let (mut one, mut two) = (self.to_cut(first, kept, how)?, self.to_cut(second, kept, how)?);
        if how.truncate && one.len() > kept && two.len() > kept {
            // Which is longer decides how they are cut, so both are tokenised in full.
            (one, two) = (self.plain(first)?, self.plain(second)?);
        }
        let tokens = one.len() + two.len() + added;
        if tokens <= limit {
            return Ok(Cut { kept: (one, two), is_cut: false });
        }
        if !how.truncate {
            return Err(InputError::TooLong { tokens, limit });
        }
        if kept == 0 {
            return Err(InputError::LimitTooSmall { limit });
        }
        let parameters = TruncationParams {
            max_length: kept,
            direction: self.direction(how),
            ..TruncationParams::default()
        };
        let cut = tokenizers::truncate_encodings(one, Some(two), &parameters);
        let (mut one, two) = cut.map_err(|error| InputError::Tokenizer(error.to_string()))?;
        let mut two = two.expect("two go in and two come out");
        // Otherwise the template would be applied to every combination of cut-off pieces.
        drop((one.take_overflowing(), two.take_overflowing()));
        Ok(Cut { kept: (one, two), is_cut: true })
    }

    /// Tokens of a text, truncated so that they fit the limit together with `added` others.
    ///
    /// # Errors
    /// As [`plain`](Self::plain), or if truncation is needed but not asked for, or nothing would
    /// be left.
    pub fn cut(
        &self,
        text: &str,
        added: usize,
        how: &Prepare,
    ) -> Result<Cut<Encoding>, InputError> {
        let limit = self.limit(how);
        let kept = limit.saturating_sub(added);
        let mut encoding = self.to_cut(text, kept, how)?;
        let tokens = encoding.len() + added;
        if tokens <= limit {
            return Ok(Cut { kept: encoding, is_cut: false });
        }
        if !how.truncate {
            return Err(InputError::TooLong { tokens, limit });
        }
        if kept == 0 {
            return Err(InputError::LimitTooSmall { limit });
        }
        encoding.truncate(kept, 0, self.direction(how));
        drop(encoding.take_overflowing());
        Ok(Cut { kept: encoding, is_cut: true })
    }

    /// As [`plain`](Self::plain), but only of as much text as is needed to keep `kept` tokens.
    fn to_cut(&self, text: &str, kept: usize, how: &Prepare) -> Result<Encoding, InputError> {
        // Otherwise its end or its number of tokens is needed.
        if how.truncate && !self.cuts_left(how) {
            self.more_than(kept, text, |text| self.inner.encode_fast(text, false))
        } else {
            self.plain(text)
        }
    }

    fn direction(&self, how: &Prepare) -> TruncationDirection {
        match self.cuts_left(how) {
            true => TruncationDirection::Left,
            false => TruncationDirection::Right,
        }
    }
}
