//! Tokenizers of random checkpoints: a given one, or a small generated one.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::configs::{LIST_TOKENS_MAX, NetworkKind, Published, SynthTask};
use super::{read_json, write_json};
use crate::SynthError;

/// Ids of Qwen3's special tokens, as published.
const QWEN3_SPECIAL: [(&str, usize); 3] =
    [("<|endoftext|>", 151_643), ("<|im_start|>", 151_644), ("<|im_end|>", 151_645)];

/// The special tokens that follow, some of which Qwen3-VL needs.
const QWEN3_VISION: [&str; 11] = [
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
];

/// The words a reranker answers with, at their published ids. A generated tokenizer never produces
/// them, but they locate rows of the head.
const ANSWERS: [(&str, usize); 2] = [("no", 2152), ("yes", 9693)];

/// The tokens at which jina-reranker-v3 is read, and the one before them, at their published ids.
const LIST_MARKS: [(&str, usize); 3] =
    [("<|score_token|>", 151_669), ("<|embed_token|>", 151_670), ("<|rerank_token|>", 151_671)];

/// Writes the tokenizer's files and returns the largest id plus one.
pub fn write(published: &Published, dir: &Path, given: Option<&Path>) -> Result<usize, SynthError> {
    let kind = published.kind;
    let mut config = json!({ "model_max_length": kind.tokens_max() });
    let mut tokenizer: Value = match given {
        Some(path) => {
            let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
            let beside = file.with_file_name("tokenizer_config.json");
            if beside.exists() {
                config = read_json(&beside)?;
            }
            read_json(&file)?
        }
        None => {
            let judges = published.task == SynthTask::Rerank;
            let words: &[_] = if judges { &ANSWERS } else { &[] };
            match kind {
                NetworkKind::Bert => word_piece(),
                NetworkKind::Qwen3 => byte_level(&QWEN3_SPECIAL, words),
                NetworkKind::Qwen3Vl(_) => {
                    let special = vision_special();
                    config = vision_config(&special, kind.tokens_max());
                    byte_level(&special, words)
                }
            }
        }
    };
    if published.task == SynthTask::RankLists {
        config["model_max_length"] = json!(LIST_TOKENS_MAX);
        add_list_marks(&mut tokenizer, &mut config);
    }
    if kind != NetworkKind::Bert && published.task == SynthTask::Embed {
        append_end_of_text(&mut tokenizer);
    }
    let path = dir.join("tokenizer.json");
    fs::write(&path, tokenizer.to_string())
        .map_err(|problem| SynthError::new(&path, format!("cannot be written: {problem}")))?;
    write_json(&dir.join("tokenizer_config.json"), &config)?;
    Ok(largest_id(&tokenizer) + 1)
}

fn largest_id(tokenizer: &Value) -> usize {
    let vocabulary = tokenizer["model"]["vocab"].as_object().into_iter().flatten();
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let ids = vocabulary.map(|(_, id)| id).chain(added.map(|token| &token["id"]));
    ids.filter_map(Value::as_u64).max().unwrap_or(0) as usize
}

/// Appends `<|endoftext|>` to every text, as the published Qwen3-Embedding tokenizer does.
fn append_end_of_text(tokenizer: &mut Value) {
    let (end, id) = QWEN3_SPECIAL[0];
    let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
    let pair = json!({ "Sequence": { "id": "B", "type_id": 1 } });
    let mark = json!({ "SpecialToken": { "id": end, "type_id": 0 } });
    let mut special = Map::new();
    special.insert(end.into(), json!({ "id": end, "ids": [id], "tokens": [end] }));
    tokenizer["post_processor"] = json!({
        "type": "Sequence",
        "processors": [
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
            {
                "type": "TemplateProcessing",
                "single": [text, mark],
                "pair": [text, mark, pair, mark],
                "special_tokens": special,
            },
        ],
    });
}

/// Adds the tokens of jina-reranker-v3 to both files.
fn add_list_marks(tokenizer: &mut Value, config: &mut Value) {
    for (token, id) in LIST_MARKS {
        tokenizer["model"]["vocab"][token] = json!(id);
        let added = tokenizer["added_tokens"].as_array_mut().expect("a list of added tokens");
        added.push(added_token(token, id));
        if let Some(Value::Object(decoder)) = config.get_mut("added_tokens_decoder") {
            decoder.insert(id.to_string(), decoded_token(token, id));
        }
    }
}

fn added_token(content: &str, id: usize) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true,
    })
}

/// A special token as `added_tokens_decoder` has it, by its id.
fn decoded_token(content: &str, id: usize) -> Value {
    let mut entry = added_token(content, id);
    entry.as_object_mut().expect("an object").remove("id");
    entry
}

/// Qwen3's special tokens and those of Qwen3-VL.
fn vision_special() -> Vec<(&'static str, usize)> {
    let first = QWEN3_SPECIAL[0].1 + QWEN3_SPECIAL.len();
    let more = QWEN3_VISION.iter().enumerate().map(|(index, token)| (*token, first + index));
    QWEN3_SPECIAL.into_iter().chain(more).collect()
}

/// The `tokenizer_config.json` that transformers' processor needs.
fn vision_config(special: &[(&str, usize)], tokens_max: usize) -> Value {
    let [(end, _), _, (turn_end, _)] = QWEN3_SPECIAL;
    let mut decoder = Map::new();
    for (token, id) in special {
        decoder.insert(id.to_string(), decoded_token(token, *id));
    }
    // Published without the end-of-text token, which is the padding token.
    let additional: Vec<&str> = special[1..].iter().map(|(token, _)| *token).collect();
    json!({
        "add_bos_token": false,
        "add_prefix_space": false,
        "added_tokens_decoder": decoder,
        "additional_special_tokens": additional,
        "bos_token": null,
        "clean_up_tokenization_spaces": false,
        "eos_token": turn_end,
        "errors": "replace",
        "model_max_length": tokens_max,
        "pad_token": end,
        "split_special_tokens": false,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": null,
    })
}

/// A byte-level tokenizer: a token per byte, special tokens, and words that no text produces.
fn byte_level(special: &[(&str, usize)], words: &[(&str, usize)]) -> Value {
    // GPT-2's byte-level BPE represents each byte as a printable character.
    let mut vocabulary = Map::new();
    let mut hidden = 0;
    for byte in 0..256u32 {
        let is_printable = matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let stand_in = if is_printable {
            byte
        } else {
            hidden += 1;
            255 + hidden
        };
        let stand_in = char::from_u32(stand_in).expect("all stand-ins are characters");
        vocabulary.insert(stand_in.to_string(), json!(byte));
    }
    for (token, id) in special.iter().chain(words) {
        vocabulary.insert((*token).into(), json!(id));
    }
    let added: Vec<Value> = special.iter().map(|(token, id)| added_token(token, *id)).collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true,
        },
        "post_processor": null,
        "decoder": {
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true,
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "vocab": vocabulary, "merges": [],
        },
    })
}

/// A WordPiece tokenizer: letters, digits, punctuation and some words, with BERT's template.
fn word_piece() -> Value {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let words = "the of and to in is that it was for on are as with his they at be this have \
                 from or one had by word but not what all were we when your can said there use";
    let mut tokens: Vec<String> = special.iter().map(|token| (*token).to_owned()).collect();
    let characters: Vec<char> = ('!'..='~').filter(|c| !c.is_ascii_uppercase()).collect();
    tokens.extend(characters.iter().map(char::to_string));
    let continuing = characters.iter().filter(|c| c.is_ascii_alphanumeric());
    tokens.extend(continuing.map(|character| format!("##{character}")));
    tokens.extend(words.split_whitespace().map(str::to_owned));
    let vocabulary: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let added: Vec<Value> =
        special.iter().enumerate().map(|(id, token)| added_token(token, id)).collect();
    let mark =
        |token: &str, type_id: u32| json!({ "SpecialToken": { "id": token, "type_id": type_id } });
    let text = |id: &str, type_id: u32| json!({ "Sequence": { "id": id, "type_id": type_id } });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [mark("[CLS]", 0), text("A", 0), mark("[SEP]", 0)],
            "pair": [mark("[CLS]", 0), text("A", 0), mark("[SEP]", 0), text("B", 1), mark("[SEP]", 1)],
            "special_tokens": {
                "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] },
            },
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    })
}
