//! The files of sentence-transformers: modules, pooling, projections, prompts, length.
//!
//! Must not know: tensors' values, tokenizers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proxima_kernels::cpu::Activation;
use serde::Deserialize;

use super::{CheckpointError, read_json, read_json_if_there};
use crate::readout::Pooling;

/// What `modules.json` and the files it names say.
#[derive(Debug, Clone)]
pub struct SentenceTransformers {
    /// Folder of the transformer, relative to the checkpoint's.
    pub transformer_path: String,
    /// How tokens are pooled, if there is a pooling module.
    pub pooling: Option<Pooling>,
    /// How a sparse model pools, if there is such a module.
    pub splade: Option<Splade>,
    /// Which tokens' logits are the score of a language model, if there is such a module.
    pub logit_score: Option<LogitScore>,
    /// Whether mean-like pooling counts the prompt's tokens.
    pub include_prompt: bool,
    /// Projections after pooling, in order.
    pub dense: Vec<DenseModule>,
    /// Longest sequence in tokens.
    pub tokens_max: Option<usize>,
    /// Texts are lower-cased before they are tokenised.
    pub lower_case: bool,
    /// Prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// The prompt used where a request names none.
    pub default_prompt_name: Option<String>,
}

/// How the logits of a masked language model become weights of words (Formal et al., SPLADE v2,
/// 2021; sentence-transformers `SpladePooling`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Splade {
    /// The sum over tokens instead of the largest.
    pub sum: bool,
    /// `log(1 + log(1 + relu))` instead of `log(1 + relu)`.
    pub twice: bool,
}

/// The logits of a language model that are a score (sentence-transformers `LogitScore`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct LogitScore {
    /// The token that says yes.
    pub true_token_id: usize,
    /// The token that says no, whose logit is taken off.
    pub false_token_id: Option<usize>,
}

/// A projection.
#[derive(Debug, Clone)]
pub struct DenseModule {
    /// Its folder, with `model.safetensors`.
    pub dir: PathBuf,
    /// Components it takes.
    pub inputs: usize,
    /// Components it gives.
    pub outputs: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// What follows it.
    pub activation: Option<Activation>,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    activation_function: Option<String>,
}

#[derive(Deserialize, Default)]
struct Prompts {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

#[derive(Deserialize, Default)]
struct Length {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

fn yes() -> bool {
    true
}

impl SentenceTransformers {
    /// Reads `modules.json` and what it names; `None` where there is none.
    ///
    /// # Errors
    /// A module, pooling or activation that is not known, or a file that contradicts another.
    pub fn open(dir: &Path) -> Result<Option<Self>, CheckpointError> {
        let modules_path = dir.join("modules.json");
        let Some(modules) = read_json_if_there::<Vec<Module>>(&modules_path)? else {
            return Ok(None);
        };
        let prompts: Prompts =
            read_json_if_there(&dir.join("config_sentence_transformers.json"))?.unwrap_or_default();
        let mut this = Self {
            transformer_path: String::new(),
            pooling: None,
            splade: None,
            logit_score: None,
            include_prompt: true,
            dense: Vec::new(),
            tokens_max: None,
            lower_case: false,
            prompts: prompts
                .prompts
                .into_iter()
                .map(|(name, prompt)| (name, prompt.unwrap_or_default()))
                .collect(),
            default_prompt_name: prompts.default_prompt_name,
        };
        if let Some(name) = &this.default_prompt_name
            && !this.prompts.contains_key(name)
        {
            let path = dir.join("config_sentence_transformers.json");
            let problem = format!("default_prompt_name {name:?} is not among its prompts");
            return Err(CheckpointError::new(path, problem));
        }
        for module in modules {
            this.add_module(dir, &modules_path, &module)?;
        }
        let length = dir.join(&this.transformer_path).join("sentence_bert_config.json");
        let length: Length = read_json_if_there(&length)?.unwrap_or_default();
        this.tokens_max = length.max_seq_length;
        this.lower_case = length.do_lower_case;
        Ok(Some(this))
    }

    fn add_module(
        &mut self,
        dir: &Path,
        modules_path: &Path,
        module: &Module,
    ) -> Result<(), CheckpointError> {
        let folder = dir.join(&module.path);
        match module.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "MLMTransformer" => self.transformer_path.clone_from(&module.path),
            "Pooling" => {
                let (pooling, include_prompt) = pooling(&folder.join("config.json"))?;
                (self.pooling, self.include_prompt) = (Some(pooling), include_prompt);
            }
            "LogitScore" => self.logit_score = Some(read_json(&folder.join("config.json"))?),
            "SpladePooling" => self.splade = Some(splade(&folder.join("config.json"))?),
            "Dense" => self.dense.push(dense(&folder)?),
            // Vectors are scaled as the request asks.
            "Normalize" => {}
            other => {
                let problem = format!(
                    "module {other} is not served; known are Transformer, Pooling, Dense, \
                     Normalize, SpladePooling, LogitScore"
                );
                return Err(CheckpointError::new(modules_path, problem));
            }
        }
        Ok(())
    }
}

/// The one pooling that a `1_Pooling/config.json` asks for, and whether it counts the prompt.
fn pooling(path: &Path) -> Result<(Pooling, bool), CheckpointError> {
    let config: BTreeMap<String, serde_json::Value> = read_json(path)?;
    let error = |problem: String| CheckpointError::new(path, problem);
    let named = |name: &str| match name.trim_start_matches("pooling_mode_") {
        "cls_token" | "cls" => Some(Pooling::Cls),
        "mean_tokens" | "mean" => Some(Pooling::Mean),
        "max_tokens" | "max" => Some(Pooling::Max),
        "lasttoken" => Some(Pooling::Last),
        "weightedmean_tokens" | "weightedmean" => Some(Pooling::WeightedMean),
        "mean_sqrt_len_tokens" | "mean_sqrt_len" => Some(Pooling::MeanSqrtLength),
        _ => None,
    };
    let mut asked: Vec<&str> = Vec::new();
    if let Some(mode) = config.get("pooling_mode").and_then(serde_json::Value::as_str) {
        asked.push(mode);
    }
    let flags = config
        .iter()
        .filter(|(name, value)| name.starts_with("pooling_mode_") && value.as_bool() == Some(true));
    asked.extend(flags.map(|(name, _)| name.as_str()));
    let include = config.get("include_prompt").and_then(serde_json::Value::as_bool).unwrap_or(true);
    match asked[..] {
        [] => Err(error("it asks for no pooling; choose one with --pooling".into())),
        [name] => named(name)
            .map(|pooling| (pooling, include))
            .ok_or_else(|| error(format!("pooling {name} is not served"))),
        _ => Err(error(format!("poolings laid side by side are not served: {}", asked.join(", ")))),
    }
}

fn splade(path: &Path) -> Result<Splade, CheckpointError> {
    #[derive(Deserialize)]
    struct Config {
        pooling_strategy: Option<String>,
        activation_function: Option<String>,
    }
    let config: Config = read_json(path)?;
    let unknown = |what: &str| CheckpointError::new(path, format!("{what} is not served"));
    let sum = match config.pooling_strategy.as_deref() {
        None | Some("max") => false,
        Some("sum") => true,
        Some(other) => return Err(unknown(other)),
    };
    let twice = match config.activation_function.as_deref() {
        None | Some("relu") => false,
        Some("log1p_relu") => true,
        Some(other) => return Err(unknown(other)),
    };
    Ok(Splade { sum, twice })
}

fn dense(folder: &Path) -> Result<DenseModule, CheckpointError> {
    let path = folder.join("config.json");
    let config: DenseConfig = read_json(&path)?;
    let name = config.activation_function.as_deref().unwrap_or("Tanh");
    let activation = match name.rsplit('.').next().unwrap_or_default() {
        "Identity" => None,
        "Tanh" => Some(Activation::Tanh),
        "GELU" => Some(Activation::Gelu),
        "ReLU" => Some(Activation::Relu),
        "SiLU" => Some(Activation::Silu),
        _ => {
            let problem = format!("activation function {name} is not served");
            return Err(CheckpointError::new(path, problem));
        }
    };
    Ok(DenseModule {
        dir: folder.to_owned(),
        inputs: config.in_features,
        outputs: config.out_features,
        bias: config.bias,
        activation,
    })
}
