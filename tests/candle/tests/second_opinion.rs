//! A second opinion without Python: small random networks are computed by candle-transformers, too.
//! The networks are those of `tests/golden/families.json` and of `tests/golden/scores`; each text
//! goes alone through both, in float32 on the CPU. `opinions/list.rs` says where candle differs.

mod opinions;
#[path = "../../../models/tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use opinions::list::{AGREES, DIFFERS, NO_NETWORK, UNABLE};
use opinions::{Answer, Make, Parts};
use proxima_models::readout::Pooling;
use proxima_models::{Model, Precision, RaggedBatch, Sequence};
use serde_json::{Value, json};

/// A network with its folder, which may be a temporary one.
struct Case {
    network: Value,
    folder: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

fn json_file(path: &Path) -> Option<Value> {
    let text = fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// The checkpoints of `scores`, in the form of `families.json`.
fn scores() -> Vec<Value> {
    let folders = fs::read_dir(support::golden().join("scores")).expect("a folder");
    let networks = folders.filter_map(|entry| {
        let folder = entry.expect("an entry").path();
        // A downloaded one has none.
        let config = json_file(&folder.join("config.json"))?;
        let mut answers = json_file(&folder.join("answers.json")).expect("answers");
        for case in answers["cases"].as_array_mut().expect("cases") {
            case["ids"] = case["input_ids"].take();
            if case["text"].is_null() {
                case["text"] = json!([case["query"], case["document"]]);
            }
        }
        let name = folder.file_name().expect("a name").to_string_lossy();
        let cases = answers["cases"].take();
        Some(json!({ "name": format!("scores/{name}"), "config": config, "cases": cases }))
    });
    networks.collect()
}

fn networks() -> Vec<Value> {
    [support::networks(), scores()].concat()
}

fn case(networks: &[Value], name: &str) -> Case {
    let network = networks.iter().find(|network| network["name"] == name);
    let network = network.unwrap_or_else(|| panic!("no network {name}")).clone();
    let golden = support::golden().join(name);
    if name.starts_with("scores/") {
        return Case { network, folder: golden, _temporary: None };
    }
    let temporary = support::write(&network);
    Case { network, folder: temporary.path().to_owned(), _temporary: Some(temporary) }
}

/// The rows of a matrix, or the one row of a vector.
fn rows(tensor: &Tensor) -> Vec<Vec<f32>> {
    let tensor = if tensor.rank() == 1 { tensor.unsqueeze(0) } else { Ok(tensor.clone()) };
    tensor.expect("a matrix").to_vec2().expect("float32 values")
}

/// What Proxima gives for a sequence where candle gives this.
fn own(
    model: &Model,
    sequence: &Sequence,
    answer: &Answer,
    words: Option<&Tensor>,
) -> Vec<Vec<f32>> {
    let hidden = || model.encoder.encode(&RaggedBatch::new([sequence])).expect("encoded").rows;
    match answer {
        Answer::States(_) => rows(&hidden()),
        Answer::Next(_) => {
            let last = hidden().narrow(0, sequence.tokens.len() - 1, 1).expect("a row");
            let words = words.expect("a decoder").t().expect("a matrix");
            rows(&last.matmul(&words).expect("logits"))
        }
        Answer::Words(_) | Answer::Scores(_) => {
            support::answers(model, std::slice::from_ref(sequence))
        }
    }
}

/// What candle gives, as Proxima reads it out.
fn theirs(answer: &Answer) -> Vec<Vec<f32>> {
    match answer {
        Answer::States(states) => rows(states),
        Answer::Next(logits) | Answer::Scores(logits) => rows(logits),
        Answer::Words(logits) => {
            let largest = logits.max(0).and_then(|largest| largest.relu());
            rows(&largest.and_then(|largest| (largest + 1.0)?.log()).expect("weights"))
        }
    }
}

fn length(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// The largest distance of two rows, relative to their length; infinite if one is not a number.
fn distance(own: &[Vec<f32>], theirs: &[Vec<f32>]) -> f64 {
    assert_eq!(own.len(), theirs.len());
    let mut largest: f64 = 0.0;
    for (own, theirs) in own.iter().zip(theirs) {
        let apart = length(own.iter().zip(theirs).map(|(a, b)| a - b));
        let apart = apart / length(own.iter().copied()).max(f64::MIN_POSITIVE);
        if own.len() != theirs.len() || apart.is_nan() {
            return f64::INFINITY;
        }
        largest = largest.max(apart);
    }
    largest
}

/// How far candle is from Proxima over the texts of a network, or why it does not compute them.
fn compare(case: &Case, make: Make) -> Result<f64, String> {
    let theirs_of = make(Parts::read(&case.folder)).map_err(|problem| problem.to_string())?;
    let words = Parts::read(&case.folder).words();
    let model = support::load_from(&case.folder, &case.network, Precision::Float32, Pooling::Mean);
    let mut largest: f64 = 0.0;
    let texts = case.network["cases"].as_array().expect("cases");
    assert!(!texts.is_empty(), "{}", case.network["name"]);
    for text in texts {
        let sequence = support::sequence(&model, text);
        let answer = theirs_of(&sequence).map_err(|problem| problem.to_string())?;
        let own = own(&model, &sequence, &answer, words.as_ref());
        largest = largest.max(distance(&own, &theirs(&answer)));
    }
    Ok(largest)
}

#[test]
fn networks_equal_those_of_candle_in_float32() {
    let networks = networks();
    // Both sides have errors, and candle's positions larger ones. Even where tiles multiply, rows
    // this close have a cosine of more than 0.99999.
    let allowed = 10.0 * f64::from(support::float32_error(1.0));
    for (name, make) in AGREES {
        let off = compare(&case(&networks, name), *make);
        let off = off.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        println!("{name}: off by {off:.1e}");
        assert!(off <= allowed, "{name} is off by {off}");
    }
}

#[test]
fn candle_differs_where_the_list_says_so() {
    let networks = networks();
    for (name, make, why) in DIFFERS {
        match compare(&case(&networks, name), *make) {
            Ok(off) => {
                println!("{name}: off by {off:.1e}: {why}");
                assert!(off > 1e-4, "{name} is off by {off} only: it is no longer true that {why}");
            }
            Err(problem) => {
                let problem = problem.lines().next().unwrap_or_default();
                println!("{name}: {problem}: {why}");
            }
        }
    }
}

#[test]
fn no_network_is_forgotten() {
    let agrees = AGREES.iter().map(|row| row.0);
    let names = agrees.chain(DIFFERS.iter().map(|row| row.0)).chain(UNABLE.iter().map(|row| row.0));
    let names: Vec<&str> = names.collect();
    let networks = networks();
    for network in &networks {
        let name = network["name"].as_str().expect("a name");
        let model_type = network["config"]["model_type"].as_str().unwrap_or_default();
        let is_compared = names.contains(&name);
        assert_ne!(is_compared, NO_NETWORK.contains(&model_type), "{name} of type {model_type:?}");
    }
    for name in names {
        assert!(networks.iter().any(|network| network["name"] == name), "no network {name}");
    }
}
