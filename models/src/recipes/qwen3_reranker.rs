//! Qwen3-Reranker: a chat model answers yes or no to whether a document fits a query (Qwen3
//! Embedding technical report, 2025; the usage example of its model card). The prompt's head and
//! tail are tokenised separately from the body between them, and only the body is truncated.
//!
//! Must not know: which network follows, tensors, requests.

mod template;

pub use template::is_published;

use serde_json::Value;

use super::prompts::Prompts;
use super::tokenizer::TextTokenizer;
use super::{NetworkTraits, Recipe, RecipeKind, Tokenize, prepare_pair, text_of};
use crate::batch::Sequence;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::input::{Input, InputError, Prepare};
use crate::item::Content;
use crate::task::Task;

/// The beginning of the chat.
const HEAD: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on \
    the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n\
    <|im_start|>user\n";
/// The end of the chat, with thinking disabled.
const TAIL: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";
/// The default instruction.
pub const INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";

/// Its entry in the list of recipes.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "qwen3_reranker",
        fits: |checkpoint, task| {
            matches!(task, Task::Rerank | Task::Classify) && checkpoint.model_type() == "qwen3"
        },
        tokens_max: None,
        load: |checkpoint, traits, _| {
            check_labels(checkpoint)?;
            template::check(checkpoint)?;
            let tokenizer = TextTokenizer::load(checkpoint, traits)?;
            if tokenizer.cuts_left(&Prepare::default()) {
                return Err(CheckpointError::new(
                    checkpoint.transformer_dir().join("tokenizer_config.json"),
                    "truncation_side is left, which would cut off the beginning of a reranker's \
                     chat: set it to right",
                ));
            }
            let recipe = Qwen3Reranker::new(checkpoint, tokenizer, traits)?;
            recipe.check_padding(checkpoint)?;
            Ok(Box::new(recipe))
        },
    }
}

/// Refuses a classifier with several labels: it was not trained with this chat.
fn check_labels(checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let labels = if checkpoint.classifies() { checkpoint.labels()?.len() } else { 1 };
    match labels {
        0 | 1 => Ok(()),
        _ => Err(checkpoint.config_error(format!(
            "a Qwen3 classifier is supported only with one label, as Qwen3-Reranker and with its \
             chat; this one has {labels} labels"
        ))),
    }
}

struct Qwen3Reranker {
    tokenizer: TextTokenizer,
    prompts: Prompts,
    head: Vec<u32>,
    tail: Vec<u32>,
}

impl Qwen3Reranker {
    fn new(
        checkpoint: &Checkpoint,
        tokenizer: TextTokenizer,
        traits: &NetworkTraits,
    ) -> Result<Self, CheckpointError> {
        let tokens_max = traits.tokens_max;
        let error = |problem: String| {
            CheckpointError::new(checkpoint.transformer_dir().join("tokenizer.json"), problem)
        };
        let ids = |text: &str| -> Result<Vec<u32>, CheckpointError> {
            let encoding = tokenizer.plain(text).map_err(|problem| error(problem.to_string()))?;
            Ok(encoding.get_ids().to_vec())
        };
        let (head, tail) = (ids(HEAD)?, ids(TAIL)?);
        if head.len() + tail.len() >= tokens_max {
            return Err(error(format!("its template leaves no room in {tokens_max} tokens")));
        }
        Ok(Self { tokenizer, prompts: Prompts::of(checkpoint, &traits.conventions), head, tail })
    }

    /// Refuses a classifier whose padding token is the one that every chat ends in: transformers
    /// scores at the last token that is not padding.
    fn check_padding(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let padding = checkpoint.config_key("pad_token_id").and_then(Value::as_u64);
        let last = self.tail.last().map(|id| u64::from(*id));
        if !checkpoint.classifies() || padding.is_none() || padding != last {
            return Ok(());
        }
        Err(checkpoint.config_error(
            "pad_token_id equals the last token of the prompt, so transformers reads the score at \
             another position, which is not supported",
        ))
    }

    fn body(&self, query: &str, document: &str, how: &Prepare) -> Result<String, InputError> {
        let instruction = self.prompts.instruction(&how.prompt, INSTRUCTION)?;
        let document = self.tokenizer.part(document, how.document_tokens_max)?;
        let query = self.tokenizer.part(query, how.query_tokens_max)?;
        Ok(format!("<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}"))
    }
}

impl Recipe for Qwen3Reranker {
    fn tokenizer(&self) -> &dyn Tokenize {
        &self.tokenizer
    }

    fn own_prompts(&self) -> Option<&Prompts> {
        Some(&self.prompts)
    }

    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        let body = match input {
            Input::Pair { query, document } => {
                let how = prepare_pair(query, document, how)?;
                self.body(&text_of(query)?, &text_of(document)?, &how)?
            }
            Input::Content(Content::Text(text)) => text.to_string(),
            Input::Content(Content::Item(_)) => {
                return Err(InputError::Kind("scores pairs, not single items"));
            }
            Input::Tokens(ids) => return self.tokenizer.given(ids, how),
            Input::Listwise { .. } => return Err(InputError::Kind("scores pairs, not lists")),
        };
        let cut = self.tokenizer.cut(&body, self.head.len() + self.tail.len(), how)?;
        let tokens = [&self.head[..], cut.kept.get_ids(), &self.tail].concat();
        let is_cut = cut.is_cut;
        self.tokenizer.checked(Sequence { tokens, is_cut, ..Sequence::default() })
    }
}
