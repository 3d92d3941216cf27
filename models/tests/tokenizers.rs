//! Token ids of texts where files beside `tokenizer.json` add to it or override it: they equal
//! those of transformers in `tests/golden/tokenizers.json` (`make_tokenizers.py`).

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use proxima_models::{
    Checkpoint, Input, InputError, LoadOptions, Model, Precision, Prepare, Prompt, RaggedBatch,
};
use serde_json::{Value, json};
use support::float32_error;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON")
}

/// Sets a value in a file or its whole content; a text is written as it is, which keeps the order
/// of keys.
fn apply(dir: &Path, edit: &Value) {
    let path = dir.join(edit["file"].as_str().expect("a name"));
    if let Some(text) = edit["text"].as_str() {
        return fs::write(path, text).expect("written");
    }
    let keys = edit["keys"].as_array().expect("keys");
    let mut content = if keys.is_empty() { Value::Null } else { read(&path) };
    let entry =
        keys.iter().fold(&mut content, |value, key| &mut value[key.as_str().expect("a key")]);
    *entry = edit["value"].clone();
    fs::write(path, content.to_string()).expect("written");
}

/// Loads a committed checkpoint with another's tokenizer and edited files.
fn load(base: &str, tokenizer: &str, edits: &[Value], strict: bool) -> Result<Model, String> {
    let scores = golden().join("scores");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["config.json", "model.safetensors", "tokenizer_config.json", "tokenizer.json"] {
        let from = if file == "tokenizer.json" { tokenizer } else { base };
        fs::copy(scores.join(from).join(file), folder.path().join(file)).expect("copied");
    }
    edits.iter().for_each(|edit| apply(folder.path(), edit));
    let checkpoint = Checkpoint::open(folder.path()).map_err(|error| error.to_string())?;
    let pooling = base.ends_with("embedder").then_some(proxima_models::readout::Pooling::Mean);
    let options = LoadOptions {
        strict_checkpoint: strict,
        pooling,
        precision: Some(Precision::Float32),
        ..LoadOptions::default()
    };
    Model::load(&checkpoint, &options).map_err(|error| error.to_string())
}

fn ids(model: &Model, text: &str) -> Vec<u32> {
    let tokens = model.recipe.tokenize(text, true, &Prompt::Default).expect("tokenised");
    tokens.iter().map(|token| token.id).collect()
}

#[test]
fn texts_have_the_ids_that_transformers_gives_them() {
    let golden = read(&golden().join("tokenizers.json"));
    let texts = golden["texts"].as_array().expect("texts");
    for case in golden["cases"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        let of = |key: &str| case[key].as_str().expect("a text");
        let edits = case["edits"].as_array().expect("edits");
        let loaded = load(of("base"), of("tokenizer"), edits, true);
        let Some(expected) = case["ids"].as_array() else {
            let message = loaded.map(|model| format!("{model:?}")).expect_err(name);
            assert!(message.contains("tokenizer_config.json"), "{name}: {message}");
            continue;
        };
        let model = loaded.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        for (text, expected) in texts.iter().zip(expected) {
            let text = text.as_str().expect("a text");
            assert_eq!(json!(ids(&model, text)), *expected, "{name}: {text:?}");
        }
    }
}

#[test]
fn pairs_have_the_token_types_and_logits_that_transformers_gives_them() {
    let golden = read(&golden().join("tokenizers.json"));
    let [query, document] = [0, 1].map(|at| golden["pair"][at].as_str().expect("a text").into());
    let input = Input::Pair { query, document };
    for case in golden["pairs"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        let of = |key: &str| case[key].as_str().expect("a text");
        let edits = case["edits"].as_array().expect("edits");
        let model = load(of("base"), of("tokenizer"), edits, true);
        let model = model.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let pair = model.recipe.prepare(&input, &Prepare::default()).expect("prepared");
        assert_eq!(json!(pair.tokens), case["ids"], "{name}");
        let second =
            case["types"].as_array().and_then(|types| types.iter().position(|kind| *kind == 1));
        assert_eq!(pair.second_text, second, "{name}");
        let hidden = model.encoder.encode(&RaggedBatch::new([&pair])).expect("encoded");
        let got = model.readouts.score.as_ref().expect("a scorer").logits(&hidden);
        for (got, logit) in got.expect("read out")[0].iter().zip(case["logits"].as_array().unwrap())
        {
            let logit = logit.as_f64().expect("a number") as f32;
            let off = (got - logit).abs();
            assert!(off <= float32_error(logit.abs()), "{name}: {got}, not {logit}");
        }
    }
}

#[test]
fn a_template_with_other_token_types_is_refused_where_they_count() {
    let piece = |piece: &str| match piece.split_once(':').expect("a type") {
        ("A" | "B", kind) => {
            json!({ "Sequence": { "id": &piece[..1], "type_id": kind.parse::<u32>().unwrap() } })
        }
        (token, kind) => {
            json!({ "SpecialToken": { "id": token, "type_id": kind.parse::<u32>().unwrap() } })
        }
    };
    let pieces = |text: &str| text.split(' ').map(piece).collect::<Vec<_>>();
    let token = |text: &str, id: u32| json!({ "id": text, "ids": [id], "tokens": [text] });
    let load = |types: bool, single: &str, pair: &str| {
        let template = json!({
            "type": "TemplateProcessing", "single": pieces(single), "pair": pieces(pair),
            "special_tokens": { "[CLS]": token("[CLS]", 2), "[SEP]": token("[SEP]", 3) },
        });
        let names =
            if types { json!(["input_ids", "token_type_ids"]) } else { json!(["input_ids"]) };
        let edits = [
            json!({ "file": "tokenizer.json", "keys": ["post_processor"], "value": template }),
            json!({
                "file": "tokenizer_config.json", "keys": ["model_input_names"], "value": names,
            }),
        ];
        load("bert-classifier", "bert-classifier", &edits, true)
    };
    let (single, pair) = ("[CLS]:0 A:0 [SEP]:0", "[CLS]:0 A:0 [SEP]:0 B:1 [SEP]:1");
    load(true, single, pair).expect("loaded");
    for (single, pair, words) in [
        ("[CLS]:1 A:1 [SEP]:1", pair, ["a text", "[1, 1, 1]"]),
        (single, "[CLS]:1 A:0 [SEP]:0 B:1 [SEP]:1", ["two texts", "[1, 0, 0, 1, 1]"]),
        (single, "[CLS]:0 A:0 [SEP]:0 B:1 [SEP]:0", ["two texts", "[0, 0, 0, 1, 0]"]),
        (single, "[CLS]:0 A:0 [SEP]:0 B:2 [SEP]:2", ["two texts", "[0, 0, 0, 2, 2]"]),
    ] {
        let message =
            load(true, single, pair).map(|model| format!("{model:?}")).expect_err("refused");
        for word in words.into_iter().chain(["tokenizer.json", "token types"]) {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        load(false, single, pair).expect("loaded, for they do not count");
    }
}

/// The error of a checkpoint with these keys in its `tokenizer_config.json`.
fn refused(base: &str, tokenizer: &str, keys: &Value) -> String {
    let set = |(key, value): (&String, &Value)| json!({ "file": "tokenizer_config.json", "keys": [key], "value": value });
    let edits: Vec<Value> = keys.as_object().expect("keys").iter().map(set).collect();
    let loaded = load(base, tokenizer, &edits, false);
    loaded.map(|model| format!("{model:?}")).expect_err("refused")
}

#[test]
fn what_a_class_cannot_be_made_of_is_refused_by_name_with_what_to_do() {
    let (bert, xlmr, bytes) = ("bert-classifier", "xlmr-reranker", "modernbert-reranker-cls");
    let advice = "set tokenizer_class to PreTrainedTokenizerFast";
    for (base, tokenizer, keys, words) in [
        (bert, bert, json!({ "tokenizer_class": "RobertaTokenizerFast" }), ["WordPiece", advice]),
        (bert, bert, json!({ "tokenizer_class": "XLMRobertaTokenizer" }), ["WordPiece", advice]),
        (bert, bytes, json!({ "tokenizer_class": "BertTokenizer" }), ["BPE", advice]),
        (bert, xlmr, json!({ "tokenizer_class": "Qwen2Tokenizer" }), ["Unigram", advice]),
        (bert, bytes, json!({ "tokenizer_class": null }), ["no tokenizer_class", advice]),
        (bert, bert, json!({ "tokenizer_class": "SplinterTokenizerFast" }), ["Splinter", advice]),
        (bert, bert, json!({ "tokenizer_class": "GemmaTokenizer" }), ["WordPiece", advice]),
        (xlmr, xlmr, json!({ "tokenizer_class": "LlamaTokenizer" }), ["LlamaTokenizer", advice]),
        (bert, bert, json!({ "tokenizer_class": 3 }), ["tokenizer_class is 3", "name"]),
        (bert, bert, json!({ "cls_token": 3 }), ["cls_token is 3", "AddedToken"]),
        (bert, bert, json!({ "truncation_side": null }), ["truncation_side is null", "right"]),
        (bert, bert, json!({ "model_input_names": null }), ["model_input_names is null", "list"]),
        (bert, bert, json!({ "model_input_names": "all" }), ["model_input_names is", "list"]),
        (bert, bert, json!({ "truncation_side": 1 }), ["truncation_side is 1", "left"]),
    ] {
        let message = refused(base, tokenizer, &keys);
        for word in [words[0], words[1], "tokenizer_config.json"] {
            assert!(message.contains(word), "{keys}: {word:?} is not in: {message}");
        }
    }
    let null = json!({ "tokenizer_class": "BertTokenizer", "cls_token": null });
    assert!(refused(bert, bert, &null).contains("cls_token is null"));
}

#[test]
fn the_longest_text_is_a_whole_number_of_tokens() {
    let limit = |value: Value| {
        let key = json!(["model_max_length"]);
        let edit = json!({ "file": "tokenizer_config.json", "keys": key, "value": value });
        let model = load("bert-classifier", "bert-classifier", &[edit], false)?;
        Ok::<_, String>(model.info.tokens_max)
    };
    let positions = limit(json!(null)).expect("loaded");
    assert_eq!(limit(json!(16)), Ok(16));
    for none in [json!(1e30), json!(1_000_000_000_000_000_000_000_000_000_000.0)] {
        assert_eq!(limit(none), Ok(positions));
    }
    for odd in [json!(16.0), json!(16.5), json!(-5), json!("16"), json!(0), json!(true)] {
        let message = limit(odd.clone()).expect_err("refused");
        assert!(message.contains(&format!("model_max_length is {odd}")), "{message}");
    }
}

/// A text of about `bytes` bytes that joins words in every way that tokenizers distinguish.
fn long_text(bytes: usize, mut state: u64) -> String {
    const WORDS: [&str; 20] = [
        "hello",
        "Hello",
        "wörld",
        "don't",
        "x1",
        "2026",
        "[MASK]",
        "<mask>",
        "</s>",
        "a.b",
        "漢字",
        "e\u{301}",
        "\u{301}",
        "\n",
        "\r\n\t",
        "",
        "ﬁ",
        "▁",
        "<|endoftext|>",
        "!!",
    ];
    let mut text = String::new();
    while text.len() < bytes {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(WORDS[(state >> 33) as usize % WORDS.len()]);
        text.push_str(if (state >> 60) == 0 { "" } else { " " });
    }
    text
}

#[test]
fn a_text_that_is_cut_keeps_the_first_of_all_its_tokens() {
    let golden = read(&golden().join("tokenizers.json"));
    let mut compared = 0;
    for (seed, case) in golden["cases"].as_array().expect("cases").iter().enumerate() {
        let of = |key: &str| case[key].as_str().expect("a text");
        let edits = case["edits"].as_array().expect("edits");
        let Ok(model) = load(of("base"), of("tokenizer"), edits, true) else { continue };
        let around = model.recipe.tokenize("a", true, &Prompt::Default).expect("tokenised");
        let before = around.iter().take_while(|token| token.special).count();
        let after = around[before..].iter().rev().take_while(|token| token.special).count();
        for (limit, bytes) in [(16, 9_000), (31, 100), (200, 12_000)] {
            let limit = limit.min(model.info.tokens_max);
            let text = long_text(bytes, seed as u64);
            let all = ids(&model, &text);
            let how = Prepare { tokens_max: Some(limit), ..Prepare::default() };
            let cut = match model.recipe.prepare(&Input::from(text), &how) {
                // Some have tokens outside the network's vocabulary.
                Err(InputError::UnknownToken { .. }) => continue,
                cut => cut.expect("prepared").tokens,
            };
            compared += 1;
            let kept = limit.min(all.len()) - after;
            assert!(kept > before, "{}: {limit} of {}", of("name"), all.len());
            assert_eq!(cut[..kept], all[..kept], "{}: {limit} of {}", of("name"), all.len());
            assert_eq!(cut[kept..], all[all.len() - after..], "{}", of("name"));
        }
    }
    assert!(compared > 100, "{compared} texts");
}

#[test]
fn of_two_texts_the_longer_is_cut_first() {
    let model = load("bert-classifier", "bert-classifier", &[], true).expect("loaded");
    let plain = |text: &str| {
        let ids = ids(&model, text);
        ids[1..ids.len() - 1].to_vec()
    };
    let (short, long, longer) = (long_text(40, 1), long_text(20_000, 2), long_text(40_000, 3));
    // Three of the 41 tokens are special, which leaves 38 for both texts.
    for limit in [41, 42] {
        for (first, second) in
            [(&short, &long), (&long, &short), (&long, &longer), (&longer, &long)]
        {
            let (query, document) = (plain(first), plain(second));
            let room = limit - 3;
            // transformers' "longest_first": the shorter text stays whole, or each gets half and
            // the longer one the odd token (tokenizers, `truncate_encodings`).
            let shorter = query.len().min(document.len()).min(room / 2);
            let rest = room - shorter;
            let (one, two) =
                if query.len() > document.len() { (rest, shorter) } else { (shorter, rest) };
            let how = Prepare { tokens_max: Some(limit), ..Prepare::default() };
            let input =
                Input::Pair { query: first.as_str().into(), document: second.as_str().into() };
            let got = model.recipe.prepare(&input, &how).expect("prepared");
            assert!(got.is_cut);
            let got = got.tokens;
            assert_eq!(got.len(), limit);
            assert_eq!(got[1..=one], query[..one]);
            assert_eq!(got[one + 2..one + 2 + two], document[..two]);
        }
    }
}
