use serde_json::json;

use super::*;

fn arguments(python: &str) -> AdmitArgs {
    AdmitArgs {
        model: String::new(),
        task: None,
        pooling: None,
        twin: None,
        seed: 0,
        python: Some(python.to_owned()),
        report: None,
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/scores").join(name)
}

/// A program that answers as a reference does, whatever it is asked.
fn program(folder: &Path, answer: &serde_json::Value) -> String {
    let path = folder.join("python");
    let text = format!("#!/bin/sh\ncat > /dev/null\ncat <<'END'\n{answer}\nEND\n");
    std::fs::write(&path, text).expect("written");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let permissions = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, permissions).expect("may be run");
    }
    path.to_string_lossy().into_owned()
}

#[test]
fn a_checkpoint_that_is_served_is_described() {
    let report = examine(&golden("bert-classifier"), &arguments("no-such-program"));
    assert_eq!(report.verdict(), Ok(()));
    let served = report.served.as_ref().expect("served");
    assert_eq!((&*served.family, &*served.recipe), ("bert", "cross_encoder"));
    let config = report.files.iter().find(|file| file.file == "config.json").expect("a file");
    assert!(config.read.contains(&"hidden_size".to_owned()), "{config:?}");
    let idle: Vec<&str> = config.without_effect.iter().map(|(key, _)| key.as_str()).collect();
    assert!(idle.contains(&"hidden_dropout_prob"), "{idle:?}");
    let text = report.to_string();
    assert!(text.contains("no-such-program could not be started"), "{text}");
    assert!(text.ends_with("verdict   it is served; its answers were not compared\n"), "{text}");
}

#[test]
fn a_checkpoint_that_is_refused_is_described_as_far_as_it_goes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = examine(folder.path(), &arguments("no-such-program"));
    assert!(report.verdict().expect_err("refused").contains("config.json"));
    let from = golden("bert-classifier");
    for name in ["tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        std::fs::copy(from.join(name), folder.path().join(name)).expect("copied");
    }
    let config = std::fs::read_to_string(from.join("config.json")).expect("a file");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    config["position_embedding_type"] = json!("relative_key");
    config["of_my_own"] = json!(3);
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    let report = examine(folder.path(), &arguments("no-such-program"));
    assert!(report.verdict().expect_err("refused").contains("position_embedding_type"));
    assert_eq!(report.model_type.as_deref(), Some("bert"));
    let file = report.files.iter().find(|file| file.file == "config.json").expect("a file");
    assert_eq!(file.unknown, ["of_my_own"]);
}

#[test]
#[cfg(unix)]
fn answers_are_compared_with_those_of_the_reference() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = golden("xlmr-reranker");
    let checkpoint = Checkpoint::open(&model).expect("opened");
    let loaded = load(&checkpoint, &model, &LoadOptions::default()).expect("loaded");
    let (own, others) = (vec![vec![0.0f32]; 3], vec![vec![0.5f32]; 3]);
    // The program's answers are made up; what matters is that ours are held beside them.
    let verdicts = [own, others].map(|values| {
        let cases: Vec<_> =
            values.iter().map(|values| json!({ "ids": [0, 1], "values": values })).collect();
        let versions = json!({ "transformers": "5" });
        let answer = json!({ "versions": versions, "cases": cases });
        let python = program(folder.path(), &answer);
        compare::compare(&loaded, &model, &python).expect("compared")
    });
    for comparison in &verdicts {
        assert_eq!((comparison.inputs, comparison.different_tokens), (3, 3));
        assert!(!comparison.equal && comparison.cosine_min.is_none());
    }
    let off = verdicts.map(|comparison| comparison.off_max.expect("logits"));
    assert!((off[0] - off[1]).abs() > 1e-3 && (off[0] - off[1]).abs() < 0.51, "{off:?}");
    // The model's own answers are equal, and one other token or number is not.
    let pairs = compare::inputs(compare::Kind::Scores);
    let own = pairs.iter().map(|pair| compare::own_answer(&loaded, pair).expect("computed"));
    let own: Vec<_> = own.map(|(ids, values)| json!({ "ids": ids, "values": values })).collect();
    let mut answer = json!({ "versions": {}, "cases": own });
    let compared = |answer: &serde_json::Value| {
        let python = program(folder.path(), answer);
        compare::compare(&loaded, &model, &python).expect("compared")
    };
    let equal = compared(&answer);
    assert_eq!((equal.equal, equal.different_tokens, equal.off_max), (true, 0, Some(0.0)));
    answer["cases"][1]["ids"][0] = json!(5);
    let other = compared(&answer);
    assert_eq!((other.equal, other.different_tokens), (false, 1));
    let python = program(folder.path(), &json!({ "versions": {}, "cases": [] }));
    let refused = compare::compare(&loaded, &model, &python).expect_err("refused");
    assert!(refused.contains("gave 0 answers"), "{refused}");
    let python = program(folder.path(), &json!("no answer"));
    assert!(compare::compare(&loaded, &model, &python).expect_err("refused").contains("no answer"));
}
