//! Cross-encoders and classifiers: one text or two in the tokenizer's own template, the longer cut
//! first.
//!
//! Must not know: which network follows, tensors, requests.

use super::tokenizer::TextTokenizer;
use super::{Recipe, RecipeKind, TEXTS_ONLY, Token, prepare_pair, text_of};
use crate::batch::Sequence;
use crate::input::{Input, InputError, Prepare, Prompt};
use crate::model::Task;

/// The entry of the list.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "cross_encoder",
        fits: |_, task| matches!(task, Task::Score | Task::YesNo),
        tokens_max: None,
        load: |checkpoint, limits, _| {
            let tokenizer = TextTokenizer::load(checkpoint, limits)?;
            tokenizer.template(checkpoint)?;
            Ok(Box::new(CrossEncoder { tokenizer }))
        },
    }
}

struct CrossEncoder {
    tokenizer: TextTokenizer,
}

impl CrossEncoder {
    fn pair(&self, query: &str, document: &str, how: &Prepare) -> Result<Sequence, InputError> {
        let document = self.tokenizer.part(document, how.document_tokens_max)?;
        let query = self.tokenizer.part(query, how.query_tokens_max)?;
        let (query, document) = (self.tokenizer.plain(query)?, self.tokenizer.plain(document)?);
        let limit = self.tokenizer.limit(how);
        let (query, document) = self.tokenizer.cut_pair(query, document, limit, how)?;
        let encoding = self.tokenizer.wrap(query, Some(document))?;
        let second_text = encoding.get_type_ids().iter().position(|kind| *kind == 1);
        let tokens = encoding.get_ids().to_vec();
        self.tokenizer.checked(Sequence { tokens, second_text, ..Sequence::default() })
    }
}

/// Refuses what only models with prompts know.
fn no_prompt(prompt: &Prompt) -> Result<(), InputError> {
    match prompt {
        Prompt::Default | Prompt::None | Prompt::FirstOf(_) => Ok(()),
        Prompt::Instruction(text) if text.is_empty() => Ok(()),
        Prompt::Instruction(_) => Err(InputError::NoInstruction),
        Prompt::Named(name) => {
            Err(InputError::UnknownPrompt { name: name.clone(), known: Vec::new() })
        }
    }
}

impl Recipe for CrossEncoder {
    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        no_prompt(&how.prompt)?;
        match input {
            Input::Pair { query, document } => {
                no_prompt(&prepare_pair(query, document, how)?.prompt)?;
                self.pair(&text_of(query)?, &text_of(document)?, how)
            }
            Input::Item(item) => {
                let text = item.text().ok_or(TEXTS_ONLY)?;
                self.prepare(&Input::Text(text.to_string()), &item.prepare(how))
            }
            Input::Text(text) => {
                let mut encoding = self.tokenizer.plain(text)?;
                self.tokenizer.cut(&mut encoding, self.tokenizer.added(false), how)?;
                let tokens = self.tokenizer.wrap(encoding, None)?.get_ids().to_vec();
                self.tokenizer.checked(Sequence { tokens, ..Sequence::default() })
            }
            Input::Tokens(ids) => self.tokenizer.given(ids, how),
            Input::Listwise { .. } => Err(InputError::Kind("scores pairs, not lists")),
        }
    }

    fn tokenize(
        &self,
        text: &str,
        special_tokens: bool,
        prompt: &Prompt,
    ) -> Result<Vec<Token>, InputError> {
        no_prompt(prompt)?;
        self.tokenizer.tokens(text, special_tokens)
    }

    fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String, InputError> {
        self.tokenizer.decode(ids, skip_special_tokens)
    }
}
