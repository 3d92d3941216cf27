//! Scores equal those of transformers in float32: the checkpoints and answers of
//! `tests/golden/scores`, made by `tests/reference/make_scores.py`, and the answers made by
//! `tests/reference/make_rerank.py`. They are bit-identical whatever rows are shared.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proxima_models::readout::Pooling;
use proxima_models::{
    Checkpoint, Content, Input, InputError, Item, ListwiseTemplate, LoadOptions, Model, Precision,
    Prefix, Prepare, Prompt, RaggedBatch, Sequence, Task,
};
use serde_json::Value;
use support::{float32_error, golden_model, golden_model_in, serves};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores").join(name)
}

fn answers(name: &str) -> Value {
    let text = std::fs::read_to_string(folder(name).join("answers.json")).expect("a golden file");
    serde_json::from_str(&text).expect("JSON")
}

fn load(name: &str, options: &LoadOptions) -> Model {
    let checkpoint = Checkpoint::open(&folder(name)).expect("opened");
    Model::load(&checkpoint, options).expect("loaded")
}

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list");
    list.iter().map(|number| number.as_f64().expect("a number") as f32).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list");
    list.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// Asserts that float32 results equal the reference's, within this machine's accuracy.
fn assert_equals(got: &[f32], reference: &[f32], which: &str) {
    assert_eq!(got.len(), reference.len(), "{which}");
    let largest = reference.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    let off = got.iter().zip(reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let allowed = float32_error(largest);
    assert!(off <= allowed, "{which} is off by {off}, {allowed} is allowed");
}

fn pair(model: &Model, case: &Value) -> Sequence {
    let text = |name: &str| case[name].as_str().expect("a text").into();
    let input = Input::Pair { query: text("query"), document: text("document") };
    model.recipe.prepare(&input, &Prepare::default()).expect("prepared")
}

fn logits(model: &Model, sequences: &[Sequence]) -> Vec<Vec<f32>> {
    let hidden = model.encoder.encode(&RaggedBatch::new(sequences)).expect("encoded");
    model.readouts.score.as_ref().expect("a scorer").logits(&hidden).expect("read out")
}

fn equals_the_reference(name: &str) {
    let exact = LoadOptions { precision: Some(Precision::Float32), ..LoadOptions::default() };
    let (model, golden) = (load(name, &exact), answers(name));
    let cases = golden["cases"].as_array().expect("cases");
    let sequences: Vec<Sequence> = cases.iter().map(|case| pair(&model, case)).collect();
    for (case, sequence) in cases.iter().zip(&sequences) {
        let which = format!("{name}: {}", case["case"]);
        assert_eq!(sequence.tokens, ids(&case["input_ids"]), "{which}");
        let alone = logits(&model, std::slice::from_ref(sequence));
        assert_equals(&alone[0], &numbers(&case["logits"]), &which);
    }
    let together = logits(&model, &sequences);
    for (sequence, logit) in sequences.iter().zip(&together) {
        assert_eq!(&logits(&model, std::slice::from_ref(sequence))[0], logit, "{name}");
    }
}

#[test]
fn xlm_roberta_reranker() {
    equals_the_reference("xlmr-reranker");
}

#[test]
fn bert_with_three_labels() {
    equals_the_reference("bert-classifier");
}

#[test]
fn a_head_without_architectures_is_served_if_asked_for() {
    let golden = answers("bert-classifier");
    let copy = tempfile::tempdir().expect("a temporary folder");
    for file in ["model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        let from = folder("bert-classifier").join(file);
        std::fs::copy(from, copy.path().join(file)).expect("copied");
    }
    let config = std::fs::read_to_string(folder("bert-classifier").join("config.json"));
    let mut config: Value = serde_json::from_str(&config.expect("a file")).expect("JSON");
    config.as_object_mut().expect("an object").remove("architectures");
    let with = |config: &Value, task: Task| {
        std::fs::write(copy.path().join("config.json"), config.to_string()).expect("written");
        let checkpoint = Checkpoint::open(copy.path()).expect("opened");
        let precision = Some(Precision::Float32);
        let options = LoadOptions { task: Some(task), precision, ..LoadOptions::default() };
        Model::load(&checkpoint, &options).map_err(|problem| problem.to_string())
    };
    for task in [Task::Classify, Task::Rerank] {
        let model = with(&config, task).expect("loaded");
        let case = &golden["cases"][0];
        let got = logits(&model, &[pair(&model, case)]);
        assert_equals(&got[0], &numbers(&case["logits"]), "bert-classifier");
    }
    config["architectures"] = Value::from(vec!["BertModel"]);
    let message =
        with(&config, Task::Rerank).map(|model| format!("{model:?}")).expect_err("refused");
    assert!(message.contains("BertModel has no classification head"), "{message}");
}

#[test]
fn modern_bert_rerankers_with_both_poolings() {
    equals_the_reference("modernbert-reranker-mean");
    equals_the_reference("modernbert-reranker-cls");
}

#[test]
fn modern_bert_embedder() {
    let golden = answers("modernbert-embedder");
    for (pooling, name) in [(Pooling::Cls, "cls"), (Pooling::Mean, "mean")] {
        let options = LoadOptions { pooling: Some(pooling), ..LoadOptions::default() };
        let model = load("modernbert-embedder", &options);
        for case in golden["cases"].as_array().expect("cases") {
            let text = Input::from(case["text"].as_str().expect("a text"));
            let sequence = model.recipe.prepare(&text, &Prepare::default()).expect("prepared");
            assert_eq!(sequence.tokens, ids(&case["input_ids"]));
            let hidden = model.encoder.encode(&RaggedBatch::new([&sequence])).expect("encoded");
            let readout = model.readouts.embedding.as_ref().expect("an embedder");
            let vector = readout.embed(&hidden).expect("read out");
            assert_equals(&vector[0], &numbers(&case[name]), &format!("{name}: {}", case["case"]));
        }
    }
}

/// The sequence of a case of `make_rerank.py`, checked against the reference's tokens.
fn reranker_sequence(model: &Model, case: &Value) -> Sequence {
    let text = |name: &str| case[name].as_str().expect("a text").into();
    let instruction = case["instruction"].as_str().map(str::to_owned);
    let how = Prepare {
        prompt: instruction.map_or(Prompt::Default, Prompt::Instruction),
        tokens_max: case["tokens_max"].as_u64().map(|limit| limit as usize),
        ..Prepare::default()
    };
    let input = Input::Pair { query: text("query"), document: text("document") };
    let sequence = model.recipe.prepare(&input, &how).expect("prepared");
    assert_eq!(sequence.tokens, ids(&case["tokens"]), "{case}");
    sequence
}

#[test]
fn qwen3_rerankers_are_recognised_and_equal_the_reference() {
    for name in ["tiny-qwen3-reranker", "tiny-qwen3-reranker-classifier"] {
        let (model, cases) = golden_model(name);
        assert_eq!(model.info.recipe, "qwen3_reranker");
        for case in &cases {
            let sequence = reranker_sequence(&model, case);
            let logit = logits(&model, &[sequence])[0][0];
            let wanted = case["logit"].as_f64().expect("a number") as f32;
            assert_equals(&[logit], &[wanted], name);
        }
    }
}

#[test]
fn scores_have_the_same_bits_however_rows_are_shared() {
    let precisions = [Precision::Float32, Precision::Bfloat16, Precision::Float16, Precision::Int8];
    for precision in precisions.into_iter().filter(|precision| serves(*precision)) {
        have_the_same_bits_however_rows_are_shared(precision);
    }
}

fn have_the_same_bits_however_rows_are_shared(precision: Precision) {
    let (model, cases) = golden_model_in("tiny-qwen3-reranker", precision);
    assert!(model.shares_prefixes());
    let sequences: Vec<Sequence> =
        cases.iter().map(|case| reranker_sequence(&model, case)).collect();
    let alone: Vec<Vec<f32>> = sequences
        .iter()
        .map(|sequence| logits(&model, std::slice::from_ref(sequence)).remove(0))
        .collect();
    let read = |batch: &RaggedBatch| {
        let hidden = model.encoder.encode(batch).expect("encoded");
        let score = model.readouts.score.as_ref().expect("a scorer");
        (score.logits(&hidden).expect("read out"), hidden.prefixes)
    };
    let all: Vec<&Sequence> = sequences.iter().collect();
    let together = RaggedBatch::sharing(&all, &[], |_| None);
    let asked: usize = sequences.iter().map(|sequence| sequence.tokens.len()).sum();
    assert!(together.tokens().len() * 3 < asked * 2, "{} rows", together.tokens().len());
    assert_eq!(read(&together).0, alone);
    // One after another, each continuing what earlier ones have cached.
    let (mut cached, mut recent): (Vec<Arc<Prefix>>, Vec<Arc<[u32]>>) = (Vec::new(), Vec::new());
    let mut rows = 0;
    for (sequence, wanted) in sequences.iter().zip(&alone) {
        let find = |tokens: &[u32]| {
            let fits = |prefix: &&Arc<Prefix>| tokens.starts_with(prefix.tokens());
            cached.iter().filter(fits).max_by_key(|prefix| prefix.tokens().len()).cloned()
        };
        let batch = RaggedBatch::sharing(&[sequence], &recent, find);
        rows += batch.tokens().len();
        let (logits, more) = read(&batch);
        assert_eq!(&logits[0], wanted);
        cached.extend(more);
        recent.push(sequence.tokens.clone().into());
    }
    assert!(rows * 4 < asked * 3, "{rows} rows for {asked}");
}

#[test]
fn e2rank_lists_equal_the_reference() {
    let (model, cases) = golden_model("tiny-e2rank");
    assert!(model.info.listwise);
    let vector = |input: &Input| {
        let sequence = model.recipe.prepare(input, &Prepare::default()).expect("prepared");
        let hidden = model.encoder.encode(&RaggedBatch::new([&sequence])).expect("encoded");
        let readout = model.readouts.embedding.as_ref().expect("an embedder");
        let vectors = readout.embed(&hidden).expect("read out");
        (proxima_models::readout::finish(&vectors[0], None, true), sequence.tokens)
    };
    for case in &cases {
        let texts = case["documents"].as_array().expect("a list").iter();
        let documents: Vec<Arc<str>> =
            texts.map(|text| text.as_str().expect("a text").into()).collect();
        let template = match case["template"].as_str() {
            Some("paper") => ListwiseTemplate::Paper,
            Some("readme") => ListwiseTemplate::Readme,
            _ => ListwiseTemplate::Training,
        };
        let query = case["query"].as_str().expect("a text").into();
        let candidates = documents.iter().take(20).cloned().collect();
        let (pseudo, tokens) = vector(&Input::Listwise { query, candidates, template });
        assert_eq!(tokens, ids(&case["tokens"]));
        for (document, wanted) in documents.iter().zip(numbers(&case["cosines"])) {
            let (vector, _) = vector(&Input::from(document.clone()));
            let cosine: f32 = pseudo.iter().zip(&vector).map(|(a, b)| a * b).sum();
            assert!((cosine - wanted).abs() < 1e-5, "{cosine} is not {wanted}");
        }
    }
}

/// Checks word weights, and token vectors if the model has them.
fn check_sparse(name: &str, options: &LoadOptions) {
    check_sparse_of(name, &load(name, options));
}

/// The same for a model, with the answers of this name.
fn check_sparse_of(name: &str, model: &Model) {
    let golden = answers(name);
    for case in golden["cases"].as_array().expect("cases") {
        let text = Input::from(case["text"].as_str().expect("a text"));
        let sequence = model.recipe.prepare(&text, &Prepare::default()).expect("prepared");
        assert_eq!(sequence.tokens, ids(&case["input_ids"]));
        let hidden = model.encoder.encode(&RaggedBatch::new([&sequence])).expect("encoded");
        let sparse = model.readouts.sparse.as_ref().expect("weights of words");
        let weights = sparse.weights(&hidden, &[&sequence]).expect("read out").remove(0);
        let mut expected: Vec<(u32, f32)> = Vec::new();
        for pair in case["weights"].as_array().expect("a list") {
            let pair = numbers(pair);
            expected.push((pair[0] as u32, pair[1]));
        }
        // Due to rounding, a weight near zero may be on one side only.
        for (id, weight) in expected.iter().chain(&weights) {
            let of = |list: &[(u32, f32)]| {
                list.iter().find(|word| word.0 == *id).map_or(0.0, |word| word.1)
            };
            let which = format!("{name}: word {id} of weight {weight}");
            assert_equals(&[of(&weights)], &[of(&expected)], &which);
        }
        if let Some(multi) = &model.readouts.multi {
            let vectors = multi.vectors(&hidden).expect("read out").remove(0);
            assert_eq!(vectors.len() as u64, case["count"].as_u64().expect("a count"));
            for (vector, wanted) in vectors.iter().zip(case["vectors"].as_array().expect("a list"))
            {
                assert_equals(vector, &numbers(wanted), name);
            }
        }
    }
}

#[test]
fn splade_and_bge_m3_weights_equal_the_reference() {
    check_sparse("splade-bert", &LoadOptions::default());
    let options = LoadOptions { pooling: Some(Pooling::Cls), ..LoadOptions::default() };
    assert!(load("bge-m3", &options).readouts.multi.is_some());
    check_sparse("bge-m3", &options);
}

#[test]
fn the_weights_of_a_trained_splade_equal_the_reference() {
    let checkpoint = Checkpoint::open(&support::asset("splade-bert-tiny")).expect("opened");
    // Its files do not say what its language head is for.
    let options = LoadOptions { task: Some(Task::Sparse), ..LoadOptions::default() };
    let model = Model::load(&checkpoint, &options).expect("loaded");
    check_sparse_of("trained-splade", &model);
}

#[test]
fn lists_too_long_for_the_model_lose_the_ends_of_long_documents() {
    let (model, _) = golden_model("tiny-e2rank");
    let prepare = |documents: &[&str], limit: usize, truncate: bool| {
        let candidates = documents.iter().map(|text| Arc::from(*text)).collect();
        let input = Input::Listwise {
            query: "which one".into(),
            candidates,
            template: ListwiseTemplate::Paper,
        };
        let how = Prepare { tokens_max: Some(limit), truncate, ..Prepare::default() };
        model.recipe.prepare(&input, &how).map(|sequence| sequence.tokens)
    };
    let long = "many words follow each other ".repeat(200);
    let documents = ["short", &long, "also short", &long];
    let cut = prepare(&documents, 200, true).expect("cut");
    assert!((150..=200).contains(&cut.len()), "{} tokens", cut.len());
    let text = model.recipe.tokenizer().decode(&cut, false).expect("decoded");
    for kept in ["[1] short\n", "[3] also short\n", "Search Query: which one<|im_end|>"] {
        assert!(text.contains(kept), "{kept:?} is not in {text:?}");
    }
    assert!(prepare(&documents, 200, false).is_err());
    assert!(prepare(&documents, 30, true).is_err());
}

#[test]
fn an_instruction_goes_with_the_query() {
    let item = |text: &str| Item {
        instruction: Some("find it".into()),
        ..Item::new(vec![text.into()], Vec::new(), Vec::new())
    };
    for model in [golden_model("tiny-qwen3-reranker").0, golden_model("tiny-qwen3-vl-reranker").0] {
        let prepare = |query: Content, document: Content, prompt| {
            let how = Prepare { prompt, ..Prepare::default() };
            model.recipe.prepare(&Input::Pair { query, document }, &how)
        };
        let asked = Prompt::Instruction("find it".into());
        let wanted = prepare("a".into(), "b".into(), asked).expect("prepared");
        let other = Prompt::Instruction("another".into());
        let own = prepare(item("a").into(), "b".into(), other).expect("prepared");
        assert_eq!(own.tokens, wanted.tokens);
        let refused = prepare("a".into(), item("b").into(), Prompt::Default);
        assert_eq!(refused.expect_err("refused"), InputError::DocumentInstruction);
    }
}

#[test]
fn a_padding_token_that_a_text_names_has_its_own_position() {
    let model = load("xlmr-reranker", &LoadOptions::default());
    let (query, document) = ("What is gravity?".into(), "a <pad> force <pad>".into());
    let input = Input::Pair { query, document };
    let sequence = model.recipe.prepare(&input, &Prepare::default()).expect("prepared");
    assert_eq!(sequence.tokens, [0, 163, 25, 26, 8, 2, 2, 85, 1, 46, 1, 2]);
    // Computed by transformers, with all tokens attended to.
    let logit = logits(&model, &[sequence])[0][0];
    assert_equals(&[logit], &[0.479_332_06], "a padding token");
}
