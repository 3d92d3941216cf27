//! Prompts of published embedders whose files have none, by name: their cards ask for them. They
//! are used by rankings, and by requests that say what their texts are for or name a prompt.
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
const QUERIES: Named = &[("query", "query: "), ("document", "")];
const PASSAGES_IN_CHINESE: Named =
    &[("query", "为这个句子生成表示以用于检索相关文章："), ("document", "")];

/// Models by name, in lower case, and their prompts.
const KNOWN: [(&[&str], Named); 5] = [
    (
        &[
            "e5-small",
            "e5-base",
            "e5-large",
            "e5-small-v2",
            "e5-base-v2",
            "e5-large-v2",
            "multilingual-e5-small",
            "multilingual-e5-base",
            "multilingual-e5-large",
        ],
        E5,
    ),
    (
        &[
            "nomic-embed-text-v1",
            "nomic-embed-text-v1-unsupervised",
            "nomic-embed-text-v1.5",
            "nomic-embed-text-v2-moe",
        ],
        NOMIC,
    ),
    (
        &[
            "snowflake-arctic-embed-xs",
            "snowflake-arctic-embed-s",
            "snowflake-arctic-embed-m",
            "snowflake-arctic-embed-m-long",
            "snowflake-arctic-embed-m-v1.5",
            "snowflake-arctic-embed-l",
            "mxbai-embed-large-v1",
            "bge-small-en",
            "bge-base-en",
            "bge-large-en",
            "bge-small-en-v1.5",
            "bge-base-en-v1.5",
            "bge-large-en-v1.5",
        ],
        PASSAGES,
    ),
    (&["snowflake-arctic-embed-m-v2.0", "snowflake-arctic-embed-l-v2.0"], QUERIES),
    (
        &[
            "bge-small-zh",
            "bge-base-zh",
            "bge-large-zh",
            "bge-small-zh-v1.5",
            "bge-base-zh-v1.5",
            "bge-large-zh-v1.5",
        ],
        PASSAGES_IN_CHINESE,
    ),
];

/// The prompts of a checkpoint by its folder's or Hub name; none if that is not known. The name in
/// `config.json` is often that of the model it was trained from, so it tells nothing.
pub fn of(checkpoint: &Checkpoint) -> Named {
    let name = checkpoint.own_name();
    let found = KNOWN.iter().find(|(names, _)| names.contains(&name.as_str()));
    found.map_or(&[], |(_, prompts)| prompts)
}
