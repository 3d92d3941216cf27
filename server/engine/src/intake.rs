//! The path of inputs into the queue: their size is estimated from bytes, then they are tokenised
//! and ready to be admitted.
//!
//! Must not know: batches, wire formats.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proxima_models::recipes::{Cancelled, Recipe, Token};
use proxima_models::{Input, InputError, Prepare, Prompt};

use crate::admission::{PriorityClass, RequestSize, tokens_about};
use crate::engine::Engine;
use crate::error::EngineError;
use crate::inputs::{InputPart, TextBytes, bytes_of, check_limits, check_room, in_order};
use crate::metrics::Observation;
use crate::prepare::{NotDone, Turn};
use crate::queue::Prepared;
use crate::tally::Tally;

/// An estimate from a request's bytes alone is divided by this, to get tokens that are there for
/// certain.
const CERTAIN_PART: usize = 2;

impl Engine {
    /// Estimated tokens of `texts` texts with `bytes` bytes in total.
    pub fn tokens_about(&self, texts: usize, bytes: usize) -> usize {
        tokens_about(texts, bytes, self.info().tokens_max)
    }

    /// Tokenises texts.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn tokenize(
        &self,
        texts: Vec<String>,
        special_tokens: bool,
        prompt: Prompt,
    ) -> Result<Vec<Vec<Token>>, EngineError> {
        let _accepted = self.accept()?;
        self.check_count(texts.len())?;
        let bytes = texts.iter().map(String::len).sum();
        let _bytes = self.reserve(bytes, false)?;
        let turn = self.turn_of_bytes(texts.len(), bytes);
        let each = move |recipe: &dyn Recipe, text: &String, _: Cancelled<'_>| {
            recipe.tokenize(text, special_tokens, &prompt)
        };
        let limit = self.wait_limit(&Tally::default());
        let done = self.handle.pool.run(turn, limit, texts, each).await;
        in_order(done.map_err(|why| self.not_done(why))?.results)
    }

    /// A measure of each text, such as its tokens, before inputs are made of them.
    pub(crate) async fn measure<T, F>(
        &self,
        texts: Vec<T>,
        bytes: usize,
        each: F,
        tally: &mut Tally,
    ) -> Result<Vec<usize>, EngineError>
    where
        T: Send + Sync + 'static,
        F: Fn(&dyn Recipe, &T, Cancelled<'_>) -> Result<usize, InputError> + Send + Sync + 'static,
    {
        let limit = self.config().text_bytes_max;
        if bytes > limit {
            return Err(EngineError::TooManyBytes { bytes, limit });
        }
        self.check_load(texts.len(), bytes)?;
        let _bytes = self.reserve(bytes, false)?;
        let turn = self.turn_of_bytes(texts.len(), bytes);
        let done = self.handle.pool.run(turn, self.wait_limit(tally), texts, each).await;
        let done = done.map_err(|why| self.not_done(why))?;
        tally.waited += done.waited;
        in_order(done.results)
    }

    /// Decodes token ids to texts.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn decode(
        &self,
        ids: Vec<Vec<u32>>,
        skip_special_tokens: bool,
    ) -> Result<Vec<String>, EngineError> {
        let _accepted = self.accept()?;
        self.check_count(ids.len())?;
        let bytes = ids.iter().map(|ids| size_of_val(&ids[..])).sum();
        let _bytes = self.reserve(bytes, false)?;
        let turn = self.turn_of_bytes(ids.len(), bytes);
        let each = move |recipe: &dyn Recipe, ids: &Vec<u32>, _: Cancelled<'_>| {
            recipe.tokenizer().decode(ids, skip_special_tokens)
        };
        let limit = self.wait_limit(&Tally::default());
        let done = self.handle.pool.run(turn, limit, ids, each).await;
        in_order(done.map_err(|why| self.not_done(why))?.results)
    }

    fn not_done(&self, why: NotDone) -> EngineError {
        match why {
            NotDone::TooLate => self.handle.queue.overloaded(),
            NotDone::Closed => EngineError::ShuttingDown,
        }
    }

    /// Checks whether a request of about this many texts and bytes would be admitted now. It is
    /// called before more is known of the request, so only one that is certainly large is rejected.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`], with when to retry.
    pub fn check_load(&self, texts: usize, bytes: usize) -> Result<(), EngineError> {
        let tokens = self.tokens_about(texts, bytes) / CERTAIN_PART;
        if tokens <= self.config().interactive_tokens_max {
            return Ok(());
        }
        self.handle.queue.expect(self.caller.client, RequestSize { tokens, cost: tokens }).map(drop)
    }

    fn turn_of_bytes(&self, texts: usize, bytes: usize) -> Turn {
        let small = tokens_about(texts, bytes, usize::MAX) <= self.config().interactive_tokens_max;
        let class = if small { PriorityClass::Interactive } else { PriorityClass::Bulk };
        Turn { class, client: self.caller.client }
    }

    /// Checks the number of inputs of a request.
    ///
    /// # Errors
    /// If there are none, or too many.
    pub fn check_count(&self, count: usize) -> Result<(), EngineError> {
        let limit = self.config().inputs_max;
        match count {
            0 => Err(EngineError::Empty),
            _ if count > limit => Err(EngineError::TooManyInputs { count, limit }),
            _ => Ok(()),
        }
    }

    fn reserve(&self, bytes: usize, media: bool) -> Result<TextBytes<'_>, EngineError> {
        let waiting = if media { &self.handle.media_bytes } else { &self.handle.text_bytes };
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        let reserved = TextBytes { waiting, bytes };
        // A request that is alone is bounded by its body, so it may always try.
        if before > 0 && before + bytes > self.config().text_bytes_max {
            return Err(EngineError::Overloaded { retry_after: Duration::from_secs(1) });
        }
        Ok(reserved)
    }

    /// Tokenises inputs, if the queue is expected to have capacity for them. That is checked first,
    /// as it is cheap and tokenising is not. Each part may have as many inputs as a request.
    pub(crate) async fn prepare(
        &self,
        parts: Vec<InputPart>,
        tally: &mut Tally,
    ) -> Result<Prepared<'_>, EngineError> {
        let (mut instructions, mut size) = (0usize, RequestSize::default());
        for InputPart { inputs, how } in &parts {
            self.check_count(inputs.len())?;
            check_limits(how)?;
            // An instruction is tokenised with each input.
            let bytes = how.prompt.bytes().saturating_mul(inputs.len());
            instructions = instructions.saturating_add(bytes);
            size = size.plus(RequestSize::about(inputs, how, self.info().tokens_max));
        }
        let bytes = bytes_of(parts.iter().flat_map(|part| &part.inputs));
        let bytes = bytes.saturating_add(instructions);
        let limit = self.config().text_bytes_max;
        if bytes > limit {
            return Err(EngineError::TooManyBytes { bytes, limit });
        }
        let count = parts.iter().map(|part| part.inputs.len()).sum();
        let mut inputs = Vec::with_capacity(count);
        for part in parts {
            let how = Arc::new(part.how);
            inputs.extend(part.inputs.into_iter().map(|input| (input, how.clone())));
        }
        let queue = &self.handle.queue;
        let expected = match tally.inputs {
            0 => queue.expect(self.caller.client, size)?,
            // Part of the request is already computed, which a rejection would waste.
            _ => queue.expect_more(self.caller.client, size),
        };
        let expected = expected.of(&tally.ticket);
        let has_media = inputs.iter().any(|(input, _)| input.has_media());
        let _bytes = self.reserve(bytes, has_media)?;
        tally.inputs += inputs.len() as u32;
        let characters = inputs.iter().map(|(input, _)| input.characters());
        tally.prepared.n_chars += characters.sum::<usize>();
        let each =
            |recipe: &dyn Recipe,
             (input, how): &(Input, Arc<Prepare>),
             cancelled: Cancelled<'_>| { recipe.prepare_until(input, how, cancelled) };
        let media = self.handle.media.as_ref().filter(|_| has_media);
        let pool = media.unwrap_or(&self.handle.pool);
        // Text cut at the limit costs nothing to compute, but still has to be tokenised.
        let turn = match expected.class() {
            PriorityClass::Interactive => self.turn_of_bytes(count, bytes),
            PriorityClass::Bulk => Turn { class: PriorityClass::Bulk, client: self.caller.client },
        };
        let done = pool.run(turn, self.wait_limit(tally), inputs, each).await;
        let done = done.map_err(|why| self.not_done(why))?;
        self.handle.metrics.observe(Observation::TokenizerWait { waited: done.waited });
        tally.waited_for_tokenizer(done.waited, done.results.len());
        for (result, took) in &done.results {
            let sequence = result.as_ref().ok();
            let tokens = sequence.map_or(0, |sequence| sequence.tokens.len());
            let is_cut = sequence.is_some_and(|sequence| sequence.is_cut);
            self.handle.metrics.observe(Observation::Tokenized { tokens, is_cut, took: *took });
            tally.prepared.n_tokens += tokens;
            tally.prepared.n_cut += usize::from(is_cut);
            tally.prepared.tokenization += *took;
        }
        check_room(&done.results)?;
        Ok(Prepared { sequences: in_order(done.results)?, expected })
    }
}
