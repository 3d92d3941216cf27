//! Cross-encoders and classifiers: one text or two in the tokenizer's own template, the longer
//! truncated first.
//!
//! Must not know: which network follows, tensors, requests.

use super::prompts::{Prompts, Resolved};
use super::tokenizer::TextTokenizer;
use super::{Recipe, RecipeKind, Tokenize, chat_template, prepare_pair, text_of};
use crate::batch::Sequence;
use crate::checkpoint::CheckpointError;
use crate::input::{Input, InputError, Prepare, Prompt};
use crate::task::Task;

/// Its entry in the list of recipes.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "cross_encoder",
        fits: |_, task| matches!(task, Task::Classify | Task::Rerank),
        tokens_max: None,
        load: |checkpoint, traits, _| {
            chat_template::refuse(checkpoint, true)?;
            let tokenizer = TextTokenizer::load(checkpoint, traits)?;
            tokenizer.template(checkpoint)?;
            tokenizer.check_types(checkpoint, true)?;
            if let Some(modules) = checkpoint.sentence_transformers()
                && modules.prompts.values().any(|prompt| !prompt.is_empty())
            {
                let path = checkpoint.dir().join("config_sentence_transformers.json");
                let problem = "prompts of a cross-encoder of this kind are not supported";
                return Err(CheckpointError::new(path, problem));
            }
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
        let cut = self.tokenizer.cut_pair(query, document, how)?;
        let (query, document) = cut.kept;
        let encoding = self.tokenizer.wrap(query, Some(document))?;
        let second_text = self.tokenizer.second_text(&encoding);
        let tokens = encoding.get_ids().to_vec();
        let is_cut = cut.is_cut;
        self.tokenizer.checked(Sequence { tokens, second_text, is_cut, ..Sequence::default() })
    }
}

/// Refuses prompt names and instructions, which these models do not have.
fn no_prompt(prompt: &Prompt) -> Result<(), InputError> {
    match Prompts::default().resolve(prompt)? {
        Resolved::Instruction(_) => Err(InputError::NoInstruction),
        Resolved::Default | Resolved::None | Resolved::Text(_) => Ok(()),
    }
}

impl Recipe for CrossEncoder {
    fn tokenizer(&self) -> &dyn Tokenize {
        &self.tokenizer
    }

    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        no_prompt(&how.prompt)?;
        match input {
            Input::Pair { query, document } => {
                no_prompt(&prepare_pair(query, document, how)?.prompt)?;
                self.pair(&text_of(query)?, &text_of(document)?, how)
            }
            Input::Content(content) => {
                let text = text_of(content)?;
                no_prompt(&how.of(content).prompt)?;
                let cut = self.tokenizer.cut(&text, self.tokenizer.added(false), how)?;
                let tokens = self.tokenizer.wrap(cut.kept, None)?.get_ids().to_vec();
                let is_cut = cut.is_cut;
                self.tokenizer.checked(Sequence { tokens, is_cut, ..Sequence::default() })
            }
            Input::Tokens(ids) => self.tokenizer.given(ids, how),
            Input::Listwise { .. } => Err(InputError::Kind("scores pairs, not lists")),
        }
    }

    fn with_prompt(
        &self,
        text: &str,
        _special_tokens: bool,
        prompt: &Prompt,
    ) -> Result<String, InputError> {
        no_prompt(prompt)?;
        Ok(text.to_owned())
    }
}
