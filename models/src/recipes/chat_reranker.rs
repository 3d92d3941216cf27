//! Rerankers that are causal language models with a chat template of their own. It is given two
//! messages, with the roles `query` and `document`, and the logits of the next token make the score
//! (sentence-transformers' `CrossEncoder` with `LogitScore`). zerank, whose files do not say so, is
//! in the list of those that are known by name.
//!
//! Must not know: which network follows, tensors, requests.

mod template;

use std::sync::{Arc, Mutex, PoisonError};

use super::prompts::Prompts;
use super::tokenizer::{TextTokenizer, check_bytes};
use super::{
    AnswerWords, Recipe, RecipeKind, Tokenize, check_pair, parts_reranker, prepare_only_pairs,
};
use crate::batch::Sequence;
use crate::checkpoint::Checkpoint;
use crate::input::{Input, InputError, Prepare, Prompt};
use crate::task::Task;
use template::ChatTemplate;

/// Its entry in the list of recipes.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "chat_reranker",
        fits: |checkpoint, task| {
            task == Task::Rerank
                && !parts_reranker::is_known(checkpoint)
                && (Zerank::is(checkpoint) || template::is_applied(checkpoint))
        },
        tokens_max: None,
        load: |checkpoint, traits, _| {
            let tokenizer = TextTokenizer::load(checkpoint, traits)?;
            let tokens = tokenizer.named_tokens().clone();
            let (chat, answers) = match Zerank::is(checkpoint) {
                true => (ChatTemplate::built_in(checkpoint, Zerank::TEMPLATE)?, Zerank::ANSWERS),
                false => (ChatTemplate::of(checkpoint, tokens)?, AnswerWords::default()),
            };
            let prompts = Prompts::of(checkpoint, &traits.conventions);
            let end = Mutex::default();
            Ok(Box::new(ChatReranker { tokenizer, prompts, chat, answers, end }))
        },
    }
}

/// zerank-1, zerank-1-small and zerank-2, whose code is their own (`modeling_zeranker.py`; vLLM's
/// `zerank2.jinja`).
struct Zerank;

impl Zerank {
    /// The query is the system's turn; an instruction goes with it.
    const TEMPLATE: &str = concat!(
        "<|im_start|>system\n{% if messages[0].role == 'system' %}<query>{{ messages[1].content }}",
        "</query>\n<instruction>{{ messages[0].content }}</instruction>{% else %}",
        "{{ messages[0].content }}{% endif %}<|im_end|>\n<|im_start|>user\n",
        "{{ messages[-1].content }}<|im_end|>\n<|im_start|>assistant\n\n"
    );
    const ANSWERS: AnswerWords =
        AnswerWords { yes: "Yes", no: None, divisor: 5.0, first_token: true };

    /// Whether a checkpoint is one of them, by its name: its files do not tell.
    fn is(checkpoint: &Checkpoint) -> bool {
        let modules = checkpoint.sentence_transformers();
        checkpoint.model_type() == "qwen3"
            && checkpoint.names().contains("zerank")
            && modules.is_none_or(|modules| modules.logit_score.is_none())
    }
}

struct ChatReranker {
    tokenizer: TextTokenizer,
    prompts: Prompts,
    chat: ChatTemplate,
    answers: AnswerWords,
    /// The last one that was computed: most requests have the same.
    end: Mutex<Option<LastEnd>>,
}

/// The tokens that end every chat with this system turn, or without one.
#[derive(Debug, Clone)]
struct LastEnd {
    system: Option<String>,
    tokens: Arc<[u32]>,
}

impl ChatReranker {
    fn pair(&self, query: &str, document: &str, how: &Prepare) -> Result<Sequence, InputError> {
        let system = self.prompts.asked(&how.prompt)?;
        let system = match (system, &how.prompt) {
            (Some(_), Prompt::Named(_) | Prompt::Instruction(_)) if !self.chat.takes_system() => {
                return Err(InputError::NoInstruction);
            }
            (system, _) => system.filter(|_| self.chat.takes_system()),
        };
        // Before they are put into the template, which may repeat them.
        for text in [query, document, system.unwrap_or_default()] {
            check_bytes(text)?;
        }
        let document = self.tokenizer.part(document, how.document_tokens_max)?;
        let query = self.tokenizer.part(query, how.query_tokens_max)?;
        let chat = self.chat.write(system, query, document)?;
        let cut = self.tokenizer.cut(&chat, 0, how)?;
        let (mut tokens, is_cut) = (cut.kept.get_ids().to_vec(), cut.is_cut);
        if is_cut {
            // As in sentence-transformers: what the template puts at the end is read for the
            // score, so it takes the place of the last tokens.
            let end = self.end(system)?;
            if end.len() >= tokens.len() {
                return Err(InputError::LimitTooSmall { limit: tokens.len() });
            }
            let kept = tokens.len() - end.len();
            tokens.splice(kept.., end.iter().copied());
        }
        self.tokenizer.checked(Sequence { tokens, is_cut, ..Sequence::default() })
    }

    /// The tokens that end every chat: the common suffix of two different ones.
    fn end(&self, system: Option<&str>) -> Result<Arc<[u32]>, InputError> {
        let last = self.end.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(last) = last.filter(|last| last.system.as_deref() == system) {
            return Ok(last.tokens);
        }
        let ids = |filler: &str| -> Result<Vec<u32>, InputError> {
            let chat = self.chat.write(system, filler, filler)?;
            Ok(self.tokenizer.plain(&chat)?.get_ids().to_vec())
        };
        let (first, second) = (ids("0")?, ids("1 2 3 4")?);
        let same = first.iter().rev().zip(second.iter().rev()).take_while(|(a, b)| a == b).count();
        let end: Arc<[u32]> = first[first.len() - same..].into();
        let last = Some(LastEnd { system: system.map(str::to_owned), tokens: end.clone() });
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(end)
    }
}

impl Recipe for ChatReranker {
    fn tokenizer(&self) -> &dyn Tokenize {
        &self.tokenizer
    }

    fn own_prompts(&self) -> Option<&Prompts> {
        Some(&self.prompts)
    }

    fn answers(&self) -> AnswerWords {
        self.answers
    }

    fn check_input(&self) -> Input {
        check_pair()
    }

    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        prepare_only_pairs(&self.tokenizer, input, how, |query, document, how| {
            self.pair(query, document, how)
        })
    }
}
