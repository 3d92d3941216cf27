//! Keys of `config.json` that all families share, and limits of the sizes that they read.
//!
//! Must not know: any one family.

use super::Is::{Number as N, Text};
use super::Key;
use super::Rule::{Count, NoEffect, Number, Object, Only, Refused, Size, Used};

const TRAINING: &str = "for training";
const GENERATION: &str = "for generating text";
const SPECIAL_TOKEN: &str = "tokenizer.json says where special tokens go";
const OUTPUT: &str = "says what transformers returns beside the hidden states";
const HISTORY: &str = "says where the file comes from";
const SCALED: &str = "for scaled rotary positions, which are refused by their rope_type";

/// Layers of a network.
pub const LAYERS: super::Rule = Size(1, 1024);
/// Attention heads.
pub const HEADS: super::Rule = Count(1, 1024);
/// Components of a hidden state or of a head.
pub const WIDTH: super::Rule = Count(1, 1 << 16);
/// Components between the two layers of an MLP.
pub const MLP: super::Rule = Size(1, 1 << 20);
/// Rows of an embedding table.
pub const VOCABULARY: super::Rule = Size(1, 1 << 24);
/// Positions of a network.
pub const POSITIONS: super::Rule = Size(1, 1 << 24);
/// Token types.
pub const TYPES: super::Rule = Size(1, 1 << 16);
/// Epsilon of a norm.
pub const EPS: super::Rule = Number(0.0, 1.0);
/// Base of rotary frequencies.
pub const THETA: super::Rule = Number(1.0, 1e15);
/// Maximum number of labels of a classifier.
pub const LABELS_MAX: usize = 1 << 16;

/// Keys that any `config.json` may have.
pub const COMMON: &[Key] = &[
    ("architectures", Used),
    ("model_type", Used),
    ("id2label", Used),
    ("label2id", NoEffect("the inverse of id2label")),
    ("num_labels", Size(1, LABELS_MAX as u64)),
    ("problem_type", Used),
    ("sentence_transformers", Object(&[CROSS_ENCODER])),
    ("sbert_ce_default_activation_function", Used),
    ("tie_word_embeddings", Used),
    ("quantization_config", Used),
    ("auto_map", Object(&[AUTO_MAP, OTHER_TASKS])),
    ("_name_or_path", Used),
    ("name_or_path", NoEffect(HISTORY)),
    ("_commit_hash", NoEffect(HISTORY)),
    ("transformers_version", NoEffect(HISTORY)),
    ("adapters", Refused("adapters are not supported")),
    ("pruned_heads", Refused("networks without some of their heads are not supported")),
    ("per_layer_config", Refused("layers with settings of their own are not supported")),
    ("is_encoder_decoder", Refused("encoder-decoder networks are not supported")),
    ("is_decoder", Refused("this network is supported as an encoder only")),
    ("add_cross_attention", Refused("cross attention is not supported")),
    ("cross_attention_hidden_size", Refused("cross attention is not supported")),
    ("tie_encoder_decoder", Refused("encoder-decoder networks are not supported")),
    ("is_causal", Refused("this network is supported with full attention only")),
    ("use_bidirectional_attention", Refused(BIDIRECTIONAL)),
    ("torch_dtype", NoEffect(DTYPE)),
    ("dtype", NoEffect(DTYPE)),
    ("use_bfloat16", NoEffect(DTYPE)),
    ("torchscript", NoEffect("the answers are the same")),
    ("tf_legacy_loss", NoEffect(TRAINING)),
    ("attn_implementation", NoEffect("the answers are the same")),
    ("_attn_implementation", NoEffect("the answers are the same")),
    ("_attn_implementation_autoset", NoEffect("the answers are the same")),
    ("_flash_attn_2_enabled", NoEffect("the answers are the same")),
    ("chunk_size_feed_forward", NoEffect("the answers are the same")),
    ("gradient_checkpointing", NoEffect(TRAINING)),
    ("initializer_range", NoEffect(TRAINING)),
    ("initializer_factor", NoEffect(TRAINING)),
    ("hidden_dropout_prob", NoEffect(TRAINING)),
    ("attention_probs_dropout_prob", NoEffect(TRAINING)),
    ("attention_dropout", NoEffect(TRAINING)),
    ("hidden_dropout", NoEffect(TRAINING)),
    ("classifier_dropout", NoEffect(TRAINING)),
    ("embd_pdrop", NoEffect(TRAINING)),
    ("resid_pdrop", NoEffect(TRAINING)),
    ("attn_pdrop", NoEffect(TRAINING)),
    ("finetuning_task", NoEffect(HISTORY)),
    ("task_specific_params", NoEffect(GENERATION)),
    ("return_dict", NoEffect(OUTPUT)),
    ("use_return_dict", NoEffect(OUTPUT)),
    ("output_hidden_states", NoEffect(OUTPUT)),
    ("output_attentions", NoEffect(OUTPUT)),
    ("output_past", NoEffect(OUTPUT)),
    ("tie_last_hidden_states", NoEffect(OUTPUT)),
    ("use_cache", NoEffect("the answers are the same")),
    // Used if tokenizer_config.json names none.
    ("tokenizer_class", Used),
    ("processor_class", NoEffect("tokenizer.json is read")),
    ("prefix", NoEffect(GENERATION)),
    ("bos_token_id", NoEffect(SPECIAL_TOKEN)),
    ("eos_token_id", NoEffect(SPECIAL_TOKEN)),
    ("pad_token_id", NoEffect("nothing is padded")),
    ("cls_token_id", NoEffect(SPECIAL_TOKEN)),
    ("sep_token_id", NoEffect(SPECIAL_TOKEN)),
    ("mask_token_id", NoEffect(SPECIAL_TOKEN)),
    ("unk_token_id", NoEffect(SPECIAL_TOKEN)),
    ("decoder_start_token_id", NoEffect(GENERATION)),
];

const DTYPE: &str = "weights are served as they are stored, or as --dtype says";
const BIDIRECTIONAL: &str = "it is not supported for this model_type; is_causal: false asks for \
    full attention";

/// Arguments of text generation; in older checkpoints they are in `config.json`.
pub const GENERATING: &[Key] = &[
    ("max_length", NoEffect(GENERATION)),
    ("min_length", NoEffect(GENERATION)),
    ("max_new_tokens", NoEffect(GENERATION)),
    ("do_sample", NoEffect(GENERATION)),
    ("early_stopping", NoEffect(GENERATION)),
    ("num_beams", NoEffect(GENERATION)),
    ("num_beam_groups", NoEffect(GENERATION)),
    ("diversity_penalty", NoEffect(GENERATION)),
    ("temperature", NoEffect(GENERATION)),
    ("top_k", NoEffect(GENERATION)),
    ("top_p", NoEffect(GENERATION)),
    ("typical_p", NoEffect(GENERATION)),
    ("repetition_penalty", NoEffect(GENERATION)),
    ("length_penalty", NoEffect(GENERATION)),
    ("encoder_repetition_penalty", NoEffect(GENERATION)),
    ("no_repeat_ngram_size", NoEffect(GENERATION)),
    ("encoder_no_repeat_ngram_size", NoEffect(GENERATION)),
    ("bad_words_ids", NoEffect(GENERATION)),
    ("num_return_sequences", NoEffect(GENERATION)),
    ("output_scores", NoEffect(GENERATION)),
    ("return_dict_in_generate", NoEffect(GENERATION)),
    ("forced_bos_token_id", NoEffect(GENERATION)),
    ("forced_eos_token_id", NoEffect(GENERATION)),
    ("remove_invalid_values", NoEffect(GENERATION)),
    ("exponential_decay_length_penalty", NoEffect(GENERATION)),
    ("suppress_tokens", NoEffect(GENERATION)),
    ("begin_suppress_tokens", NoEffect(GENERATION)),
    ("epsilon_cutoff", NoEffect(GENERATION)),
    ("eta_cutoff", NoEffect(GENERATION)),
    ("num_assistant_tokens", NoEffect(GENERATION)),
    ("num_assistant_tokens_schedule", NoEffect(GENERATION)),
    ("assistant_confidence_threshold", NoEffect(GENERATION)),
    ("assistant_lookbehind", NoEffect(GENERATION)),
    ("target_lookbehind", NoEffect(GENERATION)),
];

/// What sentence-transformers adds for a cross-encoder.
const CROSS_ENCODER: &[Key] = &[("activation_fn", Used), ("version", NoEffect(HISTORY))];

const OWN_CODE: &str = "code that comes with a checkpoint is not run, so what it computes is not \
    known";

/// The checkpoint's own classes, for transformers to load.
const AUTO_MAP: &[Key] = &[
    ("AutoConfig", NoEffect("config.json is read as its model_type says")),
    ("AutoProcessor", NoEffect("the processor's files are checked on their own")),
    ("AutoModel", Refused(OWN_CODE)),
];

/// Entries of `auto_map` beside those that a family knows.
pub const OTHER_TASKS: &[Key] = &[
    ("AutoTokenizer", NoEffect("tokenizer.json is read")),
    ("AutoModelForCausalLM", Refused(OWN_CODE)),
    ("AutoModelForMaskedLM", Refused(OWN_CODE)),
    ("AutoModelForSequenceClassification", Refused(OWN_CODE)),
    ("AutoModelForTokenClassification", NoEffect(ANOTHER_TASK)),
    ("AutoModelForQuestionAnswering", NoEffect(ANOTHER_TASK)),
    ("AutoModelForMultipleChoice", NoEffect(ANOTHER_TASK)),
    ("AutoModelForPreTraining", NoEffect(ANOTHER_TASK)),
];
const ANOTHER_TASK: &str = "another task's";

const ALL_LAYERS: &str = "rotary positions of this network are the same in all layers";

/// Rotary positions without scaling: keys of `rope_parameters` and `rope_scaling`.
pub const ROTARY: &[Key] = &[
    ("rope_type", Only(&[Text("default")])),
    ("type", Only(&[Text("default"), Text("mrope")])),
    ("rope_theta", THETA),
    ("partial_rotary_factor", Only(&[N(1.0)])),
    ("full_attention", Refused(ALL_LAYERS)),
    ("sliding_attention", Refused(ALL_LAYERS)),
    ("mrope_section", Used),
    ("mrope_interleaved", Used),
    ("factor", NoEffect(SCALED)),
    ("original_max_position_embeddings", NoEffect(SCALED)),
    ("attention_factor", NoEffect(SCALED)),
    ("beta_fast", NoEffect(SCALED)),
    ("beta_slow", NoEffect(SCALED)),
    ("short_factor", NoEffect(SCALED)),
    ("long_factor", NoEffect(SCALED)),
    ("low_freq_factor", NoEffect(SCALED)),
    ("high_freq_factor", NoEffect(SCALED)),
    ("mscale", NoEffect(SCALED)),
    ("mscale_all_dim", NoEffect(SCALED)),
    ("truncate", NoEffect(SCALED)),
];

const LONG: &str = "for rope_type longrope, which is not supported";

/// Rotary positions with scaling: keys of `rope_parameters` and `rope_scaling`.
pub const SCALED_ROTARY: &[Key] = &[
    ("rope_type", Used),
    ("type", Used),
    ("rope_theta", THETA),
    ("partial_rotary_factor", Only(&[N(1.0)])),
    ("full_attention", Refused(ALL_LAYERS)),
    ("sliding_attention", Refused(ALL_LAYERS)),
    ("mrope_section", Refused("positions of this network have one dimension")),
    ("factor", Used),
    ("original_max_position_embeddings", Used),
    ("attention_factor", Used),
    ("beta_fast", Used),
    ("beta_slow", Used),
    ("short_factor", Refused(LONG)),
    ("long_factor", Refused(LONG)),
    ("low_freq_factor", Used),
    ("high_freq_factor", Used),
    ("mscale", Used),
    ("mscale_all_dim", Used),
    ("truncate", Used),
    ("llama_4_scaling_beta", Used),
    ("mixed_b", Refused("positions scaled by mixed_b are not supported")),
    ("max_position_embeddings", NoEffect("the key of the network has it")),
];
