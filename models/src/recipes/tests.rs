//! What holds for all recipes.

use std::sync::Arc;

use crate::checkpoint::Checkpoint;
use crate::input::{Input, InputError, ListwiseTemplate, Prepare, Prompt};
use crate::{LoadOptions, Model};
use proxima_synth::{SynthOptions, write};

/// A synthetic model.
pub fn model(name: &str) -> Model {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 0, tokenizer: None };
    write(name, folder.path(), &options).expect("written");
    let checkpoint = Checkpoint::open(folder.path()).expect("opened");
    Model::load(&checkpoint, &LoadOptions::default()).expect("loaded")
}

fn inputs() -> Vec<Input> {
    let texts = |words: usize| "word ".repeat(words);
    let pair = |query: usize, document: usize| Input::Pair {
        query: texts(query).as_str().into(),
        document: texts(document).as_str().into(),
    };
    vec![
        Input::from(texts(30)),
        Input::from("word"),
        Input::Tokens(vec![5; 40]),
        pair(1, 30),
        pair(30, 1),
        pair(1, 1),
        Input::Listwise {
            query: "word".into(),
            candidates: [1, 60, 2].map(|words| Arc::from(texts(words))).to_vec(),
            template: ListwiseTemplate::Paper,
        },
    ]
}

#[test]
fn an_input_is_reported_as_cut_where_it_would_be_refused_uncut() {
    let names = [
        "tiny-bert",
        "tiny-qwen3",
        "tiny-qwen3-reranker",
        "tiny-e2rank",
        "tiny-qwen3-vl",
        "tiny-qwen3-vl-reranker",
    ];
    for name in names {
        let (model, mut cut, mut whole) = (model(name), 0, 0);
        for input in inputs() {
            for limit in [20, 60, 100, 150, 250, 400] {
                let how =
                    |truncate| Prepare { tokens_max: Some(limit), truncate, ..Prepare::default() };
                let Ok(sequence) = model.recipe.prepare(&input, &how(true)) else { continue };
                let uncut = model.recipe.prepare(&input, &how(false));
                let is_refused = matches!(uncut, Err(InputError::TooLong { .. }));
                assert_eq!(sequence.is_cut, is_refused, "{name}: {input:?} in {limit} tokens");
                *if sequence.is_cut { &mut cut } else { &mut whole } += 1;
            }
        }
        assert!(cut > 0 && whole > 0, "{name}: {cut} cut and {whole} whole");
    }
}

#[test]
fn published_embedders_without_prompts_have_those_of_their_cards() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SynthOptions { seed: 0, tokenizer: None };
    let prompts = |name: &str| {
        let dir = folder.path().join(name);
        write("tiny-bert", &dir, &options).expect("written");
        let saved = r#"{"prompts": {"query": "", "document": ""}, "default_prompt_name": "query"}"#;
        std::fs::write(dir.join("config_sentence_transformers.json"), saved).expect("written");
        let checkpoint = Checkpoint::open(&dir).expect("opened");
        Model::load(&checkpoint, &LoadOptions::default()).expect("loaded").recipe
    };
    let plain = prompts("own-model");
    assert!(plain.prompts().values().all(String::is_empty), "{:?}", plain.prompts());
    let tuned = prompts("bge-base-en-v1.5-tuned");
    assert!(tuned.prompts().values().all(String::is_empty), "{:?}", tuned.prompts());
    for (name, query, document) in [
        ("multilingual-e5-small", "query: ", "passage: "),
        ("nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("bge-base-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("snowflake-arctic-embed-m-v2.0", "query: ", ""),
    ] {
        let recipe = prompts(name);
        let with = |prompt: Prompt| recipe.with_prompt("a", false, &prompt).expect("a prompt");
        for (asked, wanted) in [
            ("query", query),
            ("search_query", query),
            ("retrieval.query", query),
            ("document", document),
            ("passage", document),
        ] {
            assert_eq!(with(Prompt::for_purpose(asked)), format!("{wanted}a"), "{name}: {asked}");
        }
        assert_eq!(with(Prompt::Default), "a", "{name}");
        assert_eq!(with(Prompt::for_purpose("no such purpose")), "a", "{name}");
    }
}
