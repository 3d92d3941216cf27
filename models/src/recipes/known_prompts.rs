//! Prompts of published embedders whose files have none, by name: their cards ask for them. They
//! are used only by requests that say what their texts are for, or name one.
//!
//! Must not know: tokenizers, which network follows.

use crate::checkpoint::Checkpoint;

/// Prompts by name.
type Named = &'static [(&'static str, &'static str)];

const E5: Named = &[("query", "query: "), ("passage", "passage: ")];
const NOMIC: Named = &[
    ("search_query", "search_query: "),
    ("search_document", "search_document: "),
    ("classification", "classification: "),
    ("clustering", "clustering: "),
];
/// Documents have none.
const PASSAGES: Named =
    &[("query", "Represent this sentence for searching relevant passages: "), ("document", "")];
const PASSAGES_IN_CHINESE: Named =
    &[("query", "为这个句子生成表示以用于检索相关文章："), ("document", "")];

/// What a model's name contains, in lower case, and its prompts; the first that fits is used.
const KNOWN: [(&str, Named); 17] = [
    // These have their instructions elsewhere.
    ("e5-mistral", &[]),
    ("e5-large-instruct", &[]),
    ("multilingual-e5-", E5),
    ("e5-small", E5),
    ("e5-base", E5),
    ("e5-large", E5),
    ("nomic-embed-text", NOMIC),
    ("snowflake-arctic-embed-l-v2", &[("query", "query: "), ("document", "")]),
    ("snowflake-arctic-embed-m-v2", &[("query", "query: "), ("document", "")]),
    ("snowflake-arctic-embed", PASSAGES),
    ("mxbai-embed-large", PASSAGES),
    ("bge-small-en", PASSAGES),
    ("bge-base-en", PASSAGES),
    ("bge-large-en", PASSAGES),
    ("bge-large-zh", PASSAGES_IN_CHINESE),
    ("bge-base-zh", PASSAGES_IN_CHINESE),
    ("bge-small-zh", PASSAGES_IN_CHINESE),
];

/// The prompts of a checkpoint by its name; none if its name is not known.
pub fn of(checkpoint: &Checkpoint) -> Named {
    let names = checkpoint.names();
    let found = KNOWN.iter().find(|(name, _)| names.contains(name));
    found.map_or(&[], |(_, prompts)| prompts)
}
