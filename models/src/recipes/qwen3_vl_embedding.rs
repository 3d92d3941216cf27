//! Qwen3-VL-Embedding: a chat whose system turn is the instruction and whose user turn is the item,
//! embedded at its last token (`qwen3_vl_embedding.py` in the model's repository).
//!
//! Must not know: which network follows, tensors, requests.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

use super::chat::{Chat, is_cut};
use super::prompts::Prompts;
use super::{Cancelled, Recipe, RecipeKind, Tokenize};
use crate::batch::Sequence;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::input::{Input, InputError, Prepare, Prompt};
use crate::item::Content;
use crate::task::Task;

/// The default instruction.
const INSTRUCTION: &str = "Represent the user's input.";
/// Follows an item.
const TAIL: &str = "<|im_end|>\n<|im_start|>assistant\n";
/// Longest sequence of the model's published code.
const TOKENS_MAX: usize = 8_192;

/// Its entry in the list of recipes.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "qwen3_vl_embedding",
        fits: |checkpoint, task| task == Task::Embed && checkpoint.model_type() == "qwen3_vl",
        tokens_max: Some(TOKENS_MAX),
        load: |checkpoint, traits, media| {
            let chat = Chat::load(checkpoint, traits, media)?;
            let prompts = Prompts::of(checkpoint, &traits.conventions);
            Ok(Box::new(Qwen3VlEmbedding::new(checkpoint, chat, prompts)?))
        },
    }
}

struct Qwen3VlEmbedding {
    chat: Chat,
    /// Appended to every chat.
    after: Vec<u32>,
    prompts: Prompts,
}

impl Qwen3VlEmbedding {
    fn new(checkpoint: &Checkpoint, chat: Chat, prompts: Prompts) -> Result<Self, CheckpointError> {
        let (_, after) = chat.tokenizer.template(checkpoint)?;
        Ok(Self { chat, after, prompts })
    }

    fn instruction(&self, prompt: &Prompt) -> Result<String, InputError> {
        Ok(finished(self.prompts.instruction(prompt, INSTRUCTION)?))
    }

    /// What precedes an item.
    fn head(&self, prompt: &Prompt) -> Result<String, InputError> {
        let instruction = self.instruction(prompt)?;
        Ok(format!("<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n"))
    }

    fn sequence(
        &self,
        content: &Content,
        how: &Prepare,
        cancelled: Cancelled<'_>,
    ) -> Result<Sequence, InputError> {
        let (added, limit) = (self.after.len(), self.chat.tokenizer.limit(how));
        let mut chat = self.chat.begin(limit, cancelled);
        chat.text(&self.head(&how.prompt)?).content(content, how.document_tokens_max)?;
        let mut sequence = chat.text(TAIL).finish()?;
        if is_cut(sequence.tokens.len() + added, limit, how)? {
            // As in the reference, the end is cut off, including the end of the turn.
            let room = limit.saturating_sub(added);
            let end = sequence.visuals.last().map_or(0, |visual| visual.rows().end);
            if room < end.max(1) {
                return Err(match end {
                    0 => InputError::LimitTooSmall { limit },
                    _ => InputError::MediaTooLong { tokens: end + added, limit },
                });
            }
            sequence.tokens.truncate(room);
            sequence.is_cut = true;
        }
        sequence.tokens.extend(&self.after);
        Ok(sequence)
    }
}

/// An instruction, trimmed and ending in punctuation; the default one if it is empty.
fn finished(instruction: &str) -> String {
    // Four control characters are whitespace in Python, but not in Unicode.
    let instruction =
        instruction.trim_matches(|c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c));
    let Some(last) = instruction.chars().last() else { return INSTRUCTION.into() };
    let stop = if is_punctuation(last) { "" } else { "." };
    format!("{instruction}{stop}")
}

fn is_punctuation(character: char) -> bool {
    matches!(
        get_general_category(character),
        Category::ConnectorPunctuation
            | Category::DashPunctuation
            | Category::OpenPunctuation
            | Category::ClosePunctuation
            | Category::InitialPunctuation
            | Category::FinalPunctuation
            | Category::OtherPunctuation
    )
}

impl Recipe for Qwen3VlEmbedding {
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
            Input::Content(content) => self.sequence(content, &how.of(content), cancelled),
            Input::Tokens(ids) => self.chat.tokenizer.given(ids, how),
            Input::Pair { .. } | Input::Listwise { .. } => Err(InputError::Kind("scores no pairs")),
        }
    }

    fn with_prompt(
        &self,
        text: &str,
        special_tokens: bool,
        prompt: &Prompt,
    ) -> Result<String, InputError> {
        if special_tokens {
            return Ok(format!("{}{text}{TAIL}", self.head(prompt)?));
        }
        self.instruction(prompt)?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_end_in_punctuation() {
        for (given, wanted) in [
            ("", INSTRUCTION),
            (" \n\t", INSTRUCTION),
            ("Find it", "Find it."),
            ("  Find it!  ", "Find it!"),
            ("找到它。", "找到它。"),
            ("find (this)", "find (this)"),
            ("find $", "find $."),
            ("¿qué»", "¿qué»"),
            ("a_", "a_"),
        ] {
            assert_eq!(finished(given), wanted);
        }
    }

    #[test]
    fn times_are_written_as_python_writes_them() {
        let written = [0.25, 0.75, 1.25, 0.05, 12.25].map(|time: f64| format!("{time:.1}"));
        assert_eq!(written, ["0.2", "0.8", "1.2", "0.1", "12.2"]);
    }
}
