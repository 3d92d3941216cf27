use std::path::Path;

use serde_json::{Value, json};

use super::Rule::{Closed, Count, NoEffect, Number, Object, Only, Refused, Size, Used};
use super::{ConfigFile, Is, Key, Warning};

const INNER: &[Key] = &[("kind", Only(&[Is::Text("plain")])), ("free", Used)];
const TABLE: &[Key] = &[
    ("read", Used),
    ("idle", NoEffect("it is for tests")),
    ("size", Count(1, 10)),
    ("depth", Size(1, 10)),
    ("rate", Number(0.0, 1.0)),
    ("switch", Refused("it is not supported")),
    ("inner", Object(&[INNER])),
    ("arguments", Closed(&[INNER])),
    ("mean", Only(&[Is::Thrice(0.5)])),
];

fn check(content: &Value) -> Result<Vec<Warning>, String> {
    let (dir, path) = (Path::new("/model"), Path::new("/model/1_Part/config.json"));
    let mut warnings = Vec::new();
    let checked = ConfigFile { dir, path }.check(content, &[&[], TABLE], &mut warnings);
    checked.map(|()| warnings).map_err(|error| error.to_string())
}

#[test]
fn known_keys_pass_with_values_that_are_served() {
    for served in [
        json!({}),
        json!({ "read": [1, { "anything": null }], "idle": true }),
        json!({ "size": 1, "depth": 10, "rate": 0.5, "mean": [0.5, 0.5, 0.5] }),
        json!({ "size": 10, "rate": 0, "inner": { "kind": "plain", "free": 3 } }),
        json!({ "switch": false, "arguments": {} }),
        json!({ "switch": null, "size": null, "inner": null, "mean": null }),
        json!({ "switch": 0, "arguments": { "kind": "plain" } }),
        json!({ "switch": [] }),
        json!({ "switch": {} }),
        json!({ "switch": "" }),
    ] {
        assert_eq!(check(&served), Ok(Vec::new()), "{served}");
    }
}

#[test]
fn what_is_not_served_is_refused_with_file_key_and_value() {
    for (refused, words) in [
        (json!({ "size": 0 }), ["1_Part/config.json", "size is 0", "from 1 to 10"]),
        (json!({ "size": 1_000_000_000_000_000u64 }), ["size is 1000000000000000", "1", "10"]),
        (json!({ "size": -1 }), ["size is -1", "1", "10"]),
        (json!({ "size": 2.5 }), ["size is 2.5", "whole", "10"]),
        (json!({ "size": "4" }), ["size is \"4\"", "whole", "10"]),
        (json!({ "rate": 1.5 }), ["rate is 1.5", "0", "1"]),
        (json!({ "rate": null }), ["rate is null", "number", "1"]),
        (json!({ "depth": null }), ["depth is null", "whole", "10"]),
        (json!({ "depth": 0 }), ["depth is 0", "whole", "10"]),
        (json!({ "switch": true }), ["switch is true", "not supported", "config.json"]),
        (json!({ "switch": { "0": [1] } }), ["switch is", "not supported", "config.json"]),
        (
            json!({ "inner": { "kind": "odd" } }),
            ["inner.kind is \"odd\"", "\"plain\"", "supported"],
        ),
        (json!({ "inner": [1] }), ["inner is [1]", "object", "config.json"]),
        (json!({ "arguments": { "new": 1 } }), ["arguments.new is 1", "unknown", "config.json"]),
        (json!({ "mean": [0.5, 0.5] }), ["mean is [0.5,0.5]", "[0.5, 0.5, 0.5]", "supported"]),
        (json!({ "mean": [0.4, 0.5, 0.5] }), ["mean is", "[0.5, 0.5, 0.5]", "supported"]),
        (json!([]), ["not a JSON object", "config.json", "1_Part"]),
    ] {
        let message = check(&refused).expect_err("refused");
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
    }
}

#[test]
fn a_key_in_no_table_gives_one_warning_that_names_file_and_key() {
    let content = json!({ "size": 3, "future": true, "inner": { "newer": { "newest": 1 } } });
    let warnings = check(&content).expect("served");
    let keys = ["future", "inner.newer"]
        .map(|key| Warning::UnknownKey { file: "1_Part/config.json".into(), key: key.into() });
    assert_eq!(warnings, keys);
    assert_eq!(warnings[0].to_string(), "1_Part/config.json: key future is unknown and ignored");
}

#[test]
fn a_long_value_is_shown_in_part() {
    let message = check(&json!({ "switch": "x".repeat(5000) })).expect_err("refused");
    assert!(message.len() < 250, "{message}");
}

#[test]
fn each_table_has_each_key_once() {
    use super::{config, files};
    let tables: [&[Key]; 15] = [
        config::COMMON,
        config::GENERATING,
        config::ROTARY,
        files::MODULE,
        files::SENTENCE_TRANSFORMERS,
        files::TRANSFORMER,
        files::POOLING,
        files::DENSE,
        files::NORMALIZE,
        files::LAYER_NORM,
        files::DROPOUT,
        files::LOGIT_SCORE,
        files::SPLADE_POOLING,
        files::TOKENIZER,
        TABLE,
    ];
    let families = crate::families::all();
    let own = families.iter().flat_map(|family| {
        let of_files = family.files.iter().flat_map(|(_, tables)| tables.iter().copied());
        std::iter::once(family.keys).chain(of_files)
    });
    for table in tables.into_iter().chain(own) {
        let mut names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
