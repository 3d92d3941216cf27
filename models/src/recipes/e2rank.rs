//! E2Rank: a text embedding model that also embeds a query with its candidates as one pseudo-query,
//! which ranks them by cosine similarity (Liu et al., E2Rank, 2025; templates from `src/eval.py`,
//! the README and `src/data.py` of its repository).
//!
//! Must not know: which network follows, tensors, requests.

use std::sync::Arc;

use super::fitted_list::FittedList;
use super::prompts::{Prompts, Resolved};
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
        let query = tokenizer.part(query, how.query_tokens_max)?;
        let encode = |each: Option<usize>| {
            let mut documents = Vec::with_capacity(candidates.len());
            for (index, candidate) in candidates.iter().enumerate() {
                let text = tokenizer.part(candidate, each)?;
                documents.push(format!("[{}] {text}", index + 1));
            }
            tokenizer.plain(&whole(instruction, query, &documents, template)?)
        };
        let FittedList { encoding, is_cut } =
            FittedList::new(tokenizer, how, candidates, how.document_tokens_max, encode)?;
        let tokens = encoding.get_ids().to_vec();
        tokenizer.checked(Sequence { tokens, is_cut, ..Sequence::default() })
    }
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

    fn own_prompts(&self) -> Option<&Prompts> {
        self.text.own_prompts()
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
    fn a_text_is_never_taken_for_a_placeholder() {
        let placeholders = [("{documents}", "a {query} b"), ("{query}", "{documents}")];
        assert_eq!(
            fill("x {query} y {documents} z", &placeholders),
            "x {documents} y a {query} b z"
        );
    }
}
