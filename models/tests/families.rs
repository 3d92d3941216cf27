//! Networks of every family equal those of transformers in float32: `tests/golden/families.json`,
//! made by `tests/reference/make_families.py`. They are close in other precisions, and have the
//! same bits alone and in a batch.

mod support;

use proxima_models::readout::Pooling;
use proxima_models::{Checkpoint, LoadOptions, Model, Precision, Prepare, Prompt, Sequence};
use serde_json::{Value, json};
use support::{answers, architecture, float32_error, floats, load, networks, sequence, write};

/// Where its values are in a golden file, and how a network is asked for them.
const POOLINGS: [(&str, Pooling); 3] =
    [("cls", Pooling::Cls), ("mean", Pooling::Mean), ("last_token", Pooling::Last)];

/// The size of the logits of one word in these networks.
const LOGIT: f32 = 3.0;

/// The values that the reference gives, by their name.
fn wanted<'a>(cases: &'a [Value], key: &'a str) -> impl Iterator<Item = Vec<f32>> + 'a {
    cases.iter().map(move |case| floats(case[key].as_str().expect("base64")))
}

/// The names of a network's values, and the poolings that give them.
fn ways(network: &Value) -> Vec<(&'static str, Pooling)> {
    match architecture(network) {
        _ if network["task"] == "rerank" => vec![("logits", Pooling::Cls)],
        name if name.ends_with("SequenceClassification") => vec![("logits", Pooling::Cls)],
        name if name.ends_with("MaskedLM") => vec![("words", Pooling::Cls)],
        // Its files say how tokens are pooled.
        _ if network["files"].is_object() => vec![("vector", Pooling::Mean)],
        _ => POOLINGS.to_vec(),
    }
}

/// The largest difference of two lists of values.
fn off(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn length(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

#[test]
fn networks_equal_transformers_in_float32_alone_and_together() {
    for network in networks() {
        let cases = network["cases"].as_array().expect("cases");
        for (key, pooling) in ways(&network) {
            let model = load(&network, Precision::Float32, pooling);
            let sequences: Vec<Sequence> =
                cases.iter().map(|case| sequence(&model, case)).collect();
            let together = answers(&model, &sequences);
            for ((one, found), wanted) in sequences.iter().zip(&together).zip(wanted(cases, key)) {
                let alone = answers(&model, std::slice::from_ref(one));
                let (name, tokens) = (&network["name"], one.tokens.len());
                assert_eq!(&alone[0], found, "{name}: {key} of {tokens} tokens");
                let largest =
                    wanted.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
                let (off, allowed) = (off(found, &wanted), 2.0 * float32_error(largest));
                assert!(off <= allowed, "{name}: {key} of {tokens} tokens is off by {off}");
            }
        }
    }
}

#[test]
fn every_network_has_an_input_for_health_checks() {
    for network in networks() {
        let recipe = load(&network, Precision::Float32, ways(&network)[0].1).recipe;
        let sequence = recipe.prepare(&recipe.check_input(), &Prepare::default());
        assert!(!sequence.expect("prepared").tokens.is_empty(), "{}", network["name"]);
    }
}

#[test]
fn networks_are_close_in_other_precisions() {
    let bounds = [(Precision::Bfloat16, 0.1), (Precision::Float16, 0.01), (Precision::Int8, 0.3)];
    for (network, (precision, most)) in
        networks().iter().flat_map(|network| bounds.map(|bound| (network, bound)))
    {
        if !support::serves(precision) {
            continue;
        }
        let cases = network["cases"].as_array().expect("cases");
        let (key, pooling) = ways(network)[0];
        let model = load(network, precision, pooling);
        let sequences: Vec<Sequence> = cases.iter().map(|case| sequence(&model, case)).collect();
        let together = answers(&model, &sequences);
        for ((one, found), wanted) in sequences.iter().zip(&together).zip(wanted(cases, key)) {
            let alone = answers(&model, std::slice::from_ref(one));
            let which = format!("{}, {precision:?}, {} tokens", network["name"], one.tokens.len());
            assert_eq!(&alone[0], found, "{which}");
            let apart: Vec<f32> = found.iter().zip(&wanted).map(|(a, b)| a - b).collect();
            // A logit of two words near zero is as inexact as the logits that it is made of.
            let least = if network["task"] == "rerank" { LOGIT } else { 0.0 };
            let off = length(&apart) / length(&wanted).max(least);
            assert!(off <= most, "{which} is off by {off}");
        }
    }
}

/// A network by name, with another value of a key.
fn changed(name: &str, key: &str, value: &Value) -> Result<Model, String> {
    let mut networks = networks().into_iter();
    let mut network = networks.find(|network| network["name"] == name).expect("a network");
    network["config"][key] = value.clone();
    let folder = write(&network);
    let checkpoint = Checkpoint::open(folder.path()).map_err(|problem| problem.to_string())?;
    let options = LoadOptions { pooling: Some(Pooling::Mean), ..LoadOptions::default() };
    Model::load(&checkpoint, &options).map_err(|problem| problem.to_string())
}

/// Asserts that networks with another value of a key are refused with a message that says so.
fn are_refused(cases: &[(&str, &str, Value, &str)]) {
    for (name, key, value, says) in cases {
        let message = changed(name, key, value).map(|model| format!("{model:?}")).expect_err(key);
        assert!(message.contains(says), "{name} with {key} {value}: {message}");
    }
}

#[test]
fn near_misses_of_encoders_are_refused_by_name() {
    are_refused(&[
        ("mpnet", "relative_attention_num_buckets", json!(64), "relative_attention_num_buckets"),
        ("mpnet", "hidden_act", json!("gelu_of_another_kind"), "hidden_act"),
        ("mpnet", "num_attention_heads", json!(5), "5 heads"),
        ("deberta", "conv_kernel_size", json!(3), "conv_kernel_size"),
        ("deberta", "relative_attention", json!(false), "relative_attention"),
        ("deberta", "pos_att_type", json!(["c2p", "p2c", 3]), "pos_att_type"),
        ("deberta", "norm_rel_ebd", json!("batch_norm"), "norm_rel_ebd"),
        ("deberta", "position_buckets", json!(3), "position_buckets"),
        ("deberta", "share_att_key", json!(false), "pos_key_proj"),
        ("deberta reranker", "pooler_hidden_act", json!("mish"), "pooler_hidden_act"),
        ("distilbert", "hidden_size", json!(64), "key is dim"),
        ("distilbert", "activation", json!("mish"), "activation \"mish\""),
        ("nomic", "rotary_emb_base", json!(null), "rotary_emb_base"),
        ("nomic", "moe_normalize_expert_weights", json!(true), "moe_normalize_expert_weights"),
        ("nomic with experts", "moe_top_k", json!(6), "moe_top_k is 6"),
        ("nomic with experts", "moe_every_n_layers", json!(1), "at least 2"),
        ("nomic with experts", "activation_function", json!("swiglu"), "swiglu"),
        ("nomic with experts", "num_shared_experts", json!(1), "num_shared_experts"),
        ("nomic with experts", "num_experts", json!(4), "mlp.experts"),
        ("nomic", "prenorm", json!(true), "prenorm"),
        ("nomic", "rotary_emb_fraction", json!(0.5), "rotary_emb_fraction"),
        ("nomic", "rotary_emb_interleaved", json!(true), "interleaved"),
        ("nomic", "activation_function", json!("gelu"), "swiglu"),
        ("nomic", "mlp_fc1_bias", json!(true), "mlp_fc1_bias true"),
        ("nomic", "n_embd", json!(60), "heads of 15"),
        ("nomic", "auto_map", json!({ "AutoModel": "own--modeling.Own" }), "AutoModel"),
        ("gte", "layer_norm_type", json!("rms_norm"), "layer_norm_type"),
        ("gte", "rope_scaling", json!({ "type": "ntk", "factor": 8.0 }), "ntk"),
        ("new", "rope_scaling", json!({ "type": "ntk" }), "factor"),
        ("new", "rope_scaling", json!({ "type": "ntk", "factor": 8, "mixed_b": 0.5 }), "mixed_b"),
        ("new", "rope_scaling", json!({ "type": "linear", "factor": 8 }), "ntk"),
        ("new", "rope_parameters", json!({ "rope_theta": 5e3 }), "rope_parameters is not read"),
        (
            "new",
            "rope_scaling",
            json!({ "type": "ntk", "factor": 8, "rope_theta": 5e3 }),
            "rope_scaling has rope_theta",
        ),
        ("new", "position_embedding_type", json!("absolute"), "position_embedding_type"),
        ("new", "logn_attention_scale", json!(true), "logn_attention_scale"),
        ("new", "pack_qkv", json!(false), "pack_qkv"),
    ]);
}

#[test]
fn near_misses_of_networks_with_code_of_their_own_are_refused_by_name() {
    let code = |name: &str| json!({ "AutoModel": name });
    let normed = "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel";
    are_refused(&[
        ("eurobert", "mlp_bias", json!(true), "mlp_bias"),
        ("eurobert classifier, late", "classifier_pooling", json!("max"), "classifier_pooling"),
        ("eurobert", "clf_pooling", json!("mean"), "clf_pooling"),
        ("eurobert", "auto_map", code("modeling.OwnModel"), "AutoModel"),
        ("eurobert", "rope_scaling", json!({ "type": "ntk", "factor": 2.0 }), "ntk"),
        ("gemma", "use_bidirectional_attention", json!(true), "use_bidirectional_attention"),
        ("gemma", "hidden_act", json!("own"), "hidden_act"),
        ("qwen3, yarn", "use_bidirectional_attention", json!(true), "use_bidirectional_attention"),
        ("qwen3, yarn", "auto_map", code("modeling.OwnModel"), "AutoModel"),
        ("qwen3, yarn", "rope_scaling", json!({ "type": "dynamic", "factor": 2.0 }), "dynamic"),
        ("qwen3, yarn", "original_max_position_embeddings", json!(64), "rope_parameters"),
        ("voyage", "num_labels", json!(64), "linear.weight"),
        (
            "voyage",
            "auto_map",
            json!({ "AutoModelForCausalLM": "modeling.Own" }),
            "AutoModelForCau",
        ),
        ("pplx", "use_bidirectional_attention", json!(false), "use_bidirectional_attention"),
        ("pplx", "auto_map", code("modeling.OwnModel"), "AutoModel"),
        ("embedding_gemma2, texts alone", "global_head_dim", json!(64), "global_head_dim"),
        ("embedding_gemma2, texts alone", "layer_types", json!(["full_attention"]), "1 for 3"),
        (
            "embedding_gemma2, texts alone",
            "per_layer_config",
            json!({ "0": { "intermediate_size": 8 } }),
            "intermediate_size",
        ),
        (
            "embedding_gemma2, texts alone",
            "per_layer_config",
            json!({ "0": { "head_dim": 16 }, "2": { "head_dim": 8 } }),
            "several sizes",
        ),
        (
            "embedding_gemma2, texts alone",
            "rope_parameters",
            json!({ "full_attention": { "rope_type": "default", "rope_theta": 1e4 } }),
            "no sliding_attention",
        ),
        ("jina", "feed_forward_type", json!("original"), "feed_forward_type is original"),
        ("jina", "feed_forward_type", json!(null), "feed_forward_type is absent"),
        ("jina", "position_embedding_type", json!("absolute"), "position_embedding_type"),
        ("jina", "position_embedding_type", json!(null), "learned positions"),
        ("jina", "auto_map", code("own--modeling.OwnModel"), "AutoModel"),
        ("jina", "auto_map", code(normed), "norms of queries"),
    ]);
}

#[test]
fn rerankers_whose_chat_is_not_served_are_refused() {
    let chat = "chat_template.jinja";
    let length = "sentence_bert_config.json";
    let name = "qwen2 reranker in a chat";
    for (file, content, says) in [
        (
            chat,
            json!("{{ messages[0].content }}"),
            "leaves out the message with the role \"document\"",
        ),
        (chat, json!("{{ strftime_now('%Y') }}"), "strftime_now"),
        (chat, json!("{% for it in messages %}"), "cannot be read"),
        (chat, json!("{{ raise_exception('no') }}"), "fails on a query and a document: "),
        (
            "additional_chat_templates/default.jinja",
            json!("{{ messages }}"),
            "several chat_templates",
        ),
        ("config_sentence_transformers.json", json!({}), "CrossEncoder"),
        (length, json!({ "modality_config": { "message": { "format": null } } }), "format"),
        (
            length,
            json!({ "processing_kwargs": { "text": { "max_length": 5 } } }),
            "processing_kwargs",
        ),
        (
            length,
            json!({ "processing_kwargs": { "chat_template": { "enable_thinking": true } } }),
            "enable_thinking",
        ),
    ] {
        let mut networks = networks().into_iter();
        let mut network = networks.find(|network| network["name"] == name).expect("a network");
        network["files"][file] = content.clone();
        let folder = write(&network);
        let opened = Checkpoint::open(folder.path()).map_err(|problem| problem.to_string());
        let loaded = opened.and_then(|checkpoint| {
            let loaded = Model::load(&checkpoint, &LoadOptions::default());
            loaded.map_err(|problem| problem.to_string())
        });
        let message = loaded.map(|model| format!("{model:?}")).expect_err(file);
        assert!(message.contains(says), "{file} {content}: {message}");
    }
    // Files without a list of modalities are for texts only.
    let mut networks = networks().into_iter();
    let mut network = networks.find(|network| network["name"] == name).expect("a network");
    let published = network["files"].clone();
    network["files"][length] = json!({ "transformer_task": "text-generation" });
    assert_eq!(load(&network, Precision::Float32, Pooling::Mean).info.recipe, "cross_encoder");
    // A template without a system turn takes no instruction, rather than losing it.
    network["files"] = published;
    network["files"][chat] = json!("{{ messages[-2].content }} {{ messages[-1].content }}");
    let recipe = load(&network, Precision::Float32, Pooling::Mean).recipe;
    let prepared = |prompt: Prompt| {
        recipe.prepare(&recipe.check_input(), &Prepare { prompt, ..Prepare::default() })
    };
    prepared(Prompt::Default).expect("prepared");
    prepared(Prompt::Instruction("a".into())).expect_err("an instruction");
    are_refused(&[
        ("gemma3 reranker in a chat", "final_logit_softcapping", json!(30.0), "softcapping"),
        ("mxbai-rerank", "tie_word_embeddings", json!(false), "tie_word_embeddings"),
    ]);
}

#[test]
fn tables_of_vectors_that_mean_something_else_are_refused() {
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut networks = networks().into_iter();
        let mut network =
            networks.find(|network| network["name"] == "static of model2vec").expect("one");
        change(&mut network);
        let folder = write(&network);
        let checkpoint = Checkpoint::open(folder.path()).map_err(|problem| problem.to_string());
        let loaded = checkpoint.and_then(|checkpoint| {
            let loaded = Model::load(&checkpoint, &LoadOptions::default());
            loaded.map_err(|problem| problem.to_string())
        });
        loaded.map(|model| format!("{model:?}")).expect_err("refused")
    };
    let mapping = refused(&|network| network["tensors"]["mapping"] = json!([[4], 1, 1.0, 0.0]));
    assert!(mapping.contains("quantising its vocabulary"), "{mapping}");
    let missing = refused(&|network| {
        let tensors = network["tensors"].as_object_mut().expect("tensors");
        tensors.remove("embeddings");
    });
    assert!(missing.contains("no tensor embedding.weight"), "{missing}");
    let pooled = refused(&|network| {
        let modules = network["files"]["modules.json"].as_array_mut().expect("modules");
        let pooling = "sentence_transformers.models.Pooling";
        modules.push(json!({ "name": "p", "path": "1_Pooling", "type": pooling }));
        network["files"]["1_Pooling/config.json"] = json!({ "pooling_mode": "mean" });
    });
    assert!(pooled.contains("a second Pooling"), "{pooled}");
}

#[test]
fn near_misses_of_decoders_are_refused_by_name() {
    are_refused(&[
        ("qwen2", "use_sliding_window", json!(true), "use_sliding_window"),
        ("qwen2 reranker", "pad_token_id", json!(397), "pad_token_id"),
        ("gemma3 classifier", "pad_token_id", json!(397), "pad_token_id"),
        ("qwen2", "layer_types", json!(["full_attention"]), "layer_types"),
        ("qwen2", "attention_bias", json!(true), "attention_bias"),
        ("llama", "mlp_bias", json!(true), "mlp_bias"),
        ("llama", "rope_scaling", json!({ "rope_type": "longrope", "factor": 2 }), "longrope"),
        ("llama", "rope_scaling", json!({ "rope_type": "dynamic", "factor": 2 }), "dynamic"),
        ("llama", "rope_scaling", json!({ "rope_type": "linear" }), "factor"),
        ("llama", "rope_scaling", json!({ "type": "linear", "factor": "2" }), "factor is \"2\""),
        ("llama", "rope_scaling", json!({ "rope_type": null, "type": "yarn" }), "rope_type null"),
        ("llama", "rope_scaling", json!({ "type": "linear", "factor": 1e-300 }), "factor"),
        (
            "qwen2",
            "rope_parameters",
            json!({ "type": "yarn", "factor": 2, "rope_theta": 1 }),
            "finite",
        ),
        ("mistral", "sliding_window", json!(0), "sliding_window"),
        ("llama", "original_max_position_embeddings", json!(64), "rope_parameters"),
        ("llama", "is_causal", json!(null), "is_causal"),
        ("llama", "head_dim", json!(15), "head_dim"),
        ("gemma3", "attn_logit_softcapping", json!(50.0), "attn_logit_softcapping"),
        ("gemma3", "layer_types", json!(["full_attention"]), "1 for 4 layers"),
        ("gemma3", "rope_scaling", json!({ "type": "linear", "factor": 2 }), "needs rope_type"),
        (
            "gemma3",
            "rope_scaling",
            json!({ "rope_type": "yarn", "factor": 2, "truncate": false }),
            "truncate",
        ),
        ("nomic", "original_max_position_embeddings", json!(64), "rope_parameters"),
        ("gte", "original_max_position_embeddings", json!(64), "rope_parameters"),
        ("gte", "head_dim", json!(32), "head_dim"),
        ("gemma3", "sliding_window", json!(0), "sliding_window"),
        ("gemma3", "sliding_window_pattern", json!(0), "sliding_window_pattern"),
        ("gemma3", "query_pre_attn_scalar", json!(0), "query_pre_attn_scalar"),
        ("gemma3", "is_causal", json!(false), "is_causal"),
        ("gemma3", "is_causal", json!(null), "is_causal"),
        ("gemma3", "rope_parameters", json!({ "rope_theta": 5.0 }), "rope_parameters"),
        ("gemma3", "hidden_activation", json!("own"), "hidden_activation"),
        ("mistral", "layer_types", json!(["sliding_attention"]), "layer_types"),
        (
            "ministral3",
            "rope_parameters",
            json!({ "rope_type": "yarn", "factor": 2 }),
            "llama_4_scaling_beta",
        ),
    ]);
}

#[test]
fn texts_are_limited_to_what_the_network_computes_as_the_reference_does() {
    let limit = |name, key, value: Value| changed(name, key, &value).expect(key).info.tokens_max;
    assert_eq!(limit("mpnet", "pad_token_id", json!(7)), 512);
    assert_eq!(limit("distilbert", "pad_token_id", json!(0)), 512);
    assert_eq!(limit("llama", "use_cache", json!(true)), 2048);
    assert_eq!(limit("nomic", "n_positions", json!(3000)), 3000);
    // Frequencies change with the length of a longer text.
    assert_eq!(limit("nomic", "rotary_scaling_factor", json!(2.0)), 2048);
    assert_eq!(limit("mistral", "sliding_window", json!(200)), 2048);
    // With full attention, the window is not computed.
    assert_eq!(limit("mistral", "is_causal", json!(false)), 200);
    assert_eq!(limit("jina", "max_position_embeddings", json!(3000)), 3000);
    // Queries of later tokens are scaled.
    assert_eq!(limit("ministral3", "use_cache", json!(true)), 128);
    let mut parameters = networks().into_iter().find(|network| network["name"] == "ministral3");
    let parameters = &mut parameters.as_mut().expect("a network")["config"]["rope_parameters"];
    parameters["original_max_position_embeddings"] = json!(96.0);
    assert_eq!(limit("ministral3", "rope_parameters", parameters.take()), 96);
}
