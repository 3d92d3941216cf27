//! Text embedding: an optional prompt, the tokenizer's own template, and truncation that keeps
//! special tokens.
//!
//! Must not know: which network follows, tensors, requests.

use super::prompts::Prompts;
use super::tokenizer::TextTokenizer;
use super::{
    NetworkTraits, Recipe, RecipeKind, SpecialTokens, Tokenize, chat_template, text_below_title,
};
use crate::batch::Sequence;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::input::{Input, InputError, Prepare, Prompt};
use crate::item::Content;
use crate::task::Task;

/// Its entry in the list of recipes.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "text_embedding",
        fits: |_, task| matches!(task, Task::Embed | Task::Sparse),
        tokens_max: None,
        load: |checkpoint, traits, _| Ok(Box::new(TextEmbedding::load(checkpoint, traits)?)),
    }
}

/// A text, with its prompt, in the tokenizer's template.
pub struct TextEmbedding {
    tokenizer: TextTokenizer,
    prompts: Prompts,
    include_prompt: bool,
    /// Special tokens that the template puts before and after a text.
    before: Vec<u32>,
    after: Vec<u32>,
    /// A token appended to every text, if the template does not append it itself.
    end: Option<u32>,
    /// Whether texts are tokenised without the tokenizer's template, as for a table of vectors.
    is_bare: bool,
}

impl TextEmbedding {
    /// The recipe for a checkpoint's tokenizer and sentence-transformers files.
    ///
    /// # Errors
    /// A tokenizer that cannot be read or leaves no room.
    pub fn load(checkpoint: &Checkpoint, traits: &NetworkTraits) -> Result<Self, CheckpointError> {
        // Without sentence-transformers files, how texts become vectors is the caller's choice.
        chat_template::refuse(checkpoint, false)?;
        let tokenizer = TextTokenizer::load(checkpoint, traits)?;
        let modules = checkpoint.sentence_transformers();
        let is_bare = modules.is_some_and(|modules| modules.is_static);
        let (before, after) = match is_bare {
            true => Default::default(),
            false => tokenizer.template(checkpoint)?,
        };
        let prompts = Prompts::of(checkpoint, &traits.conventions);
        let pooling = modules.and_then(|modules| modules.pooling());
        Ok(Self {
            tokenizer,
            prompts,
            include_prompt: pooling.is_none_or(|pooling| pooling.include_prompt),
            before,
            after,
            end: None,
            is_bare,
        })
    }

    /// Appends a token to every text, unless the tokenizer's template does so itself.
    ///
    /// # Errors
    /// If there is no such token.
    pub fn ending_in(
        mut self,
        checkpoint: &Checkpoint,
        token: &str,
    ) -> Result<Self, CheckpointError> {
        let id = self.tokenizer.id(checkpoint, token)?;
        if self.after.last() != Some(&id) {
            self.after.push(id);
            self.end = Some(id);
        }
        Ok(self)
    }

    /// Adds a prompt, unless the checkpoint has one of this name.
    pub fn with_prompt(mut self, name: &str, prompt: &str) -> Self {
        self.prompts = self.prompts.with(name, prompt);
        self
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Its prompts.
    pub fn prompt_names(&self) -> &Prompts {
        &self.prompts
    }

    fn text_sequence(&self, content: &Content, how: &Prepare) -> Result<Sequence, InputError> {
        let text = text_below_title(content)?;
        let prompt = self.prompts.titled(&how.prompt, content.title())?;
        let template = if self.is_bare { 0 } else { self.tokenizer.added(false) };
        let added = template + usize::from(self.end.is_some());
        let cut = self.tokenizer.cut(&format!("{prompt}{text}"), added, how)?;
        let whole = if self.is_bare { cut.kept } else { self.tokenizer.wrap(cut.kept, None)? };
        let mut tokens = whole.get_ids().to_vec();
        tokens.extend(self.end);
        let pooling_skip = if self.include_prompt || prompt.is_empty() {
            0
        } else {
            self.prompt_length(&prompt, how)?
        };
        let is_cut = cut.is_cut;
        self.tokenizer.checked(Sequence { tokens, pooling_skip, is_cut, ..Sequence::default() })
    }

    /// Number of tokens of a prompt at the start of a sequence, counted as sentence-transformers
    /// does (`Transformer._get_prompt_length`): the prompt alone, truncated like a text, without a
    /// special token at its end.
    fn prompt_length(&self, prompt: &str, how: &Prepare) -> Result<usize, InputError> {
        let prompt = self.tokenizer.plain(prompt)?;
        let around = self.before.len() + self.after.len();
        let kept = prompt.len().min(self.tokenizer.limit(how).saturating_sub(around));
        let last_kept = match self.tokenizer.cuts_left(how) {
            true => prompt.get_ids().last(),
            false => prompt.get_ids()[..kept].last(),
        };
        let last = self.after.last().or(last_kept).or(self.before.last());
        let ends = last.is_some_and(|id| self.tokenizer.is_named_special(*id));
        Ok(kept + around - usize::from(ends))
    }

    fn token_sequence(&self, ids: &[u32], how: &Prepare) -> Result<Sequence, InputError> {
        let limit = self.tokenizer.limit(how);
        let mut tokens = ids.to_vec();
        let is_cut = tokens.len() > limit;
        if is_cut {
            if !how.truncate {
                return Err(InputError::TooLong { tokens: tokens.len(), limit });
            }
            // If the ids have the template's special tokens, these are kept.
            let before = if ids.starts_with(&self.before) { self.before.len() } else { 0 };
            let after = if ids.ends_with(&self.after) { self.after.len() } else { 0 };
            if limit <= before + after {
                return Err(InputError::LimitTooSmall { limit });
            }
            let cut = tokens.len() - limit;
            let end = tokens.len() - after;
            let gone =
                if self.tokenizer.cuts_left(how) { before..before + cut } else { end - cut..end };
            tokens.drain(gone);
        }
        self.tokenizer.checked(Sequence { tokens, is_cut, ..Sequence::default() })
    }
}

impl Recipe for TextEmbedding {
    fn tokenizer(&self) -> &dyn Tokenize {
        &self.tokenizer
    }

    fn own_prompts(&self) -> Option<&Prompts> {
        Some(&self.prompts)
    }

    fn special_tokens(&self) -> SpecialTokens {
        SpecialTokens { before: self.before.clone(), after: self.after.clone() }
    }

    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        match input {
            Input::Content(content) => self.text_sequence(content, &how.of(content)),
            Input::Tokens(ids) => self.token_sequence(ids, how),
            Input::Pair { .. } | Input::Listwise { .. } => Err(InputError::Kind("scores no pairs")),
        }
    }

    fn with_prompt(
        &self,
        text: &str,
        _special_tokens: bool,
        prompt: &Prompt,
    ) -> Result<String, InputError> {
        Ok(format!("{}{text}", self.prompts.text(prompt)?))
    }
}

#[cfg(test)]
mod tests;
