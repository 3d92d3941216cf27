//! Keys that are often misspelt, by dialect: closed lists. Other unknown keys are ignored, as
//! clients send many.
//!
//! Must not know: how bodies are read.

/// Misspellings of one body's keys, each with the key that is meant.
#[derive(Debug)]
pub struct Misspellings {
    /// Refused wherever they are; none is a key of any served dialect.
    pub refused: &'static [(&'static str, &'static str)],
    /// Keys of other dialects: told only where the key that is meant is needed and missing.
    pub elsewhere: &'static [(&'static str, &'static str)],
}

/// No misspellings are known.
pub const NONE: Misspellings = Misspellings { refused: &[], elsewhere: &[] };

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
};

/// vLLM's embeddings of chats.
pub const OPENAI_CHAT: Misspellings = Misspellings { refused: OPENAI.refused, elsewhere: &[] };

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
};

/// Voyage's embeddings of several parts.
pub const VOYAGE_PARTS: Misspellings =
    Misspellings { refused: VOYAGE.refused, elsewhere: &[("input", "inputs")] };

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
};

/// Rankings of text-embeddings-inference.
pub const TEI_RERANK: Misspellings = Misspellings {
    refused: RERANK_REFUSED,
    elsewhere: &[("queries", "query"), ("question", "query")],
};

/// Rankings of all others.
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
};

/// vLLM's scores.
pub const SCORE: Misspellings =
    Misspellings { refused: &[("instructions", "instruction")], elsewhere: &[] };

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
pub const ALL: [(&str, &Misspellings); 10] = [
    ("openai", &OPENAI),
    ("vllm chat", &OPENAI_CHAT),
    ("jina", &JINA),
    ("voyage", &VOYAGE),
    ("voyage parts", &VOYAGE_PARTS),
    ("cohere", &COHERE),
    ("tei", &TEI),
    ("tei rerank", &TEI_RERANK),
    ("rerank", &RERANK),
    ("vllm score", &SCORE),
];
