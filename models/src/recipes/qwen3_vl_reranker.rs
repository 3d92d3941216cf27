//! Qwen3-VL-Reranker: a chat model answers yes or no to whether a document fits a query; both may
//! have texts, images and videos (`qwen3_vl_reranker.py` in the model's repository).
//!
//! Must not know: which network follows, tensors, requests.

use super::chat::{Chat, is_cut};
use super::prompts::Prompts;
use super::{Cancelled, Recipe, RecipeKind, Tokenize, prepare_pair};
use crate::batch::{Sequence, Visual};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::input::{Input, InputError, Prepare};
use crate::item::Content;
use crate::task::Task;

/// The default instruction.
const INSTRUCTION: &str =
    "Given a search query, retrieve relevant candidates that answer the query.";
/// The beginning of the chat.
const HEAD: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on \
    the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n\
    <|im_start|>user\n<Instruct>: ";
/// The end of the chat.
const TAIL: &str = "<|im_end|>\n<|im_start|>assistant\n";
/// Number of tokens at the end that are never truncated.
const LAST: usize = 5;
/// Longest sequence of the model's published code, whose limit excludes the last tokens.
const TOKENS_MAX: usize = 10_240 + LAST;

/// Its entry in the list of recipes.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "qwen3_vl_reranker",
        fits: |checkpoint, task| task == Task::Rerank && checkpoint.model_type() == "qwen3_vl",
        tokens_max: Some(TOKENS_MAX),
        load: |checkpoint, traits, media| {
            let chat = Chat::load(checkpoint, traits, media)?;
            let prompts = Prompts::of(checkpoint, &traits.conventions);
            Ok(Box::new(Qwen3VlReranker::new(checkpoint, chat, prompts)?))
        },
    }
}

struct Qwen3VlReranker {
    chat: Chat,
    prompts: Prompts,
    /// Appended to every chat.
    after: Vec<u32>,
    /// Special tokens, which truncation keeps.
    special: Vec<u32>,
}

impl Qwen3VlReranker {
    fn new(checkpoint: &Checkpoint, chat: Chat, prompts: Prompts) -> Result<Self, CheckpointError> {
        let (_, after) = chat.tokenizer.template(checkpoint)?;
        let special = chat.tokenizer.special_ids();
        Ok(Self { chat, prompts, after, special })
    }

    fn pair(
        &self,
        query: &Content,
        document: &Content,
        how: &Prepare,
        cancelled: Cancelled<'_>,
    ) -> Result<Sequence, InputError> {
        let how = &prepare_pair(query, document, how)?;
        let instruction = self.prompts.instruction(&how.prompt, INSTRUCTION)?;
        let limit = self.chat.tokenizer.limit(how);
        let mut chat = self.chat.begin(limit, cancelled);
        chat.text(HEAD).text(instruction);
        chat.text("<Query>:").content(query, how.query_tokens_max)?;
        chat.text("\n<Document>:").content(document, how.document_tokens_max)?;
        let mut sequence = chat.text(TAIL).finish()?;
        sequence.tokens.extend(&self.after);
        if is_cut(sequence.tokens.len(), limit, how)? {
            self.cut(sequence, limit)
        } else {
            Ok(sequence)
        }
    }

    /// Keeps special tokens, images and the last tokens and, of the others, as many of the first as
    /// fit.
    fn cut(&self, sequence: Sequence, limit: usize) -> Result<Sequence, InputError> {
        let last = sequence.tokens.len().saturating_sub(LAST);
        let (body, tail) = sequence.tokens.split_at(last);
        let always = |id: &u32| Visual::stands_for(*id) || self.special.contains(id);
        let needed = body.iter().filter(|id| always(id)).count() + tail.len();
        if needed > limit {
            return Err(InputError::MediaTooLong { tokens: needed, limit });
        }
        let mut room = limit - needed;
        let mut visuals = sequence.visuals.into_iter().peekable();
        let tokens = Vec::with_capacity(limit);
        let mut kept = Sequence { tokens, is_cut: true, ..Sequence::default() };
        for (index, id) in body.iter().enumerate() {
            if let Some(visual) = visuals.next_if(|visual| visual.start == index) {
                kept.visuals.push(Visual { start: kept.tokens.len(), ..visual });
            }
            if always(id) {
                kept.tokens.push(*id);
            } else if room > 0 {
                kept.tokens.push(*id);
                room -= 1;
            }
        }
        kept.tokens.extend(tail);
        Ok(kept)
    }
}

impl Recipe for Qwen3VlReranker {
    fn tokenizer(&self) -> &dyn Tokenize {
        &self.chat.tokenizer
    }

    fn own_prompts(&self) -> Option<&Prompts> {
        Some(&self.prompts)
    }

    fn takes_media(&self) -> bool {
        true
    }

    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        self.prepare_until(input, how, &|| false)
    }

    fn prepare_until(
        &self,
        input: &Input,
        how: &Prepare,
        cancelled: Cancelled<'_>,
    ) -> Result<Sequence, InputError> {
        match input {
            Input::Pair { query, document } => self.pair(query, document, how, cancelled),
            // For health checks and token-wise results.
            Input::Content(text @ Content::Text(_)) => self.pair(&"".into(), text, how, cancelled),
            Input::Tokens(ids) => self.chat.tokenizer.given(ids, how),
            Input::Content(Content::Item(_)) => {
                Err(InputError::Kind("scores pairs, not single items"))
            }
            Input::Listwise { .. } => Err(InputError::Kind("scores pairs, not lists")),
        }
    }
}
