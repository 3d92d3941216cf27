//! Texts cut to the limit of a sequence.
//!
//! Must not know: templates of any one model.

use tokenizers::{Encoding, TruncationDirection, TruncationParams};

use super::TextTokenizer;
use crate::input::{InputError, Prepare};

/// What is kept of a text, or of two.
pub struct Cut<T> {
    /// Its tokens.
    pub kept: T,
    /// Whether it had more.
    pub is_cut: bool,
}

impl TextTokenizer {
    /// Tokens of two texts, the longer of which is cut first until the whole sequence keeps within
    /// the limit.
    ///
    /// # Errors
    /// As of [`plain`](Self::plain), or if truncation was not asked for and is needed, or nothing
    /// would be left.
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
            // Which of them is the longer counts, so all of both is needed.
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
        // Templates are put around each piece of one that was cut off with each of the other.
        drop((one.take_overflowing(), two.take_overflowing()));
        Ok(Cut { kept: (one, two), is_cut: true })
    }

    /// Tokens of a text, cut so that with `added` further ones they keep within the limit.
    ///
    /// # Errors
    /// As of [`plain`](Self::plain), or if truncation was not asked for and is needed, or nothing
    /// would be left.
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

    /// As [`plain`](Self::plain), of as much of a text as is needed to keep `kept` tokens of it.
    fn to_cut(&self, text: &str, kept: usize, how: &Prepare) -> Result<Encoding, InputError> {
        // Else its end counts, or how many tokens it has.
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
