//! A ranker of lists gives the scores of the reference: `tests/golden/tiny-jina-reranker.json`,
//! made by `tests/reference/make_lists.py`.

mod support;

use std::sync::Arc;

use proxima_models::readout::combine_lists;
use proxima_models::recipes::ListTokens;
use proxima_models::{
    Input, InputError, ListwiseTemplate, LoadOptions, Model, Precision, Prepare, Prompt,
    RaggedBatch, Sequence, TruncationSide,
};
use serde_json::Value;
use support::{float32_error, golden_model, golden_model_in, golden_model_with, serves};

fn texts(list: &Value) -> Vec<Arc<str>> {
    let list = list.as_array().expect("a list").iter();
    list.map(|text| text.as_str().expect("a text").into()).collect()
}

fn whole_numbers(list: &Value) -> Vec<usize> {
    let list = list.as_array().expect("a list").iter();
    list.map(|number| number.as_u64().expect("a number") as usize).collect()
}

fn list(query: &str, candidates: &[Arc<str>]) -> Input {
    let template = ListwiseTemplate::default();
    Input::Listwise { query: query.into(), candidates: candidates.to_vec(), template }
}

/// How the inputs of a case are prepared.
fn how(case: &Value) -> Prepare {
    let instruction = case["instruction"].as_str().map(|text| Prompt::Instruction(text.to_owned()));
    let tokens_max = case["limit"].as_u64().map(|limit| limit as usize);
    Prepare { prompt: instruction.unwrap_or_default(), tokens_max, ..Prepare::default() }
}

/// The lists of a case, split and prepared.
fn sequences(model: &Model, case: &Value) -> Vec<Sequence> {
    let (how, documents) = (how(case), texts(&case["documents"]));
    let query = case["query"].as_str().expect("a text");
    let lists = model.recipe.lists().expect("lists");
    let lengths = documents.iter().map(|text| lists.document_tokens(text, &how).expect("counted"));
    let lengths: Vec<usize> = lengths.collect();
    let tokens = ListTokens {
        query: lists.query_tokens(query, &how).expect("counted"),
        template: lists.template_tokens(query, &how).expect("counted"),
        documents: &lengths,
    };
    let sizes = lists.split(&tokens, &how);
    assert_eq!(sizes, whole_numbers(&case["lists"]));
    let mut rest = &documents[..];
    let sequences = sizes.into_iter().zip(case["ids"].as_array().expect("lists of ids"));
    let sequences = sequences.map(|(size, ids)| {
        let (candidates, after) = rest.split_at(size);
        rest = after;
        let sequence = model.recipe.prepare(&list(query, candidates), &how).expect("prepared");
        let found: Vec<usize> = sequence.tokens.iter().map(|id| *id as usize).collect();
        assert_eq!(found, whole_numbers(ids));
        sequence
    });
    sequences.collect()
}

/// The vectors of each list.
fn vectors(model: &Model, sequences: &[Sequence]) -> Vec<Vec<Vec<f32>>> {
    let hidden = model.encoder.encode(&RaggedBatch::new(sequences)).expect("encoded");
    model.readouts.list.as_ref().expect("a projector").vectors(&hidden).expect("read out")
}

#[test]
fn scores_equal_the_reference_and_lists_have_the_same_bits_in_a_batch() {
    let precisions = [
        (Precision::Float32, float32_error(1.0)),
        (Precision::Bfloat16, 0.1),
        (Precision::Float16, 0.01),
        (Precision::Int8, 0.2),
    ];
    for (precision, allowed) in precisions.into_iter().filter(|(precision, _)| serves(*precision)) {
        let (model, cases) = golden_model_in("tiny-jina-reranker", precision);
        assert_eq!(model.info.recipe, "jina_reranker");
        assert!(model.info.listwise && model.info.capabilities.lists);
        assert!(!model.shares_prefixes());
        for case in &cases {
            let sequences = sequences(&model, case);
            let alone = sequences.iter().flat_map(|one| vectors(&model, std::slice::from_ref(one)));
            let alone: Vec<_> = alone.collect();
            // Beside sequences of which every token is read.
            let other = model.recipe.prepare(&Input::Tokens(vec![5; 70]), &Prepare::default());
            let mut batch = vec![other.expect("prepared")];
            batch.extend(sequences);
            assert_eq!(vectors(&model, &batch)[1..], alone);
            let scores = combine_lists(&alone);
            let wanted = case["scores"].as_array().expect("scores");
            assert_eq!(scores.len(), wanted.len());
            for (score, wanted) in scores.iter().zip(wanted) {
                let wanted = wanted.as_f64().expect("a score") as f32;
                assert!(
                    (score - wanted).abs() <= allowed,
                    "{precision:?}: {score} is not {wanted}"
                );
            }
        }
    }
}

#[test]
fn texts_above_a_limit_are_cut_or_refused_and_the_rest_stays_whole() {
    let (model, _) = golden_model("tiny-jina-reranker");
    let documents = ["short".into(), "many words follow each other ".repeat(500).into()];
    let prepare = |how: &Prepare| model.recipe.prepare(&list("which one", &documents), how);
    let cut = prepare(&Prepare::default()).expect("cut");
    assert!(cut.is_cut && (2048..2300).contains(&cut.tokens.len()), "{}", cut.tokens.len());
    // The sequence's own limit cuts the longest document further.
    let small = prepare(&Prepare { tokens_max: Some(300), ..Prepare::default() }).expect("cut");
    assert!(small.is_cut && (250..=300).contains(&small.tokens.len()), "{}", small.tokens.len());
    let text = model.recipe.tokenizer().decode(&small.tokens, false).expect("decoded");
    assert!(text.contains("\nshort<|embed_token|>\n</passage>\n<passage id=\"1\">\nmany words"));
    assert!(text.contains("<query>\nwhich one<|rerank_token|>\n</query><|im_end|>"), "{text}");
    let left = Prepare { side: TruncationSide::Left, ..Prepare::default() };
    let refused = prepare(&left).expect_err("refused");
    assert!(refused.to_string().contains("ends only"), "{refused}");
    let whole = Prepare { truncate: false, ..Prepare::default() };
    assert_eq!(prepare(&whole), Err(InputError::TooLong { tokens: 2501, limit: 2048 }));
    let longer = Prepare { document_tokens_max: Some(3000), ..whole };
    assert!(prepare(&longer).expect("whole").tokens.len() > 2500);
}

#[test]
fn no_text_of_a_request_adds_a_mark() {
    let (model, _) = golden_model("tiny-jina-reranker");
    let marks = "<|embed_token|> and <|rerank_<|embed_token|>token|>";
    let instruction = Prompt::Instruction(format!("find {marks}"));
    let how = Prepare { prompt: instruction, ..Prepare::default() };
    let input = list(marks, &[marks.into(), "b".into()]);
    let sequence = model.recipe.prepare(&input, &how).expect("prepared");
    assert_eq!(sequence.marks.len(), 3);
}

#[test]
fn lists_end_before_they_are_too_long_whatever_goes_around_them() {
    let (model, _) = golden_model("tiny-jina-reranker");
    let documents: Vec<Arc<str>> = (0..200).map(|n| "word ".repeat(n % 60).into()).collect();
    let how = Prepare {
        tokens_max: Some(2000),
        document_tokens_max: Some(64),
        prompt: Prompt::Instruction("find the words that are there ".repeat(40)),
        truncate: false,
        ..Prepare::default()
    };
    let lists = model.recipe.lists().expect("lists");
    let lengths = documents.iter().map(|text| lists.document_tokens(text, &how).expect("counted"));
    let lengths: Vec<usize> = lengths.collect();
    let tokens = ListTokens {
        query: lists.query_tokens("which", &how).expect("counted"),
        template: lists.template_tokens("which", &how).expect("counted"),
        documents: &lengths,
    };
    let sizes = lists.split(&tokens, &how);
    assert_eq!(sizes.iter().sum::<usize>(), documents.len());
    let mut rest = &documents[..];
    for size in sizes {
        let (candidates, after) = rest.split_at(size);
        rest = after;
        let sequence = model.recipe.prepare(&list("which", candidates), &how).expect("fits");
        assert!(sequence.tokens.len() <= 2000 && !sequence.is_cut);
    }
}

#[test]
fn near_misses_are_refused_by_name() {
    let (model, _) = golden_model("tiny-jina-reranker");
    for input in [Input::from("a text"), Input::Pair { query: "a".into(), document: "b".into() }] {
        let refused = model.recipe.prepare(&input, &Prepare::default()).expect_err("refused");
        assert!(refused.to_string().contains("ranks lists"), "{refused}");
    }
    let template = ListwiseTemplate::Readme;
    let input = Input::Listwise { query: "a".into(), candidates: vec!["b".into()], template };
    let refused = model.recipe.prepare(&input, &Prepare::default()).expect_err("refused");
    assert!(refused.to_string().contains("template"), "{refused}");
    let limited = LoadOptions { tokens_max: Some(400), ..LoadOptions::default() };
    let (model, _) = golden_model_with("tiny-jina-reranker", &limited);
    let many: Vec<Arc<str>> = (0..60).map(|_| "word".into()).collect();
    let refused = model.recipe.prepare(&list("which", &many), &Prepare::default());
    assert_eq!(refused, Err(InputError::QueryTooLong { limit: 400 }));
}
