//! Token ids instead of texts: whether they come from the served model's own tokenizer.
//!
//! Ids of another vocabulary would give meaningless vectors, and no error.
//!
//! Must not know: any particular dialect.

use crate::http::{Chosen, Failure, TokenIds};

/// The tokenizer whose ids an API expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdsOf {
    /// The served model's: text-embeddings-inference, Proxima's own.
    Model,
    /// Whatever tokenizer the client uses; OpenAI's API leaves it open. LangChain's
    /// `OpenAIEmbeddings` sends ids of tiktoken.
    Client,
}

impl IdsOf {
    /// Checks every input that consists of token ids; others are `None`.
    ///
    /// # Errors
    /// The first refused input, by its index.
    pub fn check<'i>(
        self,
        chosen: &Chosen<'_>,
        inputs: impl Iterator<Item = Option<&'i [u32]>>,
    ) -> Result<(), Failure> {
        let refused = match (chosen.token_ids(), self) {
            (TokenIds::Allow, _) | (TokenIds::Checked, Self::Model) => None,
            (TokenIds::Refuse, _) => first(inputs, |_| false).map(never),
            (TokenIds::Checked, Self::Client) => {
                let special = &chosen.info().special_tokens;
                first(inputs, |ids| special.are_around(ids)).map(foreign)
            }
        };
        refused.map_or(Ok(()), |message| Err(Failure::body(message)))
    }
}

/// The index of the first input whose token ids are not `good`.
fn first<'i>(
    mut inputs: impl Iterator<Item = Option<&'i [u32]>>,
    good: impl Fn(&[u32]) -> bool,
) -> Option<usize> {
    inputs.position(|ids| ids.is_some_and(|ids| !good(ids)))
}

/// The message when token ids are refused altogether.
pub fn never(index: usize) -> String {
    format!("input {index} is token ids, which this server refuses (--token-ids refuse): send text")
}

fn foreign(index: usize) -> String {
    format!(
        "input {index} is token ids without the special tokens that the model's own tokenizer \
         adds, so they may come from another tokenizer and would give a meaningless vector: send \
         text (with LangChain's OpenAIEmbeddings set check_embedding_ctx_length=False), or start \
         the server with --token-ids allow if clients use the model's own tokenizer"
    )
}
