//! Text embedding: an optional prompt, the tokenizer's own template, a limit that keeps special
//! tokens.
//!
//! Must not know: which network follows, tensors, requests.

use std::collections::BTreeMap;

use tokenizers::{Encoding, PostProcessor, Tokenizer, TruncationDirection, TruncationParams};

use super::{Limits, Recipe, RecipeKind, Token};
use crate::batch::Sequence;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::input::{Input, InputError, Prepare, Prompt, TruncationSide};

/// Bytes a text may have, whatever its tokens. No text that fits a model's limit comes near it; it
/// bounds the time one input can take to tokenise.
pub const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The entry of the list: fits every checkpoint.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "text_embedding",
        fits: |_| true,
        load: |checkpoint, limits| Ok(Box::new(TextEmbedding::load(checkpoint, limits)?)),
    }
}

struct TextEmbedding {
    tokenizer: Tokenizer,
    limits: Limits,
    prompts: BTreeMap<String, String>,
    default_prompt: Option<String>,
    instruction: InstructionTemplate,
    include_prompt: bool,
    lower_case: bool,
    /// Special tokens the template puts before and after a text.
    before: Vec<u32>,
    after: Vec<u32>,
}

/// How a free instruction becomes a prompt.
enum InstructionTemplate {
    /// The instruction between these.
    Around(String, String),
    /// The instruction as it is.
    Prefix,
}

impl InstructionTemplate {
    /// The template of the checkpoint's own prompts: `Instruct: ...\nQuery:` and its like, else a
    /// prefix.
    fn of(checkpoint: &Checkpoint, prompts: &BTreeMap<String, String>) -> Self {
        let end = prompts.values().find_map(|prompt| {
            let rest = prompt.strip_prefix("Instruct: ")?;
            Some(&rest[rest.rfind('\n')?..])
        });
        match end {
            Some(end) => Self::Around("Instruct: ".into(), end.into()),
            None if checkpoint.model_type() == "qwen3" => {
                Self::Around("Instruct: ".into(), "\nQuery:".into())
            }
            None => Self::Prefix,
        }
    }
}

impl TextEmbedding {
    fn load(checkpoint: &Checkpoint, limits: &Limits) -> Result<Self, CheckpointError> {
        let path = checkpoint.transformer_dir().join("tokenizer.json");
        let error = |problem: String| CheckpointError::new(&path, problem);
        if !path.exists() {
            let problem = "the file is missing; save the tokenizer in the fast format";
            return Err(error(problem.into()));
        }
        let mut tokenizer = Tokenizer::from_file(&path)
            .map_err(|problem| error(format!("not a tokenizer: {problem}")))?;
        // The files carry settings of their training; limits are ours and nothing is padded.
        tokenizer.with_padding(None);
        let reset = tokenizer.with_truncation(None::<TruncationParams>);
        reset.map_err(|problem| error(format!("its truncation cannot be reset: {problem}")))?;
        let probe = tokenizer
            .encode("a", true)
            .map_err(|problem| error(format!("it cannot tokenise: {problem}")))?;
        let (ids, special) = (probe.get_ids(), probe.get_special_tokens_mask());
        let before = special.iter().take_while(|flag| **flag == 1).count();
        let after = special[before..].iter().rev().take_while(|flag| **flag == 1).count();
        let (before, after) = (ids[..before].to_vec(), ids[ids.len() - after..].to_vec());
        if before.len() + after.len() >= limits.tokens_max {
            let problem = format!("its template leaves no room in {} tokens", limits.tokens_max);
            return Err(error(problem));
        }
        let modules = checkpoint.sentence_transformers();
        let prompts = modules.map(|modules| modules.prompts.clone()).unwrap_or_default();
        let default_name = modules.and_then(|modules| modules.default_prompt_name.as_ref());
        Ok(Self {
            tokenizer,
            limits: *limits,
            default_prompt: default_name.and_then(|name| prompts.get(name).cloned()),
            instruction: InstructionTemplate::of(checkpoint, &prompts),
            prompts,
            include_prompt: modules.is_none_or(|modules| modules.include_prompt),
            lower_case: modules.is_some_and(|modules| modules.lower_case),
            before,
            after,
        })
    }

    fn prompt(&self, prompt: &Prompt) -> Result<String, InputError> {
        match prompt {
            Prompt::Default => Ok(self.default_prompt.clone().unwrap_or_default()),
            Prompt::None => Ok(String::new()),
            Prompt::Named(name) => self.prompts.get(name).cloned().ok_or_else(|| {
                let known = self.prompts.keys().cloned().collect();
                InputError::UnknownPrompt { name: name.clone(), known }
            }),
            Prompt::Instruction(text) if text.is_empty() => Ok(String::new()),
            Prompt::Instruction(text) => Ok(match &self.instruction {
                InstructionTemplate::Around(before, after) => format!("{before}{text}{after}"),
                InstructionTemplate::Prefix => text.clone(),
            }),
        }
    }

    /// A text with its prompt, as the tokenizer gets it.
    fn full_text(&self, prompt: &str, text: &str) -> Result<String, InputError> {
        let bytes = prompt.len() + text.len();
        if bytes > TEXT_BYTES_MAX {
            return Err(InputError::TooManyBytes { bytes, limit: TEXT_BYTES_MAX });
        }
        let text = format!("{prompt}{text}");
        Ok(if self.lower_case { text.to_lowercase() } else { text })
    }

    fn encode(&self, text: &str, special_tokens: bool) -> Result<Encoding, InputError> {
        let encoding = self.tokenizer.encode_char_offsets(text, special_tokens);
        encoding.map_err(|error| InputError::Tokenizer(error.to_string()))
    }

    fn limit(&self, how: &Prepare) -> usize {
        how.tokens_max.map_or(self.limits.tokens_max, |limit| limit.min(self.limits.tokens_max))
    }

    fn text_sequence(&self, text: &str, how: &Prepare) -> Result<Sequence, InputError> {
        let prompt = self.prompt(&how.prompt)?;
        let full = self.full_text(&prompt, text)?;
        let encoded = self.tokenizer.encode_fast(full.as_str(), false);
        let mut encoding = encoded.map_err(|error| InputError::Tokenizer(error.to_string()))?;
        let limit = self.limit(how);
        let added = self.tokenizer.get_post_processor().map_or(0, |post| post.added_tokens(false));
        if encoding.len() + added > limit {
            if !how.truncate {
                return Err(InputError::TooLong { tokens: encoding.len() + added, limit });
            }
            if limit <= added {
                return Err(InputError::LimitTooSmall { limit });
            }
            let direction = match how.side {
                TruncationSide::Right => TruncationDirection::Right,
                TruncationSide::Left => TruncationDirection::Left,
            };
            encoding.truncate(limit - added, 0, direction);
        }
        let encoding = self
            .tokenizer
            .post_process(encoding, None, true)
            .map_err(|error| InputError::Tokenizer(error.to_string()))?;
        let pooling_skip = if self.include_prompt || prompt.is_empty() {
            0
        } else {
            self.encode(&prompt, true)?.len().saturating_sub(self.after.len())
        };
        self.checked(Sequence { tokens: encoding.get_ids().to_vec(), pooling_skip })
    }

    fn token_sequence(&self, ids: &[u32], how: &Prepare) -> Result<Sequence, InputError> {
        let limit = self.limit(how);
        let mut tokens = ids.to_vec();
        if tokens.len() > limit {
            if !how.truncate {
                return Err(InputError::TooLong { tokens: tokens.len(), limit });
            }
            // Ids that carry the template's special tokens keep them.
            let before = if ids.starts_with(&self.before) { self.before.len() } else { 0 };
            let after = if ids.ends_with(&self.after) { self.after.len() } else { 0 };
            if limit <= before + after {
                return Err(InputError::LimitTooSmall { limit });
            }
            let cut = tokens.len() - limit;
            match how.side {
                TruncationSide::Right => {
                    let end = tokens.len() - after;
                    tokens.drain(end - cut..end);
                }
                TruncationSide::Left => {
                    tokens.drain(before..before + cut);
                }
            }
        }
        self.checked(Sequence { tokens, pooling_skip: 0 })
    }

    fn checked(&self, sequence: Sequence) -> Result<Sequence, InputError> {
        if sequence.tokens.is_empty() {
            return Err(InputError::NoTokens);
        }
        self.check_ids(&sequence.tokens)?;
        Ok(sequence)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), InputError> {
        let vocabulary = self.limits.vocabulary;
        match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(InputError::UnknownToken { id: *id, vocabulary }),
            None => Ok(()),
        }
    }
}

impl Recipe for TextEmbedding {
    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        match input {
            Input::Text(text) => self.text_sequence(text, how),
            Input::Tokens(ids) => self.token_sequence(ids, how),
        }
    }

    fn tokenize(
        &self,
        text: &str,
        special_tokens: bool,
        prompt: &Prompt,
    ) -> Result<Vec<Token>, InputError> {
        let full = self.full_text(&self.prompt(prompt)?, text)?;
        let encoding = self.encode(&full, special_tokens)?;
        let characters: Vec<usize> = full.char_indices().map(|(at, _)| at).collect();
        let byte = |place: usize| characters.get(place).copied().unwrap_or(full.len());
        let tokens = (0..encoding.len()).map(|at| {
            let (start, stop) = encoding.get_offsets()[at];
            let special = encoding.get_special_tokens_mask()[at] == 1;
            let text = if special {
                encoding.get_tokens()[at].clone()
            } else {
                full[byte(start)..byte(stop)].to_owned()
            };
            let (start, stop) = if special { (None, None) } else { (Some(start), Some(stop)) };
            Token { id: encoding.get_ids()[at], text, special, start, stop }
        });
        Ok(tokens.collect())
    }

    fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, InputError> {
        self.check_ids(ids)?;
        let text = self.tokenizer.decode(ids, skip_special_tokens);
        text.map_err(|error| InputError::Tokenizer(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
