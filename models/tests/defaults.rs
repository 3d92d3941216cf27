//! Keys of configuration files that are absent, null or odd: defaults equal those of transformers
//! and sentence-transformers, and what these do not load is refused by name.

use std::fs;
use std::path::Path;

use proxima_models::readout::{Pooling, token_rows};
use proxima_models::{Checkpoint, Input, LoadOptions, Model, Prepare, RaggedBatch, Sequence, Task};
use proxima_synth::{SynthOptions, write};
use safetensors::SafeTensors;
use serde_json::{Value, json};

fn load(dir: &Path, options: &LoadOptions) -> Result<Model, String> {
    let checkpoint = Checkpoint::open(dir).map_err(|error| error.to_string())?;
    Model::load(&checkpoint, options).map_err(|error| error.to_string())
}

fn edit(path: &Path, change: &dyn Fn(&mut Value)) {
    let text = fs::read_to_string(path).unwrap_or_else(|_| "{}".into());
    let mut json = serde_json::from_str(&text).expect("JSON");
    change(&mut json);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, json.to_string()).expect("written");
}

/// A committed checkpoint with a changed `config.json`.
fn golden(name: &str, change: &dyn Fn(&mut Value)) -> Result<Model, String> {
    golden_with(name, |dir| edit(&dir.join("config.json"), change))
}

/// A committed checkpoint with changed files.
fn golden_with(name: &str, change: impl FnOnce(&Path)) -> Result<Model, String> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores").join(name);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(from.join(file), folder.path().join(file)).expect("copied");
    }
    change(folder.path());
    let embeds = name.ends_with("embedder");
    let options = LoadOptions {
        task: embeds.then_some(Task::Embed),
        pooling: embeds.then_some(Pooling::Mean),
        strict_checkpoint: true,
        ..LoadOptions::default()
    };
    load(folder.path(), &options)
}

/// A synthetic checkpoint with a changed file.
fn synthetic(name: &str, file: &str, change: &dyn Fn(&mut Value)) -> Result<Model, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(name, folder.path(), &SynthOptions { seed: 0, tokenizer: None }).expect("written");
    edit(&folder.path().join(file), change);
    load(folder.path(), &LoadOptions::default())
}

fn set(keys: Value) -> impl Fn(&mut Value) {
    move |json| {
        for (key, value) in keys.as_object().expect("keys") {
            json[key] = value.clone();
        }
    }
}

fn without(keys: &'static [&'static str]) -> impl Fn(&mut Value) {
    move |json| keys.iter().for_each(|key| drop(json.as_object_mut().expect("keys").remove(*key)))
}

fn says(result: Result<Model, String>, words: &[&str]) {
    let message = result.map(|model| format!("{model:?}")).expect_err("refused");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

/// One component of a hidden state of a 48-token sequence.
fn probe(model: &Model) -> f32 {
    let tokens = [5, 6, 7, 8, 9, 10].repeat(8);
    let sequence = Sequence { tokens, ..Sequence::default() };
    let hidden = model.encoder.encode(&RaggedBatch::new([&sequence])).expect("encoded");
    token_rows(&hidden).expect("rows")[0][3][2]
}

#[test]
fn windows_and_rotary_positions_of_modern_bert_are_those_of_transformers() {
    let model = |keys: Value| golden("modernbert-embedder", &set(keys));
    let (plain, narrow) = (-0.291_521_1, 0.269_083_1);
    let kinds = |global: Value, local: Value| json!({ "rope_parameters": { "full_attention": global, "sliding_attention": local } });
    for (keys, expected) in [
        (json!({}), plain),
        (json!({ "sliding_window": 2 }), narrow),
        (json!({ "sliding_window": 2, "local_attention": 64 }), narrow),
        (json!({ "layer_types": null }), plain),
        (json!({ "rope_parameters": null, "rope_scaling": {} }), plain),
        (json!({ "rope_scaling": { "rope_type": "default" } }), plain),
        (json!({ "rope_scaling": { "type": "default" } }), plain),
        (json!({ "rope_scaling": { "rope_type": "default", "rope_theta": 5000.0 } }), -0.288_791_4),
        (kinds(json!({ "rope_theta": 5.0 }), json!({ "rope_theta": 6.0 })), 0.005_966_9),
        // As in Ettin's files.
        (json!({ "causal_mask": false, "unpad_embeddings": true, "unpad_no_grad": true }), plain),
    ] {
        let model = model(keys.clone()).unwrap_or_else(|problem| panic!("{keys}: {problem}"));
        let found = probe(&model);
        assert!((found - expected).abs() < 2e-3, "{keys}: {found} is not {expected}");
    }
    for (keys, words) in [
        (json!({ "causal_mask": true }), ["causal_mask is true", "full attention"]),
        (json!({ "sliding_window": null }), ["sliding_window is null", "whole number"]),
        (json!({ "sliding_window": 2.5 }), ["sliding_window is 2.5", "whole number"]),
        (json!({ "layer_types": [] }), ["0 layer_types", "6 layers"]),
        (json!({ "layer_types": ["full_attention"] }), ["1 layer_types", "6 layers"]),
        (json!({ "local_rope_theta": null }), ["local_rope_theta is null", "number"]),
        (json!({ "global_attn_every_n_layers": null }), ["global_attn_every", "is null"]),
        (json!({ "rope_scaling": { "rope_type": null } }), ["rope_type null", "not supported"]),
        (json!({ "rope_scaling": { "rope_type": "yarn" } }), ["rope_type", "yarn"]),
        (kinds(json!({ "rope_type": null }), json!({})), ["rope_type null", "not supported"]),
    ] {
        says(model(keys), &["config.json", words[0], words[1]]);
    }
}

#[test]
fn absent_keys_are_what_transformers_takes_for_them() {
    let logits = |model: Result<Model, String>| {
        let model = model.expect("loaded");
        let input = Input::Pair { query: "river".into(), document: "street".into() };
        let sequence = model.recipe.prepare(&input, &Prepare::default()).expect("prepared");
        let hidden = model.encoder.encode(&RaggedBatch::new([&sequence])).expect("encoded");
        model.readouts.score.expect("a scorer").logits(&hidden).expect("read out")
    };
    for (name, keys) in [
        ("bert-classifier", &["type_vocab_size", "hidden_act", "pad_token_id"][..]),
        ("xlmr-reranker", &["hidden_act", "pad_token_id", "position_embedding_type"]),
        ("modernbert-reranker-cls", &["hidden_activation", "norm_eps", "global_rope_theta"]),
    ] {
        let all = logits(golden(name, &|_| ()));
        assert_eq!(logits(golden(name, &without(keys))), all, "{name}");
    }
    // The defaults are 128 components per head and 32 key and value heads, unlike this
    // checkpoint's.
    says(synthetic("tiny-qwen3", "config.json", &without(&["head_dim"])), &["q_proj", "shape"]);
    let qwen3 = |change: &dyn Fn(&mut Value)| synthetic("tiny-qwen3", "config.json", change);
    let theta = |theta: f64| probe(&qwen3(&set(json!({ "rope_theta": theta }))).expect("loaded"));
    let absent = qwen3(&without(&["rope_theta", "rope_parameters", "rope_scaling"]));
    let absent = probe(&absent.expect("loaded"));
    assert_eq!(absent, theta(10_000.0));
    assert_ne!(absent, theta(1e6));
    for keys in [json!({ "rope_scaling": {} }), json!({ "rope_scaling": { "type": "default" } })] {
        qwen3(&set(keys)).expect("loaded");
    }
}

#[test]
fn odd_values_are_refused_by_name() {
    for (name, keys, words) in [
        ("tiny-qwen3", json!({ "layer_types": [] }), ["layer_types", "layers"]),
        ("tiny-qwen3", json!({ "layer_types": ["full_attention"] }), ["layer_types", "layers"]),
        ("tiny-qwen3", json!({ "rope_theta": null }), ["rope_theta is null", "number"]),
        (
            "tiny-qwen3",
            json!({ "rope_scaling": { "rope_type": null } }),
            ["rope_scaling", "rope_type null"],
        ),
        (
            "tiny-qwen3",
            json!({ "rope_parameters": { "full_attention": { "rope_theta": 5.0 } } }),
            ["rope_parameters.full_attention", "all layers"],
        ),
        ("tiny-bert", json!({ "num_labels": null }), ["num_labels is null", "whole"]),
        ("tiny-bert", json!({ "type_vocab_size": null }), ["type_vocab_size is null", "whole"]),
    ] {
        says(synthetic(name, "config.json", &set(keys)), &words);
    }
    let padding = golden("xlmr-reranker", &set(json!({ "pad_token_id": null })));
    says(padding, &["config.json", "pad_token_id is not a token id", "start after it"]);
    says(
        golden("xlmr-reranker", &set(json!({ "pad_token_id": -1 }))),
        &["config.json", "pad_token_id is not a token id"],
    );
    for unused in [Value::Null, json!(-1)] {
        assert!(golden("bert-classifier", &set(json!({ "pad_token_id": unused }))).is_ok());
    }
}

/// Renames tensors; one that is given several names is stored under each.
fn rename(dir: &Path, names: impl Fn(&str) -> Vec<String>) {
    let path = dir.join("model.safetensors");
    let bytes = fs::read(&path).expect("a file");
    let tensors = SafeTensors::deserialize(&bytes).expect("tensors");
    let renamed = tensors
        .iter()
        .flat_map(|(name, tensor)| names(name).into_iter().map(move |name| (name, tensor.clone())));
    let written = safetensors::serialize(renamed, None).expect("tensors");
    fs::write(path, written).expect("written");
}

#[test]
fn a_network_is_found_with_and_without_the_name_of_its_family() {
    let plain = |name: &str| name.strip_prefix("bert.").unwrap_or(name).to_owned();
    let logits = |model: Model| {
        let pair = Input::Pair { query: "a question".into(), document: "an answer".into() };
        let sequence = model.recipe.prepare(&pair, &Prepare::default()).expect("prepared");
        let hidden = model.encoder.encode(&RaggedBatch::new(&[sequence])).expect("encoded");
        model.readouts.score.expect("a scorer").logits(&hidden).expect("read out")
    };
    let model = golden_with("bert-classifier", |dir| rename(dir, |name| vec![plain(name)]));
    let original = golden("bert-classifier", &|_| {}).expect("loaded");
    assert_eq!(logits(model.expect("loaded")), logits(original));
    let both = |name: &str| match plain(name) {
        plain if plain == name => vec![plain],
        plain => vec![plain, name.to_owned()],
    };
    says(
        golden_with("bert-classifier", |dir| rename(dir, both)),
        &["embeddings.word_embeddings.weight and bert.embeddings", "should not be used"],
    );
}

#[test]
fn a_cross_encoder_with_files_that_sentence_transformers_would_not_read_is_refused() {
    let loaded = |settings: Value, length: Value| {
        golden_with("bert-classifier", |dir| {
            let kind = "sentence_transformers.base.modules.transformer.Transformer";
            edit(&dir.join("modules.json"), &|json| *json = json!([{ "path": "", "type": kind }]));
            edit(&dir.join("config_sentence_transformers.json"), &set(settings));
            edit(&dir.join("sentence_bert_config.json"), &set(length));
        })
    };
    let sigmoid = json!("torch.nn.modules.activation.Sigmoid");
    for (settings, length, key) in [
        (json!({ "activation_fn": sigmoid }), json!({}), "activation_fn"),
        (json!({}), json!({ "max_seq_length": 8 }), "max_seq_length"),
        (json!({}), json!({ "do_lower_case": true }), "do_lower_case"),
        (
            json!({ "model_type": "SentenceTransformer" }),
            json!({ "max_seq_length": 8 }),
            "max_seq_length",
        ),
    ] {
        says(
            loaded(settings.clone(), length.clone()),
            &["modules.json", key, "\"model_type\": \"CrossEncoder\""],
        );
        let mut named = settings;
        named["model_type"] = json!("CrossEncoder");
        loaded(named, length).expect("loaded");
    }
    loaded(json!({}), json!({})).expect("loaded");
}

#[test]
fn num_labels_goes_before_names_of_another_number_of_labels() {
    let labels = |keys: Value| {
        let model = golden("bert-classifier", &set(keys))?;
        Ok::<_, String>(model.readouts.score.expect("a scorer").labels().to_vec())
    };
    let plain = ["LABEL_0", "LABEL_1", "LABEL_2"].map(str::to_owned).to_vec();
    let two = json!({ "0": "a", "1": "b" });
    assert_eq!(labels(json!({ "num_labels": 3, "id2label": two })), Ok(plain.clone()));
    assert_eq!(labels(json!({ "num_labels": 3, "id2label": {} })), Ok(plain.clone()));
    assert_eq!(labels(json!({ "num_labels": 3, "id2label": null })), Ok(plain));
    assert_eq!(labels(json!({ "num_labels": 3 })).expect("loaded")[0], "contradiction");
    let one = labels(json!({ "num_labels": 1 })).expect_err("refused");
    assert!(one.contains("classifier.weight"), "{one}");
}

#[test]
fn modules_are_what_sentence_transformers_makes_of_their_files() {
    let pooling = |keys: Value| {
        let keys = keys.clone();
        let model =
            synthetic("tiny-bert", "1_Pooling/config.json", &move |json| *json = keys.clone())?;
        Ok::<_, String>(model.readouts.embedding.expect("an embedder").pooling().to_vec())
    };
    for keys in [
        json!({ "word_embedding_dimension": 64 }),
        json!({ "pooling_mode_cls_token": false, "pooling_mode_mean_tokens": false }),
    ] {
        assert_eq!(pooling(keys), Ok(vec![Pooling::Mean]));
    }
    // As in Python, 1 is true and 0 is false.
    let numbers = json!({ "pooling_mode_cls_token": 1, "pooling_mode_mean_tokens": 0 });
    assert_eq!(pooling(numbers), Ok(vec![Pooling::Cls]));
    let both = json!({ "pooling_mode": "cls", "pooling_mode_max_tokens": true });
    assert_eq!(pooling(both), Ok(vec![Pooling::Cls]));
    let null = pooling(json!({ "pooling_mode": null })).expect_err("refused");
    assert!(null.contains("pooling_mode null"), "{null}");

    let chain = |kinds: &[(&str, &str)]| {
        let module = |(path, kind): &(&str, &str)| json!({ "path": path, "type": format!("sentence_transformers.models.{kind}") });
        let modules: Value = kinds.iter().map(module).collect();
        synthetic("tiny-bert-dense", "modules.json", &move |json| *json = modules.clone())
    };
    let (first, pool, drop) = (("", "Transformer"), ("1_Pooling", "Pooling"), ("x", "Dropout"));
    chain(&[first, pool, drop, ("2_Dense", "Dense"), drop]).expect("loaded");
    says(chain(&[first, drop, pool]), &["Dropout is before Pooling"]);

    let dense = |keys: Value| synthetic("tiny-bert-dense", "2_Dense/config.json", &set(keys));
    for path in ["torch.nn.Tanh", "torch.nn.modules.activation.Tanh", "torch.nn.modules.Tanh"] {
        dense(json!({ "activation_function": path })).expect("loaded");
    }
    for path in ["torch.nn.evil.Tanh", "torch.nn.modules.linear.Tanh", "evil.Tanh", "Tanh"] {
        says(
            dense(json!({ "activation_function": path })),
            &["2_Dense", "activation_function", path],
        );
    }
    says(dense(json!({ "activation_function": null })), &["activation_function is null"]);
    says(dense(json!({ "bias": null })), &["linear.bias"]);
}

#[test]
fn modules_take_of_the_transformer_what_they_are_given() {
    let output = |name: &str| {
        let text = json!({ "method": "forward", "method_output_name": name });
        let take = move |json: &mut Value| json["modality_config"] = json!({ "text": text });
        synthetic("tiny-bert", "sentence_bert_config.json", &take)
    };
    output("last_hidden_state").expect("loaded");
    says(output("logits"), &["modules.json", "method_output_name", "last_hidden_state"]);
}

#[test]
fn a_head_tied_to_the_embeddings_is_configured_so() {
    let reranker =
        |change: &dyn Fn(&mut Value)| synthetic("tiny-qwen3-reranker", "config.json", change);
    reranker(&|_| ()).expect("loaded");
    // transformers would initialise a random head.
    let silent = without(&["tie_word_embeddings"]);
    says(reranker(&silent), &["tie_word_embeddings: true", "lm_head.weight"]);
    says(reranker(&set(json!({ "tie_word_embeddings": false }))), &["lm_head.weight"]);
}

#[test]
fn image_scaling_is_configured_as_it_is_done() {
    let images = |change: &dyn Fn(&mut Value)| {
        synthetic("tiny-qwen3-vl", "preprocessor_config.json", change)
    };
    images(&|_| ()).expect("loaded");
    // The defaults of transformers' class differ, and it takes null as skipping a step.
    says(images(&without(&["image_mean"])), &["preprocessor_config.json", "image_mean is absent"]);
    says(images(&without(&["patch_size"])), &["patch_size is absent"]);
    for key in ["image_std", "do_normalize", "do_rescale", "rescale_factor"] {
        says(images(&set(json!({ key: null }))), &[key, "null"]);
    }
    // The defaults of the class for videos are the checkpoint's values.
    let videos = without(&["image_mean", "patch_size"]);
    synthetic("tiny-qwen3-vl", "video_preprocessor_config.json", &videos).expect("loaded");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path();
    write("tiny-qwen3-vl", dir, &SynthOptions { seed: 0, tokenizer: None }).expect("written");
    let images = fs::read_to_string(dir.join("preprocessor_config.json")).expect("read");
    fs::remove_file(dir.join("preprocessor_config.json")).expect("removed");
    says(load(dir, &LoadOptions::default()), &["preprocessor_config.json", "missing"]);
    // The file of the whole processor will do, too, if it has a part for images.
    let whole = dir.join("processor_config.json");
    fs::write(&whole, r#"{"processor_class": "Qwen3VLProcessor"}"#).expect("written");
    says(load(dir, &LoadOptions::default()), &["preprocessor_config.json", "missing"]);
    fs::write(&whole, format!(r#"{{"image_processor": {images}}}"#)).expect("written");
    load(dir, &LoadOptions::default()).expect("loaded");
}

#[test]
fn what_no_part_of_a_network_would_read_is_refused() {
    let config = |part: &'static str, keys: Value| {
        let change = move |json: &mut Value| set(keys.clone())(&mut json[part]);
        synthetic("tiny-qwen3-vl", "config.json", &change)
    };
    let twice = json!({ "deepstack_visual_indexes": [0, 0, 3] });
    says(config("vision_config", twice), &["deepstack_visual_indexes", "twice"]);
    for part in ["text_config", "vision_config"] {
        let quantised = json!({ "quantization_config": { "quant_method": "fp8" } });
        says(config(part, quantised), &[part, "quantization_config", "not supported"]);
    }
    let theta = json!({ "rope_theta": 500 });
    says(config("vision_config", theta), &["vision_config.rope_theta", "10000"]);
    // The line break that ends every chat, in the made-up tokenizer.
    let padding = json!({ "pad_token_id": 10 });
    let reranker = synthetic("tiny-qwen3-reranker-classifier", "config.json", &set(padding));
    says(reranker, &["pad_token_id", "not supported"]);
}

#[test]
fn a_chat_of_images_that_is_not_the_built_in_one_is_refused() {
    let with = |name: &str, template: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(name, folder.path(), &SynthOptions { seed: 0, tokenizer: None }).expect("written");
        fs::write(folder.path().join("chat_template.jinja"), template).expect("written");
        load(folder.path(), &LoadOptions::default())
    };
    // In the style of published ones: blocks on lines of their own, counters, tools.
    let published = |end: &str| {
        format!(
            "{{%- if tools %}}\n    {{{{- '# Tools' + (tools | tojson) }}}}\n{{%- endif %}}\n\
             {{%- set images = namespace(value=0) %}}\n\
             {{%- for message in messages %}}\n\
             \x20   {{{{- '<|im_start|>' + message.role + '\\n' }}}}\n\
             \x20   {{%- if message.content is string %}}\n\
             \x20       {{{{- message.content }}}}\n\
             \x20   {{%- else %}}\n\
             \x20       {{%- for content in message.content %}}\n\
             \x20           {{%- if content.type == 'image' or 'image' in content %}}\n\
             \x20               {{%- set images.value = images.value + 1 %}}\n\
             \x20               {{%- if add_vision_id %}}{{{{ images.value }}}}: {{% endif -%}}\n\
             \x20               <|vision_start|><|image_pad|><|vision_end|>\n\
             \x20           {{%- elif content.type == 'video' or 'video' in content -%}}\n\
             \x20               <|vision_start|><|video_pad|><|vision_end|>\n\
             \x20           {{%- elif 'text' in content %}}\n\
             \x20               {{{{- content.text }}}}\n\
             \x20           {{%- endif %}}\n\
             \x20       {{%- endfor %}}\n\
             \x20   {{%- endif %}}\n\
             \x20   {{{{- '{end}' }}}}\n\
             {{%- endfor %}}\n\
             {{%- if add_generation_prompt %}}\n    {{{{- '<|im_start|>assistant\\n' }}}}\n{{%- endif %}}\n"
        )
    };
    for name in ["tiny-qwen3-vl", "tiny-qwen3-vl-reranker"] {
        with(name, &published("<|im_end|>\\n")).expect("loaded");
        says(with(name, &published("<|im_end|>")), &["chat_template.jinja", "a different chat"]);
        says(with(name, "{% if %}"), &["chat_template.jinja", "cannot be rendered"]);
        // An endless template is stopped.
        let endless = "{% macro a() %}{% for i in range(9999) %}{{ a() }}{% endfor %}\
                       {% endmacro %}{{ a() }}";
        says(with(name, endless), &["cannot be rendered"]);
    }
    let change = |json: &mut Value| {
        let template = json["chat_template"].as_str().expect("a template").replace("\\n", " ");
        json["chat_template"] = template.into();
    };
    says(synthetic("tiny-qwen3-vl", "chat_template.json", &change), &["chat_template.json"]);
    let text = json!({ "method": "forward", "method_output_name": "last_hidden_state" });
    let bare = set(json!({ "modality_config": { "text": text } }));
    let bare = synthetic("tiny-qwen3-vl", "sentence_bert_config.json", &bare);
    says(bare, &["no \"message\"", "not supported"]);
}
