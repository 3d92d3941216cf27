//! Each key of a configuration file is read, listed as without effect, refused by name, or warned
//! about; files are regular, within size limits and within the folder.

use std::fs;
use std::path::Path;

use proxima_models::{
    Checkpoint, Input, InputError, ListwiseTemplate, LoadOptions, Model, Prepare, Prompt, Task,
    TruncationSide,
};
use proxima_synth::{SynthOptions, write};
use serde_json::{Value, json};

fn load_with(dir: &Path, options: &LoadOptions) -> Result<Model, String> {
    let checkpoint = Checkpoint::open(dir).map_err(|error| error.to_string())?;
    Model::load(&checkpoint, options).map_err(|error| error.to_string())
}

/// Loads a checkpoint after a change.
fn after(name: &str, change: impl FnOnce(&Path)) -> Result<Model, String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(name, folder.path(), &SynthOptions { seed: 0, tokenizer: None }).expect("written");
    change(folder.path());
    load_with(folder.path(), &LoadOptions::default())
}

/// Sets keys of a file, creating it if it does not exist.
fn set(dir: &Path, file: &str, keys: Value) {
    let path = dir.join(file);
    let mut content = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).expect("JSON"),
        Err(_) => json!({}),
    };
    for (key, value) in keys.as_object().expect("keys") {
        content[key] = value.clone();
    }
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, content.to_string()).expect("written");
}

fn says(result: Result<Model, String>, words: &[&str]) {
    let message = result.map(|model| format!("{model:?}")).expect_err("refused");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn a_key_that_is_not_known_is_warned_of_once_and_refused_if_asked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dir = folder.path();
    write("tiny-bert-dense", dir, &SynthOptions { seed: 0, tokenizer: None }).expect("written");
    let strict = LoadOptions { strict_checkpoint: true, ..LoadOptions::default() };
    let plain = load_with(dir, &strict).expect("loaded");
    assert_eq!(plain.info.warnings, Vec::<String>::new());
    for file in [
        "config.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
        "tokenizer_config.json",
    ] {
        let path = dir.join(file);
        let before = fs::read_to_string(&path).ok();
        set(dir, file, json!({ "a_new_switch": true }));
        let model = load_with(dir, &LoadOptions::default()).expect("loaded");
        let [warning] = &model.info.warnings[..] else { panic!("{:?}", model.info.warnings) };
        assert!(warning.contains(file) && warning.contains("a_new_switch"), "{warning}");
        says(load_with(dir, &strict), &["--strict-checkpoint", file, "a_new_switch"]);
        match before {
            Some(before) => fs::write(path, before).expect("written"),
            None => fs::remove_file(path).expect("removed"),
        }
    }
    fs::write(
        dir.join("modules.json"),
        json!([{ "path": "", "type": "sentence_transformers.models.Transformer", "lora": 1 }])
            .to_string(),
    )
    .expect("written");
    says(load_with(dir, &strict), &["modules.json", "lora"]);
}

#[test]
fn every_synthetic_checkpoint_has_known_keys_alone() {
    for name in proxima_synth::names().into_iter().filter(|name| name.starts_with("tiny")) {
        if name.contains("reranker") || name.contains("vl") {
            // Their tokenizers are downloaded; the tests of vision and scores load them.
            continue;
        }
        assert_eq!(after(name, |_| ()).expect("loaded").info.warnings, Vec::<String>::new());
    }
}

#[test]
fn values_that_are_not_served_are_refused_by_name() {
    let config = |name: &str, keys: Value| after(name, |dir| set(dir, "config.json", keys));
    for (name, keys, words) in [
        (
            "tiny-qwen3",
            json!({ "use_bidirectional_attention": true }),
            "use_bidirectional_attention",
        ),
        ("tiny-qwen3", json!({ "is_causal": null }), "is_causal"),
        ("tiny-qwen3", json!({ "partial_rotary_factor": 0.5 }), "partial_rotary_factor"),
        ("tiny-qwen3", json!({ "rope_parameters": { "partial_rotary_factor": 0.25 } }), "partial"),
        ("tiny-qwen3", json!({ "auto_map": { "AutoModel": "m.X" } }), "auto_map.AutoModel"),
        ("tiny-qwen3", json!({ "per_layer_config": { "0": {} } }), "per_layer_config"),
        ("tiny-bert", json!({ "pruned_heads": { "0": [1] } }), "pruned_heads"),
        ("tiny-bert", json!({ "is_decoder": true }), "is_decoder"),
        ("tiny-bert", json!({ "is_encoder_decoder": true }), "is_encoder_decoder"),
        ("tiny-bert", json!({ "num_hidden_layers": 0 }), "num_hidden_layers"),
        ("tiny-bert", json!({ "num_hidden_layers": 1_000_000 }), "num_hidden_layers"),
        ("tiny-bert", json!({ "num_labels": 1_000_000_000_000_000u64 }), "num_labels"),
        ("tiny-bert", json!({ "vocab_size": -1 }), "vocab_size"),
        ("tiny-bert", json!({ "layer_norm_eps": 3.0 }), "layer_norm_eps"),
        ("tiny-bert", json!({ "max_position_embeddings": 1e30 }), "max_position_embeddings"),
    ] {
        says(config(name, keys), &["config.json", words]);
    }
    let file =
        |file: &'static str, keys: Value| after("tiny-bert-dense", |dir| set(dir, file, keys));
    for (path, keys, words) in [
        (
            "2_Dense/config.json",
            json!({ "module_input_name": "all_layer_embeddings" }),
            "module_input",
        ),
        (
            "2_Dense/config.json",
            json!({ "module_output_name": "token_embeddings" }),
            "module_output",
        ),
        ("1_Pooling/config.json", json!({ "pooling_mode": "max_pool" }), "max_pool"),
        ("1_Pooling/config.json", json!({ "pooling_mode": ["mean", 3] }), "pooling"),
        ("1_Pooling/config.json", json!({ "include_prompt": "no" }), "include_prompt"),
        ("sentence_bert_config.json", json!({ "processing_kwargs": { "text": 5 } }), "processing"),
        (
            "sentence_bert_config.json",
            json!({ "config_kwargs": { "is_causal": false } }),
            "is_causal",
        ),
        ("sentence_bert_config.json", json!({ "max_seq_length": 0 }), "max_seq_length"),
        ("config_sentence_transformers.json", json!({ "similarity_fn_name": "maxsim" }), "maxsim"),
        ("config_sentence_transformers.json", json!({ "truncate_dim": 0 }), "truncate_dim"),
        ("tokenizer_config.json", json!({ "split_special_tokens": true }), "split_special_tokens"),
        ("tokenizer_config.json", json!({ "truncation_side": "middle" }), "truncation_side"),
    ] {
        says(file(path, keys), &[path.rsplit('/').next().expect("a name"), words]);
    }
}

#[test]
fn an_encoder_that_is_to_see_one_way_only_is_refused() {
    let causal = |value: Value| {
        after("tiny-bert", |dir| set(dir, "config.json", json!({ "is_causal": value })))
    };
    says(causal(json!(true)), &["config.json", "is_causal", "full attention"]);
    assert!(causal(json!(false)).is_ok());
}

#[test]
fn a_head_over_words_is_tied_only_where_the_config_lets_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores/splade-bert");
    for entry in fs::read_dir(golden).expect("a folder") {
        let entry = entry.expect("a file");
        let to = folder.path().join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&to).expect("made");
            for inner in fs::read_dir(entry.path()).expect("a folder") {
                let inner = inner.expect("a file");
                fs::copy(inner.path(), to.join(inner.file_name())).expect("copied");
            }
        } else {
            fs::copy(entry.path(), &to).expect("copied");
        }
    }
    assert!(load_with(folder.path(), &LoadOptions::default()).is_ok());
    set(folder.path(), "config.json", json!({ "tie_word_embeddings": false }));
    says(load_with(folder.path(), &LoadOptions::default()), &["does not tie", "decoder.weight"]);
}

#[test]
fn tensors_of_a_module_are_those_that_its_configuration_speaks_of() {
    let dense = |keys: Value| after("tiny-bert-dense", |dir| set(dir, "2_Dense/config.json", keys));
    says(dense(json!({ "use_residual": true })), &["2_Dense", "residual.weight"]);
    says(dense(json!({ "bias": false })), &["2_Dense", "linear.bias"]);
}

#[test]
fn modules_that_cannot_run_in_their_order_are_refused() {
    let chain = |types: &[(&str, &str)]| {
        let entry = |(path, kind): &(&str, &str)| json!({ "path": path, "type": format!("sentence_transformers.models.{kind}") });
        let modules: Vec<Value> = types.iter().map(entry).collect();
        after("tiny-bert-dense", |dir| {
            fs::write(dir.join("modules.json"), json!(modules).to_string()).expect("written");
        })
    };
    let (first, pool, dense) =
        (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"));
    chain(&[first, pool, dense]).expect("loaded");
    says(chain(&[first, dense, pool]), &["before Pooling"]);
    says(chain(&[first, ("x", "Normalize"), pool]), &["before Pooling"]);
    says(chain(&[first, pool, pool]), &["second Pooling"]);
    says(chain(&[pool, first]), &["Transformer"]);
    says(chain(&[]), &["neither a Transformer"]);
    says(chain(&[first, first, pool]), &["Transformer"]);
    says(chain(&[first, pool, dense, dense]), &["2_Dense", "64", "48"]);
    says(chain(&[first, pool, ("x", "WordWeights")]), &["WordWeights"]);
    for path in ["../elsewhere", "/etc", "1_Pooling/../..", "..", "a\\b"] {
        says(chain(&[first, (path, "Pooling")]), &["modules.json", "relative"]);
    }
    let foreign = after("tiny-bert-dense", |dir| {
        let modules = json!([
            { "path": "", "type": "sentence_transformers.models.Transformer" },
            { "path": "2_Dense", "type": "pylate.models.Dense.Dense" },
        ]);
        fs::write(dir.join("modules.json"), modules.to_string()).expect("written");
    });
    says(foreign, &["pylate.models.Dense.Dense"]);
}

#[test]
fn layers_beyond_those_configured_are_refused() {
    let fewer = |dir: &Path| set(dir, "config.json", json!({ "num_hidden_layers": 2 }));
    says(after("tiny-bert", fewer), &["config.json", "encoder.layer.2.", "2 layers"]);
    says(after("tiny-qwen3", fewer), &["layers.2.", "2 layers"]);
}

#[test]
fn an_adapter_is_said_to_be_one() {
    let adapter = json!({ "peft_type": "LORA", "base_model_name_or_path": "Owner/Base" });
    let beside = after("tiny-bert", |dir| set(dir, "adapter_config.json", adapter.clone()));
    says(beside, &["adapter_config.json", "next to the model", "LORA", "Owner/Base"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    set(folder.path(), "adapter_config.json", adapter);
    let alone = load_with(folder.path(), &LoadOptions::default());
    says(alone, &["adapter_config.json", "not a model", "Owner/Base"]);
}

#[test]
fn labels_are_numbered_and_bounded() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores/bert-classifier");
    let with = |keys: Value| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::copy(from.join(file), folder.path().join(file)).expect("copied");
        }
        set(folder.path(), "config.json", keys);
        load_with(folder.path(), &LoadOptions::default())
    };
    with(json!({})).expect("loaded");
    for labels in [
        json!({ "0": "a", "1": "b", "two": "c" }),
        json!({ "0": "a", "1": "b", "3": "c" }),
        json!({ "0": "a", "1": "b", "02": "c", "2": "d" }),
        json!({ "0": "a", "1": "b", "2": null }),
        json!({ "0": "a", "1": "b", "-1": "c" }),
        json!({}),
        json!(["a", "b", "c"]),
    ] {
        says(with(json!({ "id2label": labels })), &["config.json", "id2label"]);
    }
    let many: serde_json::Map<String, Value> =
        (0..70_000).map(|id| (id.to_string(), json!("x"))).collect();
    says(with(json!({ "id2label": many })), &["70000 labels"]);
    let single = json!({ "problem_type": "single_label_classification", "id2label": { "0": "a" } });
    says(with(single), &["classifier.weight"]);
    says(with(json!({ "problem_type": "ranking" })), &["problem_type", "ranking"]);
    let own = json!({ "sbert_ce_default_activation_function": "torch.nn.modules.activation.GLU" });
    says(with(own), &["torch.nn.modules.activation.GLU"]);
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_opened_and_links_are_followed() {
    use std::os::unix::fs::symlink;
    let pipe = |path: &Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo runs");
        assert!(made.success());
    };
    for file in ["config.json", "tokenizer.json", "model.safetensors", "modules.json"] {
        let replace = |with: &dyn Fn(&Path)| {
            after("tiny-bert", |dir| {
                fs::remove_file(dir.join(file)).expect("removed");
                with(&dir.join(file));
            })
        };
        says(replace(&pipe), &[file, "not a regular file"]);
        let endless = |path: &Path| symlink("/dev/zero", path).expect("linked");
        says(replace(&endless), &[file, "not a regular file"]);
        let nowhere = |path: &Path| symlink("/nowhere/at/all", path).expect("linked");
        says(replace(&nowhere), &[file, "missing"]);
    }
    let linked = after("tiny-bert", |dir| {
        let blob = dir.join("blob");
        fs::rename(dir.join("config.json"), &blob).expect("moved");
        symlink(blob, dir.join("config.json")).expect("linked");
    });
    linked.expect("loaded");
    let large = after("tiny-bert", |dir| {
        let file = fs::OpenOptions::new().write(true).open(dir.join("config.json"));
        file.expect("opened").set_len(1 << 40).expect("a file with holes");
    });
    says(large, &["config.json", "more than the limit"]);
}

/// The tokens of a text.
fn tokens(model: &Model, text: &str) -> Vec<u32> {
    let input = Input::from(text);
    model.recipe.prepare(&input, &Prepare::default()).expect("prepared").tokens
}

#[test]
fn tokenizer_config_is_followed_where_transformers_follows_it() {
    let golden =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores/bert-classifier");
    let with = |keys: Value| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::copy(golden.join(file), folder.path().join(file)).expect("copied");
        }
        set(folder.path(), "tokenizer_config.json", keys);
        load_with(folder.path(), &LoadOptions::default())
    };
    let plain = with(json!({ "tokenizer_class": "BertTokenizer" })).expect("loaded");
    let (small, large) = (tokens(&plain, "gravity"), tokens(&plain, "GRAVITY"));
    assert_eq!(small, large);
    let cased = json!({ "tokenizer_class": "BertTokenizerFast", "do_lower_case": false });
    assert_ne!(tokens(&with(cased).expect("loaded"), "GRAVITY"), small);
    // The generic class uses tokenizer.json as it is.
    let generic = json!({ "tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": false });
    assert_eq!(tokens(&with(generic).expect("loaded"), "GRAVITY"), small);
}

#[test]
fn the_tokenizer_says_which_end_is_cut_unless_a_request_does() {
    let model = after("tiny-qwen3", |dir| {
        set(dir, "tokenizer_config.json", json!({ "truncation_side": "left" }));
    });
    let model = model.expect("loaded");
    let cut = |side| {
        let how = Prepare { tokens_max: Some(4), side, ..Prepare::default() };
        let input = Input::from("abcdefgh");
        model.recipe.prepare(&input, &how).expect("prepared").tokens
    };
    assert_eq!(cut(TruncationSide::Own), cut(TruncationSide::Left));
    assert_ne!(cut(TruncationSide::Own), cut(TruncationSide::Right));
}

#[test]
fn names_of_prompts_that_are_not_known_are_refused_by_lists_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 0, tokenizer: None };
    write("tiny-e2rank", folder.path(), &options).expect("written");
    let options = LoadOptions { task: Some(Task::E2Rank), ..LoadOptions::default() };
    let model = load_with(folder.path(), &options).expect("loaded");
    let prepare = |prompt| {
        let input = Input::Listwise {
            query: "q".into(),
            candidates: vec!["a".into(), "b".into()],
            template: ListwiseTemplate::Paper,
        };
        model.recipe.prepare(&input, &Prepare { prompt, ..Prepare::default() })
    };
    let known = vec!["query".to_owned()];
    let unknown = InputError::UnknownPrompt { name: "queries".into(), known };
    assert_eq!(prepare(Prompt::Named("queries".into())), Err(unknown));
    assert!(prepare(Prompt::Named("query".into())).is_err());
    let plain = prepare(Prompt::Default).expect("prepared");
    assert_eq!(prepare(Prompt::query()), Ok(plain));
}

#[test]
fn pixels_of_another_preprocessing_are_refused() {
    // Keys are checked before the tokenizer is read, so the byte-level one will do.
    let with = |file: &'static str, keys: Value| {
        after("tiny-qwen3-vl", |dir| set(dir, file, keys)).err().unwrap_or_default()
    };
    for (file, keys, word) in [
        ("preprocessor_config.json", json!({ "image_mean": [0.48, 0.46, 0.41] }), "image_mean"),
        ("preprocessor_config.json", json!({ "image_std": [0.27, 0.26, 0.28] }), "image_std"),
        ("preprocessor_config.json", json!({ "patch_size": 14 }), "patch_size"),
        ("preprocessor_config.json", json!({ "size": { "longest_edge": 1000 } }), "longest_edge"),
        ("preprocessor_config.json", json!({ "do_normalize": false }), "do_normalize"),
        ("video_preprocessor_config.json", json!({ "temporal_patch_size": 1 }), "temporal"),
        ("processor_config.json", json!({ "image_processor": { "merge_size": 4 } }), "image_mean"),
    ] {
        let message = with(file, keys);
        assert!(message.contains(file) && message.contains(word), "{message}");
    }
}

#[test]
fn a_masked_language_model_is_offered_as_a_sparse_one() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores/splade-bert");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(golden.join(file), folder.path().join(file)).expect("copied");
    }
    says(
        load_with(folder.path(), &LoadOptions::default()),
        &["--pooling", "--task sparse", "--pooling splade"],
    );
    let options = LoadOptions { task: Some(Task::Sparse), ..LoadOptions::default() };
    assert!(load_with(folder.path(), &options).expect("loaded").info.capabilities.sparse);
}

#[test]
fn a_chat_template_that_texts_would_be_put_through_is_refused() {
    let with = |name, length: Value, template: Value| {
        after(name, |dir| {
            set(dir, "sentence_bert_config.json", length);
            set(dir, "tokenizer_config.json", template);
        })
    };
    let template =
        || json!({ "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}" });
    let modality = |name: &str| {
        let how = json!({ "method": "forward", "method_output_name": "last_hidden_state" });
        json!({ "modality_config": { name: how } })
    };
    for name in ["tiny-bert", "tiny-qwen3"] {
        says(with(name, modality("message"), template()), &["chat_template", "\"message\""]);
        with(name, modality("message"), json!({})).expect("no template");
        with(name, modality("text"), template()).expect("not put through it");
        // As Qwen3-Embedding is published.
        with(name, json!({}), template()).expect("not put through it");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores/xlmr-reranker");
    let copy = tempfile::tempdir().expect("a temporary folder");
    for file in fs::read_dir(folder).expect("a folder").map(|file| file.expect("an entry").path()) {
        fs::copy(&file, copy.path().join(file.file_name().expect("a name"))).expect("copied");
    }
    load_with(copy.path(), &LoadOptions::default()).expect("loaded");
    // Without its own files, sentence-transformers applies any template there is.
    fs::write(copy.path().join("chat_template.jinja"), "{{ messages }}").expect("written");
    says(
        load_with(copy.path(), &LoadOptions::default()),
        &["chat_template.jinja", "not supported"],
    );
}

#[test]
fn modules_that_their_reference_would_not_read_are_refused() {
    for kind in ["CrossEncoder", "SparseEncoder"] {
        let kind = json!({ "model_type": kind });
        let loaded = after("tiny-bert", |dir| set(dir, "config_sentence_transformers.json", kind));
        says(loaded, &["model_type", "SentenceTransformer"]);
    }
    let own = json!({ "model_type": "SentenceTransformer" });
    after("tiny-bert", |dir| set(dir, "config_sentence_transformers.json", own)).expect("loaded");
}

#[test]
fn a_tokenizer_that_would_harm_is_refused() {
    let with = |keys: Value| {
        after("tiny-bert", |dir| {
            let class = json!({ "tokenizer_class": "PreTrainedTokenizerFast" });
            set(dir, "tokenizer_config.json", class);
            set(dir, "tokenizer.json", keys);
        })
    };
    with(json!({})).expect("loaded");
    // The library panics on these.
    let table = json!({ "type": "Precompiled", "precompiled_charsmap": "BAAAAGFiY2Q=" });
    says(with(json!({ "normalizer": table })), &["tokenizer.json", "panicked"]);
    let pieces = json!({ "type": "FixedLength", "length": 0 });
    says(with(json!({ "pre_tokenizer": pieces })), &["tokenizer.json", "panicked"]);
    // Expands one character to a billion.
    let any =
        json!({ "type": "Replace", "pattern": { "Regex": "." }, "content": "a".repeat(1000) });
    let all = json!({ "type": "Sequence", "normalizers": [any, any, any] });
    says(with(json!({ "normalizer": all })), &["tokenizer.json", "64"]);
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    for single in [json!([text, text]), json!([])] {
        let template = json!({
            "type": "TemplateProcessing", "single": single, "pair": [text], "special_tokens": {}
        });
        says(with(json!({ "post_processor": template })), &["tokenizer.json", "template"]);
    }
}

#[test]
fn settings_of_the_tokenizer_count_in_one_file_alone() {
    let with = |keys| after("tiny-bert", |dir| set(dir, "special_tokens_map.json", keys));
    for keys in [json!({ "model_max_length": 7 }), json!({ "do_lower_case": false })] {
        says(with(keys), &["special_tokens_map.json", "tokenizer_config.json only"]);
    }
    let warnings = with(json!({ "a_switch": true })).expect("loaded").info.warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("a_switch"), "{warnings:?}");
    let null = after("tiny-qwen3", |dir| set(dir, "config.json", json!({ "head_dim": null })));
    says(null, &["config.json", "head_dim"]);
}
