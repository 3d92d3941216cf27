use std::path::Path;

use super::*;
use crate::input::TruncationSide;
use crate::readout::Pooling;
use crate::recipes::TEXT_BYTES_MAX;
use crate::recipes::tests::model;
use crate::{LoadOptions, Model};

const END: u32 = 151_643;

fn ids(model: &Model, input: Input, how: &Prepare) -> Result<Vec<u32>, InputError> {
    model.recipe.prepare(&input, how).map(|sequence| sequence.tokens)
}

fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

#[test]
fn a_long_text_is_cut_on_either_side_and_keeps_its_special_tokens() {
    let model = model("tiny-qwen3");
    let text = || Input::from("abcdefgh");
    let right = Prepare { tokens_max: Some(4), ..Prepare::default() };
    assert_eq!(ids(&model, text(), &right), Ok([bytes("abc"), vec![END]].concat()));
    let left = Prepare { side: TruncationSide::Left, ..right.clone() };
    assert_eq!(ids(&model, text(), &left), Ok([bytes("fgh"), vec![END]].concat()));
    let exact = Prepare { tokens_max: Some(9), truncate: false, ..Prepare::default() };
    assert_eq!(ids(&model, text(), &exact).map(|ids| ids.len()), Ok(9));
    let strict = Prepare { tokens_max: Some(8), truncate: false, ..Prepare::default() };
    assert_eq!(ids(&model, text(), &strict), Err(InputError::TooLong { tokens: 9, limit: 8 }));
    let none = Prepare { tokens_max: Some(1), ..Prepare::default() };
    assert_eq!(ids(&model, text(), &none), Err(InputError::LimitTooSmall { limit: 1 }));
    assert_eq!(ids(&model, Input::from(String::new()), &Prepare::default()), Ok(vec![END]));
}

#[test]
fn token_ids_are_taken_as_they_are_and_keep_the_end_they_have() {
    let model = model("tiny-qwen3");
    let how = Prepare { tokens_max: Some(3), ..Prepare::default() };
    let cut = |input: &[u32], how: &Prepare| ids(&model, Input::Tokens(input.to_vec()), how);
    assert_eq!(cut(&[5, 6], &how), Ok(vec![5, 6]));
    assert_eq!(cut(&[5, 6, 7, 8, END], &how), Ok(vec![5, 6, END]));
    assert_eq!(cut(&[5, 6, 7, 8], &how), Ok(vec![5, 6, 7]));
    let left = Prepare { side: TruncationSide::Left, ..how.clone() };
    assert_eq!(cut(&[5, 6, 7, 8, END], &left), Ok(vec![7, 8, END]));
    assert_eq!(cut(&[], &how), Err(InputError::NoTokens));
    let vocabulary = model.info.vocabulary;
    let id = vocabulary as u32;
    assert_eq!(cut(&[id], &how), Err(InputError::UnknownToken { id, vocabulary }));
}

#[test]
fn ids_of_a_text_carry_the_special_tokens_that_the_model_tells_of() {
    for name in ["tiny-qwen3", "tiny-bert", "tiny-e2rank"] {
        let model = model(name);
        let of_text = ids(&model, Input::from("the the"), &Prepare::default()).expect("ids");
        let special = &model.info.special_tokens;
        assert!(special.are_around(&of_text), "{name}");
        let bare = &of_text[special.before.len()..of_text.len() - special.after.len()];
        assert!(!special.are_around(bare), "{name}");
    }
}

#[test]
fn prompts_and_instructions_go_before_the_text() {
    let model = model("tiny-qwen3");
    let with = |prompt: Prompt| {
        let how = Prepare { prompt, ..Prepare::default() };
        ids(&model, Input::from("hi"), &how)
    };
    let expected = |text: &str| Ok([bytes(text), vec![END]].concat());
    assert_eq!(with(Prompt::Default), expected("hi"));
    let web = "Given a web search query, retrieve relevant passages that answer the query";
    let query = format!("Instruct: {web}\nQuery:hi");
    assert_eq!(with(Prompt::Named("query".into())), expected(&query));
    assert_eq!(with(Prompt::Instruction(web.into())), expected(&query));
    assert_eq!(with(Prompt::Instruction(String::new())), expected("hi"));
    let known = vec!["document".to_owned(), "query".to_owned()];
    let unknown = InputError::UnknownPrompt { name: "passage".into(), known };
    assert_eq!(with(Prompt::Named("passage".into())), Err(unknown));
    let bert = self::model("tiny-bert");
    let prefixed = bert.recipe.tokenize("the", false, &Prompt::Instruction("to ".into()));
    let texts: Vec<String> =
        prefixed.expect("tokens").into_iter().map(|token| token.text).collect();
    assert_eq!(texts, ["to", "the"]);
}

#[test]
fn tokens_say_where_they_are_in_characters_and_decode_gives_the_text_back() {
    let model = model("tiny-bert");
    let tokens = model.recipe.tokenize("été the", true, &Prompt::None).expect("tokens");
    let located: Vec<_> =
        tokens.iter().map(|token| (token.text.as_str(), token.special, token.start)).collect();
    assert_eq!(located[0], ("[CLS]", true, None));
    assert_eq!(located[located.len() - 2], ("the", false, Some(4)));
    assert_eq!(located[1].2, Some(0));
    let qwen3 = self::model("tiny-qwen3");
    let text = "naïve <b>日本</b>";
    let ids: Vec<u32> = ids(&qwen3, Input::from(text), &Prepare::default()).expect("ids");
    assert_eq!(qwen3.recipe.tokenizer().decode(&ids, true), Ok(text.into()));
    assert_eq!(qwen3.recipe.tokenizer().decode(&ids, false), Ok(format!("{text}<|endoftext|>")));
    assert!(qwen3.recipe.tokenizer().decode(&[u32::MAX], true).is_err());
}

#[test]
fn a_text_that_grows_when_it_is_normalised_is_bounded_by_what_it_becomes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores/bge-m3");
    let options = LoadOptions { pooling: Some(Pooling::Cls), ..LoadOptions::default() };
    let checkpoint = Checkpoint::open(&folder).expect("opened");
    let model = Model::load(&checkpoint, &options).expect("loaded");
    // One character, an Arabic phrase, that compatibility normalisation expands to 18.
    let phrase = "\u{fdfa}";
    let how = Prepare { truncate: true, ..Prepare::default() };
    let ids = |count: usize| ids(&model, Input::from(phrase.repeat(count)), &how);
    assert!(ids(1_000).is_ok());
    let limit = TEXT_BYTES_MAX;
    assert_eq!(ids(limit / 18 + 1), Err(InputError::TooManyCharacters { limit }));
    // Only the part of a text that is tokenised counts.
    let text = "the price of water ".repeat(2_000) + &phrase.repeat(limit / 18 + 1);
    assert!(self::ids(&model, Input::from(text.clone()), &how).is_ok());
    let whole = Prepare { truncate: false, ..Prepare::default() };
    let error = self::ids(&model, Input::from(text), &whole);
    assert_eq!(error, Err(InputError::TooManyCharacters { limit }));
}

#[test]
fn a_text_of_many_megabytes_is_refused_before_it_is_tokenised() {
    let model = model("tiny-bert");
    let text = "a ".repeat(TEXT_BYTES_MAX);
    let error = ids(&model, Input::from(text), &Prepare::default());
    let bytes = 2 * TEXT_BYTES_MAX;
    assert_eq!(error, Err(InputError::TooManyBytes { bytes, limit: TEXT_BYTES_MAX }));
}
