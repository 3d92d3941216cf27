//! Which networks candle-transformers computes as Proxima does, which otherwise, and which not at
//! all.

use super::{Make, decoders, encoders};

/// Networks of `families.json`, and folders of `scores`, that both compute alike.
pub const AGREES: &[(&str, Make)] = &[
    ("scores/bert-classifier", encoders::bert),
    ("scores/splade-bert", encoders::bert),
    ("scores/splade-bert", encoders::bert_over_words),
    ("distilbert over words", encoders::distilbert),
    ("distilbert over words", encoders::distilbert_over_words),
    ("roberta over words", encoders::xlm_roberta),
    ("scores/bge-m3", encoders::xlm_roberta),
    ("scores/xlmr-reranker", encoders::xlm_roberta),
    ("scores/xlmr-reranker", encoders::xlm_roberta_scores),
    ("scores/modernbert-embedder", encoders::modern_bert),
    ("scores/modernbert-reranker-cls", encoders::modern_bert),
    ("scores/modernbert-reranker-cls", encoders::modern_bert_scores_beside_zero),
    ("scores/modernbert-reranker-mean", encoders::modern_bert),
    ("scores/modernbert-reranker-mean", encoders::modern_bert_scores_beside_zero),
    ("nomic", encoders::nomic_bert),
    ("nomic with keys of transformers", encoders::nomic_bert),
    ("nomic classifier", encoders::nomic_bert),
    ("jina", encoders::jina_bert),
    ("deberta", encoders::deberta),
    ("deberta with projections of positions and no buckets", encoders::deberta),
    ("deberta reranker", encoders::deberta),
    ("deberta reranker", encoders::deberta_scores),
    ("deberta classifier", encoders::deberta),
    ("gte", encoders::stella),
    ("gte reranker", encoders::stella),
    ("gte over words", encoders::stella),
    ("new", encoders::stella),
    ("qwen2", decoders::qwen2),
    ("qwen2 with a language head and full attention", decoders::qwen2),
    ("qwen2 with as many keys as heads", decoders::qwen2),
    ("qwen2 reranker", decoders::qwen2),
    ("qwen2 reranker in a chat", decoders::qwen2),
    ("mxbai-rerank", decoders::qwen2),
    ("mxbai-rerank with an instruction", decoders::qwen2),
    ("qwen3 reranker in a chat of its own", decoders::qwen3),
    ("zerank", decoders::qwen3),
    ("llama", decoders::llama),
    ("llama by default", decoders::llama),
    ("llama reranker in a chat, one logit", decoders::llama),
    ("mistral", decoders::mistral_with_window),
    ("gemma", decoders::gemma),
    ("gemma with full attention and a language head", decoders::gemma),
    ("gemma classifier", decoders::gemma),
    ("gemma reranker in a chat of parts", decoders::gemma),
    ("bge-reranker of gemma", decoders::gemma),
    ("gemma3", decoders::gemma3_with_window_and_scale),
    ("gemma3 classifier", decoders::gemma3_with_window_and_scale),
    ("gemma3 reranker in a chat", decoders::gemma3_with_window_and_scale),
];

/// Networks that candle refuses or computes otherwise, and why. Golden files of transformers hold
/// Proxima to the other side.
pub const DIFFERS: &[(&str, Make, &str)] = &[
    (
        "roberta over words",
        encoders::xlm_roberta_over_words,
        "candle's language head leaves out lm_head.bias",
    ),
    (
        "scores/modernbert-reranker-cls",
        encoders::modern_bert_scores,
        "candle reads no labels where label2id has numbers, and gives a softmax",
    ),
    (
        "distilbert",
        encoders::distilbert,
        "candle computes \"gelu\" by the approximation that is called \"gelu_new\" elsewhere",
    ),
    (
        "distilbert classifier",
        encoders::distilbert,
        "candle computes \"gelu\" by the approximation that is called \"gelu_new\" elsewhere",
    ),
    (
        "gemma",
        decoders::gemma_by_the_word,
        "candle takes \"gelu\" at its word, which transformers takes for the approximation",
    ),
    ("deberta classifier", encoders::deberta_scores, "candle's pooler has no tanh"),
    ("nomic with scaled positions", encoders::nomic_bert, "candle does not read rope_scaling"),
    ("nomic with experts", encoders::nomic_bert, "candle has no experts and no MLP without a gate"),
    (
        "jina with six heads and without its code",
        encoders::jina_bert,
        "candle has GEGLU whatever feed_forward_type says, here REGLU",
    ),
    (
        "jina for code",
        encoders::jina_bert,
        "candle has no norms of queries and keys, nor of layers",
    ),
    ("gte without token types", encoders::stella, "candle asks for a table of token types"),
    ("llama, linear", decoders::llama, "candle reads no other rope_type than llama3"),
    ("llama, yarn", decoders::llama, "candle does not read rope_parameters"),
    ("llama, yarn with scales", decoders::llama, "candle does not read rope_parameters"),
    ("mistral", decoders::mistral, "candle's window has one token more"),
    ("qwen3, yarn", decoders::qwen3, "candle does not read rope_scaling"),
    (
        "qwen3, llama3 and full attention",
        decoders::qwen3,
        "candle does not read rope_scaling, and later tokens are masked",
    ),
    ("voyage", decoders::qwen3, "candle masks later tokens and has no projection after the norm"),
    (
        "gemma3",
        decoders::gemma3,
        "candle's window has one token more, and it does not read query_pre_attn_scalar",
    ),
    (
        "gemma3 with full attention",
        decoders::gemma3_with_window_and_scale,
        "candle masks later tokens",
    ),
    (
        "gemma3 with keys of transformers",
        decoders::gemma3_with_window_and_scale,
        "candle masks later tokens, and reads neither layer_types nor rope_parameters",
    ),
    (
        "gemma3 with a language head, biases and scaled positions",
        decoders::gemma3_with_window_and_scale,
        "candle reads neither layer_types nor rope_scaling",
    ),
];

/// Networks that candle has code for, but which it cannot be asked for.
pub const UNABLE: &[(&str, &str)] = &[(
    "llama with heads of another size, biases and full attention",
    "candle panics: its heads have hidden_size / num_attention_heads components",
)];

/// Values of `model_type` that candle has no network for; of tables of vectors, which have none.
pub const NO_NETWORK: &[&str] = &[
    "",
    "mpnet",
    "eurobert",
    "ministral3",
    "bidirectional_pplx_qwen3",
    "embedding_gemma2",
    "embedding_gemma2_text",
];
