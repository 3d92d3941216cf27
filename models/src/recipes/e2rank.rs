//! E2Rank: a text embedding model that also embeds a query with its candidates as one pseudo-query,
//! which ranks them by cosine similarity (Liu et al., E2Rank, 2025; templates from `src/eval.py`,
//! the README and `src/data.py` of its repository).
//!
//! Must not know: which network follows, tensors, requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::prompts::Resolved;
use super::text::TextEmbedding;
use super::{NetworkTraits, Recipe, RecipeKind, SpecialTokens, Tokenize};
use crate::batch::Sequence;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::input::{Input, InputError, ListwiseTemplate, Prepare, Prompt};
use crate::task::Task;

/// The error for a named prompt with a list.
const NO_PROMPT: InputError =
    InputError::Kind("ranks lists by an instruction; send instruction instead of prompt_name");
/// The last token of every embedded text.
const END: &str = "<|endoftext|>";
/// The default instruction of a pseudo-query.
const INSTRUCTION: &str = "Given a web search query and some relevant documents, rerank the \
    documents that answer the query:";
/// The prompt of queries that are embedded alone.
const QUERY_PROMPT: &str =
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:";
/// Maximum number of attempts to truncate documents; later ones only correct the first's estimate.
const CUTS_MAX: usize = 4;
/// The chat around a pseudo-query, with thinking disabled.
const HEAD: &str = "<|im_start|>user\n";
const TAIL: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// Its entry in the list of recipes.
pub fn kind() -> RecipeKind {
    RecipeKind {
        name: "e2rank",
        fits: |_, task| task == Task::E2Rank,
        tokens_max: None,
        load: |checkpoint, traits, _| Ok(Box::new(E2Rank::load(checkpoint, traits)?)),
    }
}

struct E2Rank {
    text: TextEmbedding,
}

impl E2Rank {
    fn load(checkpoint: &Checkpoint, traits: &NetworkTraits) -> Result<Self, CheckpointError> {
        let text = TextEmbedding::load(checkpoint, traits)?.ending_in(checkpoint, END)?;
        Ok(Self { text: text.with_prompt("query", QUERY_PROMPT) })
    }

    fn pseudo_query(
        &self,
        query: &str,
        candidates: &[Arc<str>],
        template: &ListwiseTemplate,
        how: &Prepare,
    ) -> Result<Sequence, InputError> {
        let prompts = self.text.prompt_names();
        let instruction = match (&how.prompt, prompts.resolve(&how.prompt)?) {
            (_, Resolved::Instruction(text)) => text,
            // A named prompt is a prefix for texts embedded alone, not an instruction.
            (Prompt::Named(_), _) => return Err(NO_PROMPT),
            _ => INSTRUCTION,
        };
        let tokenizer = self.text.tokenizer();
        let limit = tokenizer.limit(how);
        let query = tokenizer.part(query, how.query_tokens_max)?;
        let encode = |each: Option<usize>| {
            let mut documents = Vec::with_capacity(candidates.len());
            for (index, candidate) in candidates.iter().enumerate() {
                let text = tokenizer.part(candidate, each)?;
                documents.push(format!("[{}] {text}", index + 1));
            }
            tokenizer.plain(&whole(instruction, query, &documents, template)?)
        };
        let mut encoding = encode(how.document_tokens_max)?;
        let mut longest = None;
        for _ in 0..CUTS_MAX {
            let tokens = encoding.len();
            if tokens <= limit {
                let tokens = encoding.get_ids().to_vec();
                let is_cut = longest.is_some();
                return tokenizer.checked(Sequence { tokens, is_cut, ..Sequence::default() });
            }
            if !how.truncate {
                return Err(InputError::TooLong { tokens, limit });
            }
            // The longest documents are truncated; query and template stay whole.
            let mut lengths = Vec::with_capacity(candidates.len());
            for candidate in candidates {
                let length = tokenizer.plain(candidate)?.len();
                lengths.push(length.min(longest.or(how.document_tokens_max).unwrap_or(length)));
            }
            let rest = tokens.saturating_sub(lengths.iter().sum());
            // Reserves a token per candidate, as tokens may merge or split where texts meet.
            let room = limit.saturating_sub(rest + candidates.len());
            longest = Some(longest_within(&lengths, room));
            if longest == Some(0) {
                break;
            }
            encoding = encode(longest)?;
        }
        Err(InputError::QueryTooLong { limit })
    }
}

/// The largest cap per text with which texts of these lengths have at most `room` tokens in all.
fn longest_within(lengths: &[usize], room: usize) -> usize {
    let (mut fits, mut too_long) = (0, lengths.iter().max().map_or(1, |longest| longest + 1));
    while fits + 1 < too_long {
        let middle = usize::midpoint(fits, too_long);
        if lengths.iter().map(|length| *length.min(&middle)).sum::<usize>() <= room {
            fits = middle;
        } else {
            too_long = middle;
        }
    }
    fits
}

/// The text of a pseudo-query.
fn whole(
    instruction: &str,
    query: &str,
    documents: &[String],
    template: &ListwiseTemplate,
) -> Result<String, InputError> {
    let joined = |end: &str| {
        let documents: Vec<String> = documents.iter().map(|text| format!("{text}{end}")).collect();
        documents.join("\n")
    };
    let documents = joined("");
    Ok(match template {
        ListwiseTemplate::Paper => {
            format!("{HEAD}{instruction}\nDocuments:\n{documents}\nSearch Query: {query}{TAIL}")
        }
        // In the README, documents end in the token that ends them when embedded alone.
        ListwiseTemplate::Readme => {
            let documents = joined(END);
            format!("{HEAD}{instruction}\nDocuments:\n{documents}Search Query:{query}{TAIL}")
        }
        ListwiseTemplate::Training => {
            let instruction = instruction.trim_end_matches(':');
            format!("{HEAD}{instruction}:\nDocuments:\n{documents}\nQuery: {query}{END}{TAIL}")
        }
        ListwiseTemplate::Given(template) => {
            for placeholder in ["{documents}", "{query}"] {
                if !template.contains(placeholder) {
                    return Err(InputError::Template(placeholder));
                }
            }
            fill(
                template,
                &[("{instruction}", instruction), ("{documents}", &documents), ("{query}", query)],
            )
        }
    })
}

/// Replaces placeholders in one pass: inserted text is never searched for placeholders.
fn fill(template: &str, placeholders: &[(&str, &str)]) -> String {
    let (mut filled, mut rest) = (String::new(), template);
    while !rest.is_empty() {
        let next = placeholders
            .iter()
            .filter_map(|(placeholder, text)| {
                rest.find(placeholder).map(|at| (at, placeholder, text))
            })
            .min_by_key(|(at, ..)| *at);
        let Some((at, placeholder, text)) = next else { break };
        filled.push_str(&rest[..at]);
        filled.push_str(text);
        rest = &rest[at + placeholder.len()..];
    }
    filled + rest
}

impl Recipe for E2Rank {
    fn tokenizer(&self) -> &dyn Tokenize {
        Recipe::tokenizer(&self.text)
    }

    fn prompts(&self) -> BTreeMap<String, String> {
        self.text.prompts()
    }

    fn special_tokens(&self) -> SpecialTokens {
        self.text.special_tokens()
    }

    fn prepare(&self, input: &Input, how: &Prepare) -> Result<Sequence, InputError> {
        match input {
            Input::Listwise { query, candidates, template } => {
                self.pseudo_query(query, candidates, template, how)
            }
            other => self.text.prepare(other, how),
        }
    }

    fn with_prompt(
        &self,
        text: &str,
        special_tokens: bool,
        prompt: &Prompt,
    ) -> Result<String, InputError> {
        Recipe::with_prompt(&self.text, text, special_tokens, prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_texts_are_cut() {
        assert_eq!(longest_within(&[10, 2, 30], 42), 30);
        assert_eq!(longest_within(&[10, 2, 30], 22), 10);
        assert_eq!(longest_within(&[10, 2, 30], 12), 5);
        assert_eq!(longest_within(&[10, 2, 30], 2), 0);
    }

    #[test]
    fn a_text_is_never_taken_for_a_placeholder() {
        let placeholders = [("{documents}", "a {query} b"), ("{query}", "{documents}")];
        assert_eq!(
            fill("x {query} y {documents} z", &placeholders),
            "x {documents} y a {query} b z"
        );
    }
}
