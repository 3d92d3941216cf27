//! A checkpoint that is damaged, inconsistent or not served is refused with a message that names
//! the file and the cause.

use std::fs;
use std::path::Path;

use proxima_models::readout::Pooling;
use proxima_models::{
    Checkpoint, Input, LoadOptions, Model, Precision, Prepare, Prompt, RaggedBatch, Task,
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
    let options = SynthOptions { seed: 0, tokenizer: None };
    write(name, folder.path(), &options).expect("written");
    change(folder.path());
    load_with(folder.path(), &LoadOptions::default())
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json: Value =
        serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON");
    change(&mut json);
    fs::write(path, json.to_string()).expect("written");
}

fn config(change: impl FnOnce(&mut Value)) -> impl FnOnce(&Path) {
    move |dir| edit(&dir.join("config.json"), change)
}

fn says(result: Result<Model, String>, words: &[&str]) {
    let message = result.expect_err("refused");
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn damaged_files_are_named() {
    let weights = "model.safetensors";
    says(
        after("tiny-bert", |dir| {
            let file = fs::OpenOptions::new().write(true).open(dir.join(weights)).expect("a file");
            let length = file.metadata().expect("metadata").len();
            file.set_len(length - 100).expect("cut");
        }),
        &[weights, "download it again"],
    );
    says(
        after("tiny-bert", |dir| fs::write(dir.join(weights), "{}").expect("written")),
        &[weights, "not a complete safetensors file"],
    );
    says(
        after("tiny-bert", |dir| fs::remove_file(dir.join(weights)).expect("removed")),
        &["safetensors", "neither"],
    );
    says(
        after("tiny-bert", |dir| fs::write(dir.join("tokenizer.json"), "words").expect("written")),
        &["tokenizer.json", "not a tokenizer"],
    );
    says(
        after("tiny-bert", |dir| fs::remove_file(dir.join("tokenizer.json")).expect("removed")),
        &["tokenizer.json", "missing"],
    );
    says(
        after("tiny-bert", |dir| fs::write(dir.join("config.json"), "{").expect("written")),
        &["config.json", "JSON"],
    );
    says(
        after("tiny-qwen3-sharded", |dir| {
            let index = dir.join("model.safetensors.index.json");
            edit(&index, |json| json["weight_map"]["model.norm.weight"] = json!("../x"));
        }),
        &["index.json", "file next to it"],
    );
    says(load_with(Path::new("/nowhere/at/all"), &LoadOptions::default()), &["no such folder"]);
}

#[test]
fn files_that_git_lfs_has_not_fetched_say_how_to_fetch_them() {
    let pointer = "version https://git-lfs.github.com/spec/v1\n\
                   oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n\
                   size 12345\n";
    for name in ["model.safetensors", "tokenizer.json", "config.json", "modules.json"] {
        let change = |dir: &Path| fs::write(dir.join(name), pointer).expect("written");
        says(after("tiny-bert", change), &[name, "git lfs pull"]);
    }
    for name in ["sparse_linear.pt", "colbert_linear.safetensors"] {
        let change = |dir: &Path| fs::write(dir.join(name), pointer).expect("written");
        says(after("tiny-bert", change), &[name, "git lfs pull"]);
    }
}

#[test]
fn tensors_of_old_versions_of_pytorch_say_what_to_do() {
    // The first bytes of torch.save files before version 1.6: a pickled integer.
    let old = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    let change = |dir: &Path| fs::write(dir.join("sparse_linear.pt"), old).expect("written");
    says(after("tiny-bert", change), &["sparse_linear.pt", "PyTorch before 1.6", "safetensors"]);
}

#[test]
fn tensors_that_disagree_with_the_configuration_are_named() {
    says(
        after("tiny-bert", config(|json| json["num_hidden_layers"] = json!(4))),
        &["encoder.layer.3.", "is missing"],
    );
    says(
        after("tiny-bert", config(|json| json["intermediate_size"] = json!(128))),
        &["intermediate.dense.weight", "[160, 64]", "[128, 64]"],
    );
    says(after("tiny-qwen3", config(|json| json["head_dim"] = json!(16))), &["q_proj", "shape"]);
    says(after("tiny-bert", config(|json| drop(json["hidden_size"].take()))), &["config.json"]);
}

#[test]
fn what_is_not_served_is_refused_and_never_guessed() {
    type Case = (&'static str, fn(&mut Value), &'static [&'static str]);
    let cases: [Case; 10] = [
        ("tiny-bert", |json| json["model_type"] = json!("gpt9"), &["gpt9", "supported: bert, "]),
        (
            "tiny-bert",
            |json| {
                json["architectures"] = json!(["OurModel"]);
                json["auto_map"] = json!({ "AutoModel": "modeling_our.OurModel" });
            },
            &["OurModel", "BertModel"],
        ),
        ("tiny-bert", |json| json["hidden_act"] = json!("quick_gelu"), &["quick_gelu"]),
        (
            "tiny-bert",
            |json| json["position_embedding_type"] = json!("relative_key"),
            &["relative_key", "absolute"],
        ),
        ("tiny-bert", |json| json["intermediate_size"] = json!(0), &["intermediate_size"]),
        (
            "tiny-qwen3",
            |json| json["rope_scaling"] = json!({ "rope_type": "longrope", "factor": 4.0 }),
            &["rope_type \"longrope\""],
        ),
        ("tiny-qwen3", |json| json["use_sliding_window"] = json!(true), &["sliding"]),
        ("tiny-qwen3", |json| drop(json["rope_theta"].take()), &["rope_theta"]),
        ("tiny-qwen3", |json| json["num_key_value_heads"] = json!(3), &["share 3"]),
        ("tiny-qwen3", |json| json["quantization_config"] = json!({}), &["quantised"]),
    ];
    for (name, change, words) in cases {
        says(after(name, config(change)), words);
    }
    let pooling = |change: fn(&mut Value)| {
        after("tiny-bert", move |dir| edit(&dir.join("1_Pooling/config.json"), change))
    };
    says(pooling(|json| json["pooling_mode"] = json!([])), &["--pooling"]);
    says(
        after("tiny-bert", |dir| {
            let modules = json!([{ "path": "", "type": "sentence_transformers.models.LSTM" }]);
            fs::write(dir.join("modules.json"), modules.to_string()).expect("written");
        }),
        &["modules.json", "LSTM"],
    );
}

#[test]
fn a_checkpoint_without_modules_needs_a_pooling_unless_only_one_makes_sense() {
    let without = |dir: &Path| fs::remove_file(dir.join("modules.json")).expect("removed");
    says(after("tiny-bert", without), &["--pooling"]);
    says(after("tiny-qwen3", without), &["--task", "e2rank"]);
    let bare = after("tiny-qwen3", |dir| {
        without(dir);
        edit(&dir.join("config.json"), |json| json["architectures"] = json!(["Qwen3Model"]));
    });
    let readout = bare.expect("loaded").readouts.embedding.expect("an embedder");
    assert_eq!(readout.pooling(), [Pooling::Last]);
}

#[test]
fn options_override_what_the_checkpoint_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 0, tokenizer: None };
    write("tiny-bert", folder.path(), &options).expect("written");
    let options = LoadOptions {
        precision: Some(Precision::Bfloat16),
        pooling: Some(Pooling::Cls),
        tokens_max: Some(17),
        ..LoadOptions::default()
    };
    let model = load_with(folder.path(), &options).expect("loaded");
    assert_eq!((model.info.precision.as_str(), model.info.tokens_max), ("bfloat16", 17));
    let too_long = LoadOptions { tokens_max: Some(513), ..LoadOptions::default() };
    says(load_with(folder.path(), &too_long), &["513", "512"]);
    let plain = load_with(folder.path(), &LoadOptions::default()).expect("loaded");
    assert_eq!((plain.info.precision.as_str(), plain.info.tokens_max), ("float32", 256));
}

#[test]
fn a_language_model_is_what_its_files_say_before_what_its_name_says() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 0, tokenizer: None };
    write("tiny-e2rank", folder.path(), &options).expect("written");
    let config = folder.path().join("config.json");
    edit(&config, |json| {
        json["architectures"] = json!(["Qwen3ForCausalLM"]);
        json["_name_or_path"] = json!("some-model");
    });
    let plain = LoadOptions::default();
    says(load_with(folder.path(), &plain), &["--task", "rerank"]);
    let listwise = LoadOptions { task: Some(Task::E2Rank), ..LoadOptions::default() };
    assert!(load_with(folder.path(), &listwise).expect("loaded").info.listwise);
    edit(&config, |json| json["_name_or_path"] = json!("some-reranker"));
    // The byte-level tokenizer has no such words.
    says(load_with(folder.path(), &plain), &["tokenizer.json", "\"no\""]);
    edit(&config, |json| json["_name_or_path"] = json!("some-model"));
    let modules = json!([
        { "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer" },
        { "path": "1_Score", "type": "sentence_transformers.cross_encoder.modules.LogitScore" },
    ]);
    fs::write(folder.path().join("modules.json"), modules.to_string()).expect("written");
    fs::create_dir(folder.path().join("1_Score")).expect("made");
    let settings = folder.path().join("config_sentence_transformers.json");
    fs::write(settings, r#"{"model_type": "CrossEncoder"}"#).expect("written");
    fs::write(folder.path().join("chat_template.jinja"), PUBLISHED).expect("written");
    let score = |score: Value| {
        fs::write(folder.path().join("1_Score/config.json"), score.to_string()).expect("written");
        load_with(folder.path(), &plain)
    };
    let model = score(json!({ "true_token_id": 121, "false_token_id": 110 })).expect("loaded");
    assert_eq!(
        (model.info.recipe.as_str(), model.readouts.embedding.is_some()),
        ("qwen3_reranker", false)
    );
    let model = score(json!({ "true_token_id": 121, "false_token_id": null })).expect("loaded");
    assert_eq!(model.readouts.score.expect("a scorer").labels().len(), 1);
    says(score(json!({ "true_token_id": 999_999 })), &["999999"]);
}

#[test]
fn only_the_folders_own_name_is_a_hint() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 0, tokenizer: None };
    let recipe = |path: &str| {
        let dir = folder.path().join(path);
        fs::create_dir_all(&dir).expect("made");
        write("tiny-e2rank", &dir, &options).expect("written");
        edit(&dir.join("config.json"), |json| json["_name_or_path"] = json!(""));
        load_with(&dir, &LoadOptions::default()).expect("loaded").info.recipe
    };
    assert_eq!(recipe("E2Rank-0.6B"), "e2rank");
    assert_eq!(recipe("models--Alibaba-NLP--E2Rank-0.6B/snapshots/0123"), "e2rank");
    assert_eq!(recipe("e2rank/some-embedder"), "text_embedding");
}

#[test]
fn layers_of_modern_bert_are_of_the_kind_their_names_say() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden/scores/modernbert-reranker-cls");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(golden.join(file), folder.path().join(file)).expect("copied");
    }
    let logits = |change: fn(&mut Value)| {
        edit(&folder.path().join("config.json"), change);
        let model =
            load_with(folder.path(), &LoadOptions::default()).map_err(|error| error.to_string())?;
        let input = Input::Pair { query: "a query".into(), document: "word ".repeat(60).into() };
        let sequence = model.recipe.prepare(&input, &Prepare::default()).expect("prepared");
        let hidden = model.encoder.encode(&RaggedBatch::new([&sequence])).expect("encoded");
        let score = model.readouts.score.expect("a scorer");
        Ok::<_, String>(score.logits(&hidden).expect("read out"))
    };
    let every_third = logits(|_| ()).expect("loaded");
    let named = logits(|json| {
        json["global_attn_every_n_layers"] = json!(1);
        let kind = |layer: usize| match layer.is_multiple_of(3) {
            true => "full_attention",
            false => "sliding_attention",
        };
        json["layer_types"] = (0..6).map(kind).collect();
    });
    assert_eq!(named, Ok(every_third.clone()));
    let other = logits(|json| json["layer_types"][5] = json!("full_attention"));
    assert_ne!(other, Ok(every_third));
    let unknown = logits(|json| json["layer_types"][5] = json!("linear_attention"));
    assert!(unknown.is_err_and(|error| error.contains("linear_attention")));
}

#[test]
fn scaled_rotary_positions_of_modern_bert_are_refused_wherever_they_are_named() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden/scores/modernbert-reranker-cls");
    let with = |parameters: Value| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::copy(golden.join(file), folder.path().join(file)).expect("copied");
        }
        edit(&folder.path().join("config.json"), |json| json["rope_parameters"] = parameters);
        load_with(folder.path(), &LoadOptions::default())
    };
    let plain = json!({ "rope_type": "default", "rope_theta": 10_000.0 });
    let scaled = json!({ "rope_type": "yarn", "factor": 4.0, "rope_theta": 10_000.0 });
    with(json!({ "full_attention": plain, "sliding_attention": plain })).expect("loaded");
    says(with(json!({ "full_attention": null })), &["rope_parameters.full_attention is null"]);
    says(with(plain.clone()), &["rope_parameters.rope_t", "one for sliding_attention"]);
    for (global, local) in [(&plain, &scaled), (&scaled, &plain)] {
        let parameters = json!({ "full_attention": global, "sliding_attention": local });
        says(with(parameters), &["config.json", "rope_type", "yarn"]);
    }
    says(with(scaled), &["rope_type", "yarn"]);
    says(
        with(json!({ "full_attention": { "type": "linear" } })),
        &["full_attention.type", "linear"],
    );
}

#[test]
fn modules_that_sentence_transformers_runs_otherwise_are_refused() {
    let named = |names: [&str; 3]| {
        after("tiny-bert", |dir| {
            edit(&dir.join("modules.json"), |json| {
                for (module, name) in json.as_array_mut().expect("a list").iter_mut().zip(names) {
                    module["name"] = json!(name);
                }
            });
        })
    };
    named(["transformer", "pooling", "normalize"]).expect("loaded");
    says(named(["0", "1", "1"]), &["modules.json", "two modules have the name \"1\""]);
    let words = |task: &str, kind: &str| {
        after("tiny-bert", |dir| {
            let length = json!({ "transformer_task": task });
            fs::write(dir.join("sentence_bert_config.json"), length.to_string()).expect("written");
            edit(&dir.join("modules.json"), |json| {
                json[0]["type"] = json!(format!("sentence_transformers.models.{kind}"));
            });
        })
    };
    words("feature-extraction", "Transformer").expect("loaded");
    says(words("text-generation", "Transformer"), &["transformer_task", "feature-extraction"]);
    for (task, kind) in [("fill-mask", "Transformer"), ("feature-extraction", "MLMTransformer")] {
        says(words(task, kind), &["modules.json", "fill-mask", "SpladePooling"]);
    }
}

#[test]
fn a_prompt_that_is_left_out_counts_as_it_is_when_cut_alone() {
    let model = after("tiny-bert", |dir| {
        edit(&dir.join("1_Pooling/config.json"), |json| json["include_prompt"] = json!(false));
        let prompts = json!({ "prompts": { "long": "hello ".repeat(40), "short": "abc" } });
        let path = dir.join("config_sentence_transformers.json");
        fs::write(path, prompts.to_string()).expect("written");
        let length = json!({ "max_seq_length": 16 });
        fs::write(dir.join("sentence_bert_config.json"), length.to_string()).expect("written");
    });
    let model = model.expect("loaded");
    let left_out = |name: &str| {
        let how = Prepare { prompt: Prompt::Named(name.into()), ..Prepare::default() };
        let input = Input::from("some text that is longer than that");
        let sequence = model.recipe.prepare(&input, &how).expect("prepared");
        assert_eq!(sequence.tokens.len(), 16);
        sequence.pooling_skip
    };
    // As sentence-transformers counts: [CLS] and the prompt's tokens, or all 16 except [SEP].
    let prompt = model.recipe.tokenize("abc", true, &Prompt::None).expect("tokenised");
    assert_eq!((left_out("long"), left_out("short")), (15, prompt.len() - 1));
}

#[test]
fn a_length_beyond_rotary_positions_is_refused_unless_a_limit_is_chosen() {
    let beyond = |dir: &Path| {
        edit(&dir.join("config.json"), |json| json["max_position_embeddings"] = json!(64));
        let length = json!({ "max_seq_length": 256 }).to_string();
        fs::write(dir.join("sentence_bert_config.json"), length).expect("written");
    };
    says(after("tiny-qwen3", beyond), &["max_seq_length 256", "64", "--max-length"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    write("tiny-qwen3", folder.path(), &SynthOptions { seed: 0, tokenizer: None })
        .expect("written");
    beyond(folder.path());
    let options = LoadOptions { tokens_max: Some(64), ..LoadOptions::default() };
    assert_eq!(load_with(folder.path(), &options).expect("loaded").info.tokens_max, 64);
}

#[test]
fn a_qwen3_classifier_has_one_label() {
    let labels = |count: usize| {
        after("tiny-qwen3-reranker-classifier", |dir| {
            edit(&dir.join("config.json"), |json| {
                json.as_object_mut().expect("an object").remove("id2label");
                json["num_labels"] = json!(count);
            });
        })
    };
    labels(1).expect("loaded");
    says(labels(3), &["config.json", "one label", "this one has 3 labels"]);
}

/// The template published with Qwen3-Reranker.
const PUBLISHED: &str = concat!(
    "{%- set instruction = messages | selectattr(\"role\", \"eq\", \"system\") | ",
    "map(attribute=\"content\") | first | default(\"Given a web search query, retrieve ",
    "relevant passages that answer the query\") -%}\n{%- set query_text = messages | ",
    "selectattr(\"role\", \"eq\", \"query\") | map(attribute=\"content\") | first -%}\n",
    "{%- set document_text = messages | selectattr(\"role\", \"eq\", \"document\") | ",
    "map(attribute=\"content\") | first -%}\n<|im_start|>system\nJudge whether the Document ",
    "meets the requirements based on the Query and the Instruct provided. Note that the ",
    "answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: ",
    "{{ instruction }}\n<Query>: {{ query_text }}\n<Document>: {{ document_text }}",
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n\n"
);

#[test]
fn a_template_of_pairs_is_the_one_that_is_built_in() {
    let published = PUBLISHED;
    let with = |template: Value, file: bool| {
        after("tiny-qwen3-reranker-classifier", |dir| match template.as_str() {
            Some(text) if file => {
                fs::write(dir.join("chat_template.jinja"), text).expect("written");
            }
            _ => {
                edit(&dir.join("tokenizer_config.json"), |json| json["chat_template"] = template);
            }
        })
    };
    let chat = "{% for m in messages %}{% if m.role == 'user' or m.role == 'assistant' %}\
                {{ m.content }}{% endif %}{% endfor %}";
    for template in [published, chat] {
        with(json!(template), false).expect("loaded");
        with(json!(template), true).expect("loaded");
    }
    let of = |template: &str| json!([{ "name": "default", "template": template }]);
    says(with(of(published), false), &["tokenizer_config.json", "several chat_templates"]);
    for (from, to) in [
        ("Judge whether", "Decide whether"),
        ("system\nJudge", "system\nPlease judge. Judge"),
        ("Given a web search query, retrieve", "Retrieve"),
        ("answer the query\")", "answer the query.\")"),
        ("<think>\n\n</think>", ""),
        ("<Query>", "<Question>"),
        ("\n<Document>", "\n\n<Document>"),
        ("</think>\n\n\n", "</think>\n\n"),
        ("{{ query_text }}", "{{ query_text | trim }}"),
    ] {
        let other = published.replace(from, to);
        assert_ne!(other, published);
        let problem = "its chat_template may differ from the built-in one of Qwen3-Reranker";
        says(with(json!(other), false), &["tokenizer_config.json", problem]);
        says(with(json!(other), true), &["chat_template.jinja", problem]);
    }
    // It names no role, so pairs are put through it, too.
    let of_any = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}";
    says(with(json!(of_any), false), &["tokenizer_config.json", "may differ"]);
    let left = after("tiny-qwen3-reranker-classifier", |dir| {
        edit(&dir.join("tokenizer_config.json"), |json| json["truncation_side"] = json!("left"));
    });
    says(left, &["tokenizer_config.json", "truncation_side is left"]);
}

#[test]
fn a_cross_encoder_that_puts_pairs_into_no_chat_is_refused() {
    let saved_as = |template: Option<&'static str>, modality: &'static str, format: &str| {
        after("tiny-qwen3-reranker-classifier", |dir| {
            let kind = "sentence_transformers.base.modules.transformer.Transformer";
            for (file, content) in [
                ("modules.json", json!([{ "path": "", "type": kind }])),
                ("config_sentence_transformers.json", json!({ "model_type": "CrossEncoder" })),
                (
                    "sentence_bert_config.json",
                    json!({ "modality_config": { modality: {
                        "method": "forward", "method_output_name": "logits", "format": format,
                    } } }),
                ),
            ] {
                fs::write(dir.join(file), content.to_string()).expect("written");
            }
            if let Some(template) = template {
                fs::write(dir.join("chat_template.jinja"), template).expect("written");
            }
        })
    };
    let saved = |template, modality| saved_as(template, modality, "flat");
    saved(Some(PUBLISHED), "message").expect("loaded");
    says(saved_as(Some(PUBLISHED), "message", "structured"), &["\"structured\"", "not supported"]);
    says(saved(None, "message"), &["no chat_template", "not supported"]);
    says(saved(Some(PUBLISHED), "text"), &["no modality \"message\"", "not supported"]);
    // sentence-transformers applies a template for conversations to pairs, too.
    let turns = "{% if m.role == 'user' or m.role == 'assistant' %}{% endif %}";
    says(saved(Some(turns), "message"), &["its chat_template may differ"]);
}
