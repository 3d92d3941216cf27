//! Keys of all configuration files except `config.json`. `generation_config.json` is not read: no
//! text is generated.
//!
//! Must not know: families, what the code does with a value.

use super::Is::{Bool, Text};
use super::Key;
use super::Rule::{Closed, Count, Fixed, NoEffect, Object, Only, Refused, Used};
use super::config::WIDTH;

const HISTORY: &str = "says where the file comes from";
const MULTI_VECTOR: &str = "late interaction models of this kind are not supported";
const NOT_READ: &str = "transformers does not read it where there is a tokenizer.json";
const TEMPLATE: &str = "transformers ignores it where there is a tokenizer.json, whose template \
    says what is at the ends of a text";
const CALLER: &str = "says what transformers does unless told otherwise; sequences are neither \
    padded nor cut by it";

/// Each entry of `modules.json`.
pub const MODULE: &[Key] = &[
    ("idx", NoEffect("modules run in the order of the list")),
    ("name", Used),
    ("path", Used),
    ("type", Used),
    ("kwargs", NoEffect("names arguments that a caller of encode may give")),
];

/// `config_sentence_transformers.json`.
pub const SENTENCE_TRANSFORMERS: &[Key] = &[
    ("__version__", NoEffect(HISTORY)),
    (
        "model_type",
        Only(&[Text("SentenceTransformer"), Text("SparseEncoder"), Text("CrossEncoder")]),
    ),
    ("prompts", Used),
    ("default_prompt_name", Used),
    (
        "similarity_fn_name",
        Only(&[Text("cosine"), Text("dot"), Text("euclidean"), Text("manhattan")]),
    ),
    ("truncate_dim", WIDTH),
    ("activation_fn", Used),
    ("requirements", NoEffect("versions of Python packages")),
    ("keep_in_fp32_modules", NoEffect("scores are always computed in float32")),
    ("max_active_dims", Refused("a limit on the words of sparse vectors is not supported")),
    ("query_prefix", Refused(MULTI_VECTOR)),
    ("document_prefix", Refused(MULTI_VECTOR)),
    ("query_length", Refused(MULTI_VECTOR)),
    ("document_length", Refused(MULTI_VECTOR)),
    ("attend_to_expansion_tokens", Refused(MULTI_VECTOR)),
    ("skiplist_words", Refused(MULTI_VECTOR)),
    ("do_query_expansion", Refused(MULTI_VECTOR)),
];

/// `sentence_bert_config.json` and its older names: the transformer of a module chain.
pub const TRANSFORMER: &[Key] = &[
    ("max_seq_length", Count(1, 1 << 24)),
    ("do_lower_case", Used),
    (
        "transformer_task",
        Only(&[
            Text("feature-extraction"),
            Text("fill-mask"),
            Text("sequence-classification"),
            Text("text-generation"),
        ]),
    ),
    ("modality_config", Object(&[MODALITIES])),
    (
        "module_output_name",
        Only(&[Text("token_embeddings"), Text("scores"), Text("causal_logits")]),
    ),
    ("unpad_inputs", NoEffect("nothing is padded, and the answers are the same")),
    ("processing_kwargs", Closed(&[PROCESSING])),
    ("query_length", Refused(MULTI_VECTOR)),
    ("document_length", Refused(MULTI_VECTOR)),
    ("query_expansion", Refused(MULTI_VECTOR)),
    ("tokenizer_name_or_path", Refused("the tokenizer must be next to the model")),
    ("model_args", Closed(&[MODEL_ARGUMENTS])),
    ("model_kwargs", Closed(&[MODEL_ARGUMENTS])),
    ("tokenizer_args", Closed(&[HUB_ARGUMENTS])),
    ("processor_kwargs", Closed(&[HUB_ARGUMENTS])),
    ("config_args", Closed(&[HUB_ARGUMENTS])),
    ("config_kwargs", Closed(&[HUB_ARGUMENTS])),
    ("backend", NoEffect("the answers are the same")),
    ("cache_dir", NoEffect(HISTORY)),
];

/// Arguments of the tokenizer or processor.
const PROCESSING: &[Key] = &[
    ("chat_template", Closed(&[CHAT])),
    ("text", Refused("arguments of the tokenizer are not supported")),
    ("common", Refused("arguments of the tokenizer are not supported")),
];

/// Arguments of a chat template.
const CHAT: &[Key] = &[("add_generation_prompt", Fixed(&[Bool(true), Bool(false)]))];

/// How each kind of input is passed through the network.
const MODALITIES: &[Key] = &[
    ("text", Object(&[MODALITY])),
    ("message", Object(&[MODALITY])),
    ("image", Object(&[MODALITY])),
    ("video", Object(&[MODALITY])),
    ("image+text", Object(&[MODALITY])),
    ("text+video", Object(&[MODALITY])),
    ("video+text", Object(&[MODALITY])),
    ("image+video", Object(&[MODALITY])),
    ("image+text+video", Object(&[MODALITY])),
];

const MODALITY: &[Key] = &[
    ("method", Only(&[Text("forward")])),
    ("method_output_name", Only(&[Text("last_hidden_state"), Text("logits")])),
    ("format", Fixed(&[Text("auto"), Text("flat"), Text("structured")])),
];

const HUB_ARGUMENTS: &[Key] = &[
    ("trust_remote_code", NoEffect("no code of a checkpoint is run")),
    ("revision", NoEffect(HISTORY)),
    ("token", NoEffect(HISTORY)),
    ("cache_dir", NoEffect(HISTORY)),
    ("local_files_only", NoEffect(HISTORY)),
    ("subfolder", NoEffect("modules.json has the path")),
];

const MODEL_ARGUMENTS: &[Key] = &[
    ("torch_dtype", NoEffect("weights are served as they are stored, or as --dtype says")),
    ("dtype", NoEffect("weights are served as they are stored, or as --dtype says")),
    ("attn_implementation", NoEffect("the answers are the same")),
    ("device_map", NoEffect("--device says it")),
    ("low_cpu_mem_usage", NoEffect("the answers are the same")),
    ("use_cache", NoEffect("the answers are the same")),
    ("trust_remote_code", NoEffect("no code of a checkpoint is run")),
    ("revision", NoEffect(HISTORY)),
    ("token", NoEffect(HISTORY)),
    ("cache_dir", NoEffect(HISTORY)),
    ("local_files_only", NoEffect(HISTORY)),
    ("subfolder", NoEffect("modules.json has the path")),
];

/// A Pooling module.
pub const POOLING: &[Key] = &[
    ("word_embedding_dimension", NoEffect("the network's width counts")),
    ("embedding_dimension", NoEffect("the network's width counts")),
    ("pooling_mode", Used),
    ("pooling_mode_cls_token", Used),
    ("pooling_mode_max_tokens", Used),
    ("pooling_mode_mean_tokens", Used),
    ("pooling_mode_mean_sqrt_len_tokens", Used),
    ("pooling_mode_weightedmean_tokens", Used),
    ("pooling_mode_lasttoken", Used),
    ("include_prompt", Used),
];

/// A Dense module.
pub const DENSE: &[Key] = &[
    ("in_features", WIDTH),
    ("out_features", WIDTH),
    ("bias", Used),
    ("activation_function", Used),
    ("module_input_name", Only(&[Text("sentence_embedding"), Text("token_embeddings")])),
    ("module_output_name", Only(&[Text("sentence_embedding"), Text("token_embeddings")])),
    ("use_residual", Used),
];

/// A Normalize module.
pub const NORMALIZE: &[Key] = &[
    ("module_input_name", Only(&[Text("sentence_embedding"), Text("token_embeddings")])),
    ("module_output_name", Only(&[Text("sentence_embedding"), Text("token_embeddings")])),
];

/// A Dropout module.
pub const DROPOUT: &[Key] = &[("dropout", NoEffect("for training"))];

/// A LayerNorm module.
pub const LAYER_NORM: &[Key] = &[("dimension", WIDTH)];

/// A LogitScore module.
pub const LOGIT_SCORE: &[Key] = &[
    ("true_token_id", Count(0, u32::MAX as u64)),
    ("false_token_id", Count(0, u32::MAX as u64)),
    ("module_input_name", Only(&[Text("causal_logits")])),
];

/// A SpladePooling module.
pub const SPLADE_POOLING: &[Key] = &[
    ("pooling_strategy", Used),
    ("activation_function", Used),
    ("word_embedding_dimension", NoEffect("the vocabulary's size counts")),
    ("embedding_dimension", NoEffect("the vocabulary's size counts")),
    ("chunk_size", NoEffect("the answers are the same")),
];

/// `tokenizer_config.json`. transformers loads the tokenizer of `tokenizer.json` and rebuilds parts
/// of it according to some of these keys.
pub const TOKENIZER: &[Key] = &[
    ("model_max_length", Used),
    // Its older name.
    ("max_len", Used),
    ("do_lower_case", Used),
    ("split_by_punct", Used),
    ("unk_id", Used),
    ("strip_accents", Used),
    ("tokenize_chinese_chars", Used),
    ("tokenizer_class", Used),
    ("add_bos_token", NoEffect(TEMPLATE)),
    ("add_eos_token", NoEffect(TEMPLATE)),
    ("bos_token", Used),
    ("eos_token", Used),
    ("truncation_side", Used),
    ("split_special_tokens", Refused("special tokens in a text are always one token each")),
    ("fix_mistral_regex", Refused("tokenizer.json is taken as it is")),
    ("cls_token", Used),
    ("sep_token", Used),
    ("pad_token", Used),
    ("unk_token", Used),
    ("mask_token", Used),
    ("additional_special_tokens", Used),
    ("extra_special_tokens", Used),
    ("model_specific_special_tokens", Used),
    ("added_tokens_decoder", Used),
    ("add_prefix_space", Used),
    ("trim_offsets", Used),
    ("errors", NoEffect("for decoding ids to text")),
    ("legacy", NoEffect(NOT_READ)),
    ("from_slow", NoEffect(NOT_READ)),
    ("is_local", NoEffect(HISTORY)),
    ("local_files_only", NoEffect(HISTORY)),
    ("backend", NoEffect(NOT_READ)),
    ("do_basic_tokenize", NoEffect(NOT_READ)),
    ("never_split", NoEffect(NOT_READ)),
    ("sp_model_kwargs", NoEffect(NOT_READ)),
    ("vocab_file", NoEffect(NOT_READ)),
    ("merges_file", NoEffect(NOT_READ)),
    ("tokenizer_file", NoEffect(NOT_READ)),
    ("special_tokens_map_file", NoEffect("the file beside this one is read")),
    ("name_or_path", NoEffect(HISTORY)),
    ("tokenizer_name", NoEffect(HISTORY)),
    ("processor_class", NoEffect("a family's recipe reads inputs")),
    ("auto_map", NoEffect("no code of a checkpoint is run; tokenizer.json is read")),
    ("chat_template", Used),
    ("use_default_system_prompt", NoEffect("a family's recipe writes the chat")),
    ("clean_up_tokenization_spaces", NoEffect("for decoding ids to text")),
    ("spaces_between_special_tokens", NoEffect("for decoding ids to text")),
    ("model_input_names", Used),
    ("return_token_type_ids", NoEffect("model_input_names says it")),
    ("padding_side", NoEffect(CALLER)),
    ("padding", NoEffect(CALLER)),
    ("pad_to_multiple_of", NoEffect(CALLER)),
    ("pad_token_type_id", NoEffect(CALLER)),
    ("pad_token_id", NoEffect(CALLER)),
    ("max_length", NoEffect(CALLER)),
    ("truncation", NoEffect(CALLER)),
    ("truncation_strategy", NoEffect(CALLER)),
    ("stride", NoEffect(CALLER)),
];
