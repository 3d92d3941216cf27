//! Compares a checkpoint's answers with those of transformers or sentence-transformers, run by a
//! Python that has them.
//!
//! Must not know: how answers are computed, how the comparison is reported.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use proxima_models::readout::Similarity;
use proxima_models::{Input, Model, Prepare, RaggedBatch, Sequence};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The program that Python runs.
const PROGRAM: &str = include_str!("reference.py");
/// Time within which the reference must answer.
const TIME_MAX: Duration = Duration::from_secs(900);
/// Time within which its errors must be read once it has ended.
const ENDED_TIME_MAX: Duration = Duration::from_secs(5);
/// Largest answer.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// Longest reason for a failure that is shown.
const REASON_CHARACTERS_MAX: usize = 600;
const PARAGRAPH: &str = "Gravity is a force that attracts two bodies; the river and the city are in \
    the light. Die Straße ist über der Stadt, la réponse est dans la ville, 重力是问题的答案, ответ в \
    городе 1687. ";
/// Smallest cosine of a vector with the reference's, in float32.
pub const COSINE_MIN: f64 = 0.999_99;
/// Largest difference of a logit or a word's weight from the reference's, in float32.
pub const LOGIT_OFF_MAX: f64 = 2e-3;

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Versions of the reference's packages.
    pub versions: BTreeMap<String, String>,
    /// Inputs that were compared.
    pub inputs: usize,
    /// Inputs whose token ids differ from the reference's.
    pub different_tokens: usize,
    /// The smallest cosine of a vector with the reference's.
    pub cosine_min: Option<f64>,
    /// The largest difference of a logit or a word's weight from the reference's.
    pub off_max: Option<f64>,
    /// Whether all answers equal the reference's, to the accuracy of float32.
    pub equal: bool,
}

/// What of a model is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Vectors of sentence-transformers' module chain.
    Modules,
    /// Vectors of a bare network, pooled as this model does.
    Pooled,
    /// Logits of a classification head.
    Scores,
    /// Logits of sentence-transformers' `CrossEncoder`.
    CrossEncoder,
    /// Weights of words.
    Words,
}

#[derive(Deserialize)]
struct ReferenceAnswer {
    versions: BTreeMap<String, String>,
    cases: Vec<ReferenceCase>,
}

#[derive(Deserialize)]
struct ReferenceCase {
    ids: Option<Vec<u32>>,
    values: Vec<f32>,
}

impl Kind {
    /// What can be compared; otherwise why nothing can.
    fn of(model: &Model, folder: &Path) -> Result<Self, String> {
        let recipe = model.info.recipe.as_str();
        let modules = folder.join("modules.json").exists();
        match recipe {
            "text_embedding" if model.readouts.embedding.is_some() && modules => Ok(Self::Modules),
            "text_embedding" if model.readouts.embedding.is_some() => Ok(Self::Pooled),
            "text_embedding" if modules => {
                Err("words' weights are compared without modules.json only".into())
            }
            "text_embedding" => Ok(Self::Words),
            "cross_encoder" => Ok(Self::Scores),
            "chat_reranker" if modules => Ok(Self::CrossEncoder),
            _ => Err(format!("the recipe {recipe} has no counterpart in these libraries")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Modules => "modules",
            Self::Pooled => "pooled",
            Self::Scores => "scores",
            Self::CrossEncoder => "cross_encoder",
            Self::Words => "words",
        }
    }
}

/// Compares a model in float32, loaded from `folder`, with the reference that `python` has.
///
/// # Errors
/// Why nothing was compared.
pub fn compare(model: &Model, folder: &Path, python: &str) -> Result<Comparison, String> {
    let kind = Kind::of(model, folder)?;
    let folder = folder.to_str().ok_or("the folder's path is not UTF-8")?;
    let inputs = inputs(kind);
    let pooling: Vec<&str> =
        model.info.capabilities.pooling.iter().map(|pooling| pooling.name()).collect();
    let asked = json!({
        "folder": folder,
        "kind": kind.name(),
        "pooling": pooling,
        "tokens_max": model.info.tokens_max,
        "inputs": inputs,
    });
    let answer = ask(python, &asked)?;
    if answer.cases.len() != inputs.len() {
        return Err(format!("{python} gave {} answers", answer.cases.len()));
    }
    let mut comparison = Comparison {
        versions: answer.versions,
        inputs: inputs.len(),
        different_tokens: 0,
        cosine_min: None,
        off_max: None,
        equal: true,
    };
    for (input, case) in inputs.iter().zip(&answer.cases) {
        let (tokens, values) = own_answer(model, input)?;
        comparison.add(kind, &tokens, &values, case);
    }
    Ok(comparison)
}

impl Comparison {
    fn add(&mut self, kind: Kind, tokens: &[u32], values: &[f32], case: &ReferenceCase) {
        if case.ids.as_deref().is_some_and(|ids| ids != tokens) {
            self.different_tokens += 1;
            self.equal = false;
        }
        // A maximum ignores NaN.
        if values.len() != case.values.len() || values.iter().any(|value| !value.is_finite()) {
            self.equal = false;
            return;
        }
        match kind {
            Kind::Modules | Kind::Pooled => {
                let cosine = f64::from(Similarity::default().of(values, &case.values));
                self.cosine_min = Some(self.cosine_min.map_or(cosine, |least| least.min(cosine)));
                self.equal &= cosine >= COSINE_MIN;
            }
            Kind::Scores | Kind::CrossEncoder | Kind::Words => {
                let pairs = values.iter().zip(&case.values);
                let off = pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
                self.off_max = Some(self.off_max.map_or(off, |most| most.max(off)));
                self.equal &= off <= LOGIT_OFF_MAX;
            }
        }
    }
}

/// The inputs that are compared: texts, or pairs of texts for a head that scores them.
pub(super) fn inputs(kind: Kind) -> Vec<Value> {
    let long = PARAGRAPH.repeat(8);
    match kind {
        Kind::Scores | Kind::CrossEncoder => vec![
            json!(["What is gravity?", "Gravity is a force that attracts two bodies."]),
            json!(["river", PARAGRAPH]),
            json!(["Which city is in the light?", long]),
        ],
        Kind::Modules | Kind::Pooled | Kind::Words => {
            vec![json!("a"), json!("What is gravity?"), json!(PARAGRAPH), json!(long)]
        }
    }
}

/// The tokens of an input, and this model's values for it.
pub(super) fn own_answer(model: &Model, input: &Value) -> Result<(Vec<u32>, Vec<f32>), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let input = match input {
        Value::Array(pair) => {
            Input::Pair { query: text(&pair[0]).into(), document: text(&pair[1]).into() }
        }
        other => Input::from(text(other)),
    };
    let failed = |problem: &dyn std::fmt::Display| format!("it was not computed here: {problem}");
    let sequence = model.recipe.prepare(&input, &Prepare::default());
    let sequence = sequence.map_err(|problem| failed(&problem))?;
    let values = values(model, &sequence).map_err(|problem| failed(&problem))?;
    Ok((sequence.tokens, values))
}

fn values(model: &Model, sequence: &Sequence) -> Result<Vec<f32>, proxima_models::ModelError> {
    let hidden = model.encoder.encode(&RaggedBatch::new([sequence]))?;
    let readouts = &model.readouts;
    let mut values = match (&readouts.embedding, &readouts.score, &readouts.sparse) {
        (Some(embedding), ..) => embedding.embed(&hidden)?,
        (None, Some(score), _) => score.logits(&hidden)?,
        (None, None, Some(sparse)) => {
            let words = sparse.weights(&hidden, &[sequence])?;
            let mut all = vec![0.0; model.info.vocabulary];
            for (id, weight) in words.into_iter().flatten() {
                all[id as usize] = weight;
            }
            vec![all]
        }
        (None, None, None) => Vec::new(),
    };
    Ok(values.pop().unwrap_or_default())
}

/// Runs the reference and reads its answer.
fn ask(python: &str, asked: &Value) -> Result<ReferenceAnswer, String> {
    let child = Command::new(python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|problem| format!("{python} could not be started: {problem}"))?;
    let (said, why) = output_of(child, asked, python)?;
    serde_json::from_slice(&said).map_err(|_| {
        // The last lines of a traceback say what is wrong.
        let lines: Vec<&str> = why.trim().lines().collect();
        let reason = lines[lines.len().saturating_sub(3)..].join(" ");
        let from = reason.chars().count().saturating_sub(REASON_CHARACTERS_MAX);
        format!("{python} gave no answer: {}", reason.chars().skip(from).collect::<String>())
    })
}

/// What a program writes to standard output, and to standard error, within the time it has.
fn output_of(mut child: Child, asked: &Value, python: &str) -> Result<(Vec<u8>, String), String> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let stderr = child.stderr.take();
    let question = asked.to_string();
    let (tell, told) = mpsc::channel();
    let (tell_why, told_why) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(stderr) = stderr {
            // What cannot be read is not shown.
            let _ = stderr.take(ANSWER_BYTES_MAX).read_to_end(&mut text);
        }
        // The receiver may have given up.
        let _ = tell_why.send(String::from_utf8_lossy(&text).into_owned());
    });
    std::thread::spawn(move || {
        let mut said = Vec::new();
        if let (Some(mut stdin), Some(stdout)) = (stdin, stdout) {
            // A program that ends early gives no answer, which is reported.
            let _ = stdin.write_all(question.as_bytes());
            drop(stdin);
            let _ = stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut said);
        }
        // The receiver may have given up.
        let _ = tell.send(said);
    });
    let said = told.recv_timeout(TIME_MAX);
    // It may have ended already.
    let _ = child.kill();
    let status = child.wait().map_or_else(|_| String::new(), |status| status.to_string());
    let said = said.map_err(|_| format!("{python} did not answer in {} s", TIME_MAX.as_secs()))?;
    // A program that it started may keep its output open.
    let why = told_why.recv_timeout(ENDED_TIME_MAX).unwrap_or_default();
    Ok((said, if why.trim().is_empty() { status } else { why }))
}
