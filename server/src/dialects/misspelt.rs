//! Keys that are refused although a dialect does not read them: common misspellings, and keys that
//! change results elsewhere. The lists are closed; other unknown keys are ignored, as clients send
//! many.
//!
//! Must not know: how bodies are read.

/// Misspellings of one body's keys, each with the intended key.
#[derive(Debug)]
pub struct Misspellings {
    /// Always refused; none is a key of any served dialect.
    pub refused: &'static [(&'static str, &'static str)],
    /// Keys of other dialects: refused only if the intended key, which is required, is missing.
    pub elsewhere: &'static [(&'static str, &'static str)],
    /// Keys that change results elsewhere, each with the values, as JSON, that have no effect: a
    /// body that does not read such a key refuses all other values.
    pub unread: &'static [Unread],
}

/// A key, and its values that have no effect.
pub type Unread = (&'static str, &'static [&'static str]);

/// For bodies that request vectors.
const EMBED_KEYS: &[Unread] = &[
    ("add_special_tokens", &["true"]),
    ("dimensions", &[]),
    ("embedding_type", &["\"float\""]),
    ("embedding_types", &["[\"float\"]"]),
    ("embed_dtype", &["\"float32\""]),
    ("endianness", &["\"native\"", "\"little\""]),
    ("instruction", &[]),
    ("modality", &["\"text\""]),
    ("normalize", &[]),
    ("output_dimension", &[]),
    ("output_dtype", &["\"float\""]),
    ("parameters", &["{}"]),
    ("prompt_name", &[]),
    ("truncate", &[]),
    ("truncate_prompt_tokens", &["-1"]),
    ("truncation_direction", &[]),
    ("truncation_side", &[]),
    ("use_activation", &["true"]),
];

/// For bodies that request a ranking or scores.
const RANK_KEYS: &[Unread] = &[
    ("activation", &["true"]),
    ("dimensions", &[]),
    ("document_embeddings", &[]),
    ("instruction", &[]),
    ("listwise", &[]),
    ("max_tokens_per_doc", &["0"]),
    ("max_tokens_per_query", &["0"]),
    ("method", &[]),
    ("normalize", &["true"]),
    ("prompt_name", &[]),
    ("raw_scores", &["false"]),
    ("scores", &[]),
    ("top_n", &[]),
    ("truncate", &["true"]),
    ("truncate_prompt_tokens", &["-1"]),
    ("truncation_direction", &[]),
    ("truncation_side", &[]),
    ("use_activation", &["true"]),
];

/// Bodies of Vertex AI, apart from their instances.
pub const VERTEX: Misspellings = Misspellings {
    refused: &[],
    elsewhere: &[],
    unread: &[
        ("dimensions", &[]),
        ("encoding_format", &[]),
        ("inputs", &[]),
        ("instruction", &[]),
        ("model", &[]),
        ("normalize", &[]),
        ("parameters", &["{}"]),
        ("prompt_name", &[]),
        ("truncate", &[]),
        ("truncation_direction", &[]),
    ],
};

/// Model settings that Weaviate sends to its own containers.
pub const WEAVIATE_CONFIG: Misspellings = Misspellings {
    refused: &[],
    elsewhere: &[],
    unread: &[("pooling_strategy", &["\"masked_mean\"", "\"\""])],
};

/// No known misspellings.
pub const NONE: Misspellings = Misspellings { refused: &[], elsewhere: &[], unread: &[] };

/// OpenAI's embeddings.
pub const OPENAI: Misspellings = Misspellings {
    refused: &[
        ("dimension", "dimensions"),
        ("embedding_dimension", "dimensions"),
        ("embedding_dimensions", "dimensions"),
        ("output_dimensions", "dimensions"),
        ("encodingFormat", "encoding_format"),
        ("encoding_formats", "encoding_format"),
        ("normalise", "normalize"),
        ("instructions", "instruction"),
        ("promptName", "prompt_name"),
        ("truncate_direction", "truncation_direction"),
    ],
    elsewhere: INPUT,
    unread: EMBED_KEYS,
};

/// vLLM's embeddings of conversations.
pub const OPENAI_CHAT: Misspellings =
    Misspellings { refused: OPENAI.refused, elsewhere: &[], unread: EMBED_KEYS };

/// Jina's embeddings.
pub const JINA: Misspellings = Misspellings {
    refused: &[
        ("dimension", "dimensions"),
        ("embedding_dimension", "dimensions"),
        ("embedding_dimensions", "dimensions"),
        ("output_dimensions", "dimensions"),
        ("normalise", "normalized"),
        ("normalised", "normalized"),
    ],
    elsewhere: INPUT,
    unread: EMBED_KEYS,
};

/// Voyage's embeddings.
pub const VOYAGE: Misspellings = Misspellings {
    refused: &[
        ("dimension", "output_dimension"),
        ("output_dimensions", "output_dimension"),
        ("inputType", "input_type"),
        ("input_types", "input_type"),
        ("outputDimension", "output_dimension"),
    ],
    elsewhere: INPUT,
    unread: EMBED_KEYS,
};

/// Voyage's multimodal embeddings.
pub const VOYAGE_PARTS: Misspellings =
    Misspellings { refused: VOYAGE.refused, elsewhere: &[("input", "inputs")], unread: EMBED_KEYS };

/// Cohere's embeddings.
pub const COHERE: Misspellings = Misspellings {
    refused: &[
        ("dimension", "output_dimension"),
        ("output_dimensions", "output_dimension"),
        ("inputType", "input_type"),
        ("input_types", "input_type"),
        ("outputDimension", "output_dimension"),
        ("embeddingTypes", "embedding_types"),
    ],
    elsewhere: &[],
    unread: EMBED_KEYS,
};

/// Embeddings of text-embeddings-inference.
pub const TEI: Misspellings = Misspellings {
    refused: &[
        ("dimension", "dimensions"),
        ("embedding_dimension", "dimensions"),
        ("embedding_dimensions", "dimensions"),
        ("output_dimensions", "dimensions"),
        ("normalise", "normalize"),
        ("instructions", "instruction"),
        ("promptName", "prompt_name"),
        ("truncate_direction", "truncation_direction"),
        ("encodingFormat", "encoding_format"),
    ],
    elsewhere: &[("input", "inputs"), ("text", "inputs"), ("texts", "inputs")],
    unread: EMBED_KEYS,
};

/// Weaviate's vectors.
pub const WEAVIATE: Misspellings =
    Misspellings { refused: &[], elsewhere: &[], unread: EMBED_KEYS };

/// Rankings of text-embeddings-inference.
pub const TEI_RERANK: Misspellings = Misspellings {
    refused: RERANK_REFUSED,
    elsewhere: &[("queries", "query"), ("question", "query")],
    unread: RANK_KEYS,
};

/// Rankings of all other dialects.
pub const RERANK: Misspellings = Misspellings {
    refused: RERANK_REFUSED,
    elsewhere: &[
        ("document", "documents"),
        ("docs", "documents"),
        ("passages", "documents"),
        ("text", "documents"),
        ("inputs", "documents"),
        ("queries", "query"),
        ("question", "query"),
    ],
    unread: RANK_KEYS,
};

/// vLLM's scores.
pub const SCORE: Misspellings =
    Misspellings { refused: &[("instructions", "instruction")], elsewhere: &[], unread: RANK_KEYS };

const INPUT: &[(&str, &str)] = &[("inputs", "input"), ("text", "input"), ("texts", "input")];

const RERANK_REFUSED: &[(&str, &str)] = &[
    ("topN", "top_n"),
    ("topn", "top_n"),
    ("topK", "top_k"),
    ("topk", "top_k"),
    ("raw_score", "raw_scores"),
    ("return_document", "return_documents"),
    ("returnDocuments", "return_documents"),
    ("instructions", "instruction"),
    ("document_embedding", "document_embeddings"),
];

/// All lists, with the names of their dialects.
pub const ALL: [(&str, &Misspellings); 12] = [
    ("openai", &OPENAI),
    ("vllm chat", &OPENAI_CHAT),
    ("jina", &JINA),
    ("voyage", &VOYAGE),
    ("voyage parts", &VOYAGE_PARTS),
    ("cohere", &COHERE),
    ("tei", &TEI),
    ("weaviate", &WEAVIATE),
    ("weaviate config", &WEAVIATE_CONFIG),
    ("tei rerank", &TEI_RERANK),
    ("rerank", &RERANK),
    ("vllm score", &SCORE),
];
