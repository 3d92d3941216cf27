//! The published configurations: sizes, files other than the weights, tensor names and shapes.

mod vision;

use serde_json::{Value, json};

use super::Tensor;
use vision::Vision;

/// The network of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkKind {
    /// Qwen3-Embedding.
    Qwen3,
    /// Qwen3-VL-Embedding: the same decoder after a vision tower.
    Qwen3Vl(Vision),
    /// A BERT embedder.
    Bert,
}

impl NetworkKind {
    /// Longest sequence in tokens.
    pub fn tokens_max(self) -> usize {
        match self {
            Self::Qwen3 => 32_768,
            Self::Qwen3Vl(_) => 262_144,
            Self::Bert => 512,
        }
    }
}

/// What a configuration is published for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SynthTask {
    /// Embedding.
    Embed,
    /// Answering yes or no for a query and a document (Qwen3-Reranker).
    Rerank,
    /// The same, as a classifier with one output.
    Classify,
    /// Embedding and listwise ranking (E2Rank).
    E2Rank,
    /// Ranking lists by a projector (jina-reranker-v3).
    RankLists,
}

impl SynthTask {
    fn architecture(self) -> &'static str {
        match self {
            Self::Embed | Self::Rerank => "Qwen3ForCausalLM",
            Self::Classify => "Qwen3ForSequenceClassification",
            Self::E2Rank => "Qwen3Model",
            Self::RankLists => "JinaForRanking",
        }
    }
}

/// One configuration.
pub struct Published {
    pub name: &'static str,
    pub kind: NetworkKind,
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_size: usize,
    mlp: usize,
    tied: bool,
    /// Prefix of tensor names.
    prefix: &'static str,
    pub task: SynthTask,
    /// Output width of a projection after pooling, if there is one.
    dense: Option<usize>,
    /// Rows of the embedding table; `None` for what the tokenizer needs.
    pub vocabulary: Option<usize>,
    pub shard_bytes_max: usize,
}

/// Longest sequence of a ranker of lists, in tokens.
pub const LIST_TOKENS_MAX: usize = 131_072;
/// Components of its vectors.
const LIST_WIDTH: usize = 512;
const SHARD_BYTES_MAX: usize = 5_000_000_000;

fn qwen3(name: &'static str, hidden: usize, layers: usize, heads: usize, mlp: usize) -> Published {
    Published {
        name,
        kind: NetworkKind::Qwen3,
        hidden,
        layers,
        heads,
        kv_heads: 8,
        head_size: 128,
        mlp,
        tied: true,
        prefix: "",
        task: SynthTask::Embed,
        dense: None,
        vocabulary: Some(151_936),
        shard_bytes_max: SHARD_BYTES_MAX,
    }
}

/// The same model as a reranker that answers yes or no.
fn judge(published: Published) -> Published {
    Published { task: SynthTask::Rerank, ..published }
}

/// A text reranker: its tensor names have the prefix of the authors' files.
fn reranker(published: Published) -> Published {
    judge(Published { prefix: "model.", ..published })
}

fn listwise(published: Published) -> Published {
    Published { task: SynthTask::E2Rank, ..published }
}

/// A ranker of lists; its tensor names have the prefix of the authors' files.
fn list_ranker(published: Published) -> Published {
    Published { task: SynthTask::RankLists, prefix: "model.", ..published }
}

fn see(vision: Vision, published: Published) -> Published {
    Published { kind: NetworkKind::Qwen3Vl(vision), prefix: "model.language_model.", ..published }
}

/// All configurations.
pub fn all() -> Vec<Published> {
    let mut all = published();
    all.extend(tiny());
    all
}

/// Configurations of published sizes.
fn published() -> Vec<Published> {
    let seeing_2b = |name| see(Vision::LARGE, qwen3(name, 2048, 28, 16, 6144));
    let seeing_8b =
        |name| Published { tied: false, ..see(Vision::SO400M, qwen3(name, 4096, 36, 32, 12_288)) };
    vec![
        qwen3("qwen3-embedding-0.6b", 1024, 28, 16, 3072),
        qwen3("qwen3-embedding-4b", 2560, 36, 32, 9728),
        Published { tied: false, ..qwen3("qwen3-embedding-8b", 4096, 36, 32, 12_288) },
        reranker(qwen3("qwen3-reranker-0.6b", 1024, 28, 16, 3072)),
        reranker(qwen3("qwen3-reranker-4b", 2560, 36, 32, 9728)),
        reranker(Published { tied: false, ..qwen3("qwen3-reranker-8b", 4096, 36, 32, 12_288) }),
        listwise(qwen3("e2rank-0.6b", 1024, 28, 16, 3072)),
        listwise(qwen3("e2rank-4b", 2560, 36, 32, 9728)),
        listwise(qwen3("e2rank-8b", 4096, 36, 32, 12_288)),
        list_ranker(qwen3("jina-reranker-v3", 1024, 28, 16, 3072)),
        seeing_2b("qwen3-vl-embedding-2b"),
        seeing_8b("qwen3-vl-embedding-8b"),
        judge(seeing_2b("qwen3-vl-reranker-2b")),
        judge(seeing_8b("qwen3-vl-reranker-8b")),
        Published { kv_heads: 12, ..bert("minilm-l6", qwen3("", 384, 6, 12, 1536)) },
    ]
}

/// BERT with the sizes of `base` and heads of 32.
fn bert(name: &'static str, base: Published) -> Published {
    Published { name, kind: NetworkKind::Bert, head_size: 32, vocabulary: None, ..base }
}

/// Configurations small enough for tests.
fn tiny() -> Vec<Published> {
    let small = |name| Published { kv_heads: 2, head_size: 32, ..qwen3(name, 64, 3, 4, 160) };
    let seeing = |name| Published {
        vocabulary: None,
        ..see(Vision::TINY, Published { layers: 6, ..small(name) })
    };
    let bert =
        |name| Published { kv_heads: 4, head_size: 16, ..bert(name, qwen3("", 64, 3, 4, 160)) };
    vec![
        Published { vocabulary: None, ..small("tiny-qwen3") },
        Published {
            tied: false,
            prefix: "model.",
            shard_bytes_max: 10_000_000,
            ..small("tiny-qwen3-sharded")
        },
        reranker(small("tiny-qwen3-reranker")),
        Published {
            task: SynthTask::Classify,
            prefix: "model.",
            ..small("tiny-qwen3-reranker-classifier")
        },
        listwise(small("tiny-e2rank")),
        Published { vocabulary: None, ..list_ranker(small("tiny-jina-reranker")) },
        seeing("tiny-qwen3-vl"),
        judge(seeing("tiny-qwen3-vl-reranker")),
        bert("tiny-bert"),
        Published { dense: Some(48), ..bert("tiny-bert-dense") },
    ]
}

impl Published {
    /// Every file except weights and tokenizer.
    pub fn files(&self, vocabulary: usize) -> Vec<(&'static str, Value)> {
        let mut files = match self.kind {
            NetworkKind::Qwen3 => vec![("config.json", self.qwen3_config(vocabulary))],
            NetworkKind::Qwen3Vl(vision) => self.vision_files(vision, vocabulary),
            NetworkKind::Bert => vec![("config.json", self.bert_config(vocabulary))],
        };
        if self.task == SynthTask::Embed {
            files.extend(self.sentence_files());
        }
        files
    }

    /// The files of sentence-transformers.
    fn sentence_files(&self) -> Vec<(&'static str, Value)> {
        let module = |index: usize, path: &str, kind: &str| {
            let kind = format!("sentence_transformers.models.{kind}");
            json!({ "idx": index, "name": index.to_string(), "path": path, "type": kind })
        };
        let mut modules = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
        if self.dense.is_some() {
            modules.push(module(2, "2_Dense", "Dense"));
        }
        modules.push(module(modules.len(), "Normalize", "Normalize"));
        let last = self.kind != NetworkKind::Bert;
        let pooling = json!({
            "word_embedding_dimension": self.hidden,
            "pooling_mode_cls_token": false,
            "pooling_mode_mean_tokens": !last,
            "pooling_mode_max_tokens": false,
            "pooling_mode_mean_sqrt_len_tokens": false,
            "pooling_mode_weightedmean_tokens": false,
            "pooling_mode_lasttoken": last,
            "include_prompt": true,
        });
        let mut files = vec![("modules.json", json!(modules)), ("1_Pooling/config.json", pooling)];
        if let Some(width) = self.dense {
            let dense = json!({
                "in_features": self.hidden,
                "out_features": width,
                "bias": true,
                "activation_function": "torch.nn.modules.activation.Tanh",
            });
            files.push(("2_Dense/config.json", dense));
        }
        match self.kind {
            NetworkKind::Qwen3 => {
                let query = "Instruct: Given a web search query, retrieve relevant passages that \
                             answer the query\nQuery:";
                let prompts = json!({
                    "prompts": { "query": query, "document": "" },
                    "default_prompt_name": null,
                    "similarity_fn_name": "cosine",
                });
                files.push(("config_sentence_transformers.json", prompts));
            }
            // Its prompt is part of the chat, which the authors' code builds.
            NetworkKind::Qwen3Vl(_) => {}
            NetworkKind::Bert => {
                let length = json!({ "max_seq_length": 256, "do_lower_case": false });
                files.push(("sentence_bert_config.json", length));
            }
        }
        files
    }

    fn qwen3_config(&self, vocabulary: usize) -> Value {
        let mut config = json!({
            "_name_or_path": self.name,
            "architectures": [self.task.architecture()],
            "model_type": "qwen3",
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": 151_643,
            "eos_token_id": 151_643,
            "head_dim": self.head_size,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.mlp,
            "max_position_embeddings": self.kind.tokens_max(),
            "max_window_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-6,
            "rope_scaling": null,
            "rope_theta": 1_000_000,
            "sliding_window": null,
            "tie_word_embeddings": self.tied,
            "torch_dtype": "bfloat16",
            "use_cache": true,
            "use_sliding_window": false,
            "vocab_size": vocabulary,
        });
        if self.task == SynthTask::RankLists {
            config["auto_map"] = json!({ "AutoModel": "modeling.JinaForRanking" });
            config["max_position_embeddings"] = json!(LIST_TOKENS_MAX);
        }
        if self.task == SynthTask::Classify {
            config["id2label"] = json!({ "0": "LABEL_0" });
            config["pad_token_id"] = json!(151_643);
        }
        config
    }

    fn bert_config(&self, vocabulary: usize) -> Value {
        json!({
            "architectures": ["BertModel"],
            "model_type": "bert",
            "attention_probs_dropout_prob": 0.1,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1,
            "hidden_size": self.hidden,
            "initializer_range": 0.02,
            "intermediate_size": self.mlp,
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": self.kind.tokens_max(),
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "pad_token_id": 0,
            "position_embedding_type": "absolute",
            "torch_dtype": "float32",
            "type_vocab_size": 2,
            "vocab_size": vocabulary,
        })
    }

    /// Tensors of the projection after pooling.
    pub fn dense_tensors(&self) -> Option<Vec<Tensor>> {
        let width = self.dense?;
        let weight = linear("linear.weight".into(), width, self.hidden, 1.2);
        Some(vec![weight, bias("linear.bias".into(), width)])
    }

    /// Every tensor, in the order of the file.
    pub fn tensors(&self, vocabulary: usize) -> Vec<Tensor> {
        match self.kind {
            NetworkKind::Qwen3 => self.qwen3_tensors(vocabulary),
            NetworkKind::Qwen3Vl(vision) => {
                let mut tensors = self.qwen3_tensors(vocabulary);
                tensors.extend(vision.tensors(self.hidden));
                tensors
            }
            NetworkKind::Bert => self.bert_tensors(vocabulary),
        }
    }

    fn qwen3_tensors(&self, vocabulary: usize) -> Vec<Tensor> {
        let (hidden, prefix) = (self.hidden, self.prefix);
        let (queries, keys) = (self.heads * self.head_size, self.kv_heads * self.head_size);
        let mut tensors = vec![table(format!("{prefix}embed_tokens.weight"), vocabulary, hidden)];
        for layer in 0..self.layers {
            let name = |part: &str| format!("{prefix}layers.{layer}.{part}.weight");
            tensors.extend([
                norm(name("input_layernorm"), hidden),
                linear(name("self_attn.q_proj"), queries, hidden, 2.0),
                linear(name("self_attn.k_proj"), keys, hidden, 2.0),
                linear(name("self_attn.v_proj"), keys, hidden, 1.2),
                head_norm(name("self_attn.q_norm"), self.head_size),
                head_norm(name("self_attn.k_norm"), self.head_size),
                linear(name("self_attn.o_proj"), hidden, queries, 1.2),
                norm(name("post_attention_layernorm"), hidden),
                linear(name("mlp.gate_proj"), self.mlp, hidden, 1.2),
                linear(name("mlp.up_proj"), self.mlp, hidden, 1.2),
                linear(name("mlp.down_proj"), hidden, self.mlp, 1.2),
            ]);
        }
        tensors.push(norm(format!("{prefix}norm.weight"), hidden));
        if !self.tied && self.task != SynthTask::E2Rank {
            tensors.push(table("lm_head.weight".into(), vocabulary, hidden));
        }
        if self.task == SynthTask::RankLists {
            let name = |layer: usize| format!("projector.{layer}.weight");
            tensors.push(linear(name(0), hidden / 2, hidden, 1.2));
            tensors.push(linear(name(2), LIST_WIDTH.min(hidden), hidden / 2, 1.2));
        }
        if self.task == SynthTask::Classify {
            tensors.push(linear("score.weight".into(), 1, hidden, 1.2));
        }
        tensors
    }

    fn bert_tensors(&self, vocabulary: usize) -> Vec<Tensor> {
        let (hidden, mlp) = (self.hidden, self.mlp);
        let positions = self.kind.tokens_max();
        let mut tensors = vec![
            table("embeddings.word_embeddings.weight".into(), vocabulary, hidden),
            table("embeddings.position_embeddings.weight".into(), positions, hidden),
            table("embeddings.token_type_embeddings.weight".into(), 2, hidden),
        ];
        // Embeddings that tokens share must not drown out those that tell them apart.
        tensors[1].scale.1 = 0.02;
        tensors[2].scale.1 = 0.01;
        let layer_norm = |name: String| {
            [norm(format!("{name}.weight"), hidden), bias(format!("{name}.bias"), hidden)]
        };
        tensors.extend(layer_norm("embeddings.LayerNorm".into()));
        for layer in 0..self.layers {
            let name = |part: &str| format!("encoder.layer.{layer}.{part}");
            let mut dense = |part: &str, outputs: usize, inputs: usize, scale: f32| {
                let name = name(part);
                tensors.push(linear(format!("{name}.weight"), outputs, inputs, scale));
                tensors.push(bias(format!("{name}.bias"), outputs));
            };
            dense("attention.self.query", hidden, hidden, 2.0);
            dense("attention.self.key", hidden, hidden, 2.0);
            dense("attention.self.value", hidden, hidden, 2.0);
            dense("attention.output.dense", hidden, hidden, 1.2);
            dense("intermediate.dense", mlp, hidden, 1.2);
            dense("output.dense", hidden, mlp, 0.4);
            tensors.extend(layer_norm(name("attention.output.LayerNorm")));
            tensors.extend(layer_norm(name("output.LayerNorm")));
        }
        tensors
    }
}

fn table(name: String, rows: usize, width: usize) -> Tensor {
    Tensor { name, shape: vec![rows, width], scale: (0.0, 0.05) }
}

fn linear(name: String, outputs: usize, inputs: usize, scale: f32) -> Tensor {
    Tensor { name, shape: vec![outputs, inputs], scale: (0.0, scale / (inputs as f32).sqrt()) }
}

fn norm(name: String, width: usize) -> Tensor {
    Tensor { name, shape: vec![width], scale: (1.0, 0.15) }
}

/// Query and key heads are normalized, so these weights decide how sharp attention is.
fn head_norm(name: String, size: usize) -> Tensor {
    Tensor { name, shape: vec![size], scale: (1.6, 0.3) }
}

fn bias(name: String, width: usize) -> Tensor {
    Tensor { name, shape: vec![width], scale: (0.0, 0.05) }
}
