//! The modules of a chain: which are known, their files, and in which order they make sense.
//!
//! Must not know: tensors, what is computed.

use std::path::{Path, PathBuf};

use proxima_kernels::spec::{Activation, Pooling};
use serde::Deserialize;
use serde_json::Value;

use super::{
    DenseModule, ModuleStep, PoolingModule, Reader, SentenceTransformers, Splade, Subject, tables,
};
use crate::checkpoint::CheckpointError;

/// A known module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleKind {
    Transformer,
    /// A table of vectors instead of a transformer, with a tokenizer; the vector of a text is the
    /// mean of its tokens'.
    StaticEmbedding,
    Pooling,
    Dense,
    Normalize,
    LayerNorm,
    Dropout,
    SpladePooling,
    LogitScore,
    /// Of pplx-embed, whose code is known.
    TanhQuantizer,
}

/// The module of pplx-embed that rounds vectors (`st_quantize.py` beside the model).
const TANH_QUANTIZER: &str = "st_quantize.FlexibleQuantizer";

/// Modules by the last part of their type, which older and newer releases share.
const KINDS: [(&str, ModuleKind); 10] = [
    ("Transformer", ModuleKind::Transformer),
    ("MLMTransformer", ModuleKind::Transformer),
    ("StaticEmbedding", ModuleKind::StaticEmbedding),
    ("Pooling", ModuleKind::Pooling),
    ("Dense", ModuleKind::Dense),
    ("Normalize", ModuleKind::Normalize),
    ("LayerNorm", ModuleKind::LayerNorm),
    ("Dropout", ModuleKind::Dropout),
    ("SpladePooling", ModuleKind::SpladePooling),
    ("LogitScore", ModuleKind::LogitScore),
];

/// The module of a type such as `sentence_transformers.models.Dense`.
///
/// # Errors
/// An unknown module, or one of another package, whose code may do something else.
pub fn kind(path: &Path, name: &str) -> Result<ModuleKind, CheckpointError> {
    if name == TANH_QUANTIZER {
        return Ok(ModuleKind::TanhQuantizer);
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    let found = KINDS.iter().find(|(known, _)| *known == last);
    match found {
        Some((_, kind)) if name.starts_with("sentence_transformers.") => Ok(*kind),
        _ => {
            let known: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            let known = known.join(", ");
            let problem = format!(
                "module {name} is not supported; known are those of sentence_transformers: {known}"
            );
            Err(CheckpointError::new(path, problem))
        }
    }
}

/// Refuses a transformer whose output is not what the modules take.
fn check_transformer(path: &Path, chain: &SentenceTransformers) -> Result<(), CheckpointError> {
    let error = |problem: &str| Err(CheckpointError::new(path, problem));
    if chain.gives_words && chain.pooling().is_some() {
        return error(
            "its transformer gives logits of words (transformer_task fill-mask), and Pooling of \
             them is not supported; SpladePooling takes them",
        );
    }
    let (taken, output) = match chain {
        _ if chain.pooling().is_some() => ("feature-extraction", "last_hidden_state"),
        _ if chain.splade.is_some() => ("fill-mask", "logits"),
        _ if chain.logit_score.is_some() => ("text-generation", "logits"),
        _ => return Ok(()),
    };
    if let Some(task) = chain.transformer_task.as_ref().filter(|task| *task != taken) {
        return error(&format!(
            "its transformer gives an output (transformer_task {task}) that these modules do not \
             take ({taken})"
        ));
    }
    if let Some(other) = chain.outputs.iter().find(|other| *other != output) {
        return error(&format!(
            "its modality_config gives these modules {other} of the transformer \
             (method_output_name), where they take {output}"
        ));
    }
    Ok(())
}

/// Refuses modules in an order that sentence-transformers cannot run, or that is not served.
pub fn check_order(path: &Path, chain: &SentenceTransformers) -> Result<(), CheckpointError> {
    let error = |problem: &str| Err(CheckpointError::new(path, problem));
    if (chain.splade.is_some() || chain.logit_score.is_some()) && !chain.steps.is_empty() {
        return error("SpladePooling and LogitScore are supported only as the last module");
    }
    if chain.logit_score.is_some() && !chain.is_cross_encoder {
        return error(
            "sentence-transformers reads LogitScore only if model_type in \
             config_sentence_transformers.json is \"CrossEncoder\"; set it, or remove the module",
        );
    }
    check_transformer(path, chain)?;
    if chain.pooling().is_some() && !chain.is_embedder {
        return error(
            "config_sentence_transformers.json has a model_type that is not SentenceTransformer, \
             and these modules are an embedder's: sentence-transformers would not read them",
        );
    }
    let mut pooled = false;
    for step in &chain.steps {
        match (step, pooled) {
            (ModuleStep::Pool(_), true) => return error("a second Pooling is not supported"),
            (ModuleStep::Pool(_), false) => pooled = true,
            (
                ModuleStep::Dense(Subject::Tokens, _) | ModuleStep::Normalize(Subject::Tokens),
                true,
            ) => {
                return error(
                    "a module whose module_input_name is token_embeddings changes no vector after \
                     Pooling",
                );
            }
            (
                ModuleStep::Dense(Subject::Sentence, _)
                | ModuleStep::Normalize(Subject::Sentence)
                | ModuleStep::LayerNorm { .. }
                | ModuleStep::TanhInt8,
                false,
            ) => {
                return error(
                    "a module that takes sentence_embedding is before Pooling, which makes it; \
                     module_input_name sets the input of a Dense",
                );
            }
            _ => {}
        }
    }
    Ok(())
}

/// The poolings set in a `1_Pooling/config.json`.
pub fn pooling(path: &Path, reader: &mut Reader<'_>) -> Result<PoolingModule, CheckpointError> {
    /// Older keys, in the order in which their vectors are concatenated.
    const FLAGS: [(&str, Pooling); 6] = [
        ("pooling_mode_cls_token", Pooling::Cls),
        ("pooling_mode_max_tokens", Pooling::Max),
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_mean_sqrt_len_tokens", Pooling::MeanSqrtLength),
        ("pooling_mode_weightedmean_tokens", Pooling::WeightedMean),
        ("pooling_mode_lasttoken", Pooling::Last),
    ];
    let config: Value = reader.read_needed(path, tables::POOLING)?;
    let error = |problem: String| CheckpointError::new(path, problem);
    let flag = |name: &str| match &config[name] {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(*value)),
        // As in Python, 1 is true and 0 is false.
        Value::Number(number) if number.as_u64().is_some_and(|number| number <= 1) => {
            Ok(Some(number.as_u64() == Some(1)))
        }
        other => Err(error(format!("{name} is {other}, not true or false"))),
    };
    let methods = match config.get("pooling_mode") {
        None => {
            let mut methods = Vec::new();
            for (name, method) in FLAGS {
                methods.extend((flag(name)? == Some(true)).then_some(method));
            }
            if methods.is_empty() {
                // As in sentence-transformers.
                methods.push(Pooling::Mean);
            }
            methods
        }
        Some(Value::String(name)) => vec![method(path, name)?],
        Some(Value::Array(names)) => {
            let names = names.iter().map(|name| method(path, name.as_str().unwrap_or_default()));
            names.collect::<Result<_, _>>()?
        }
        Some(other) => return Err(error(format!("pooling_mode {other} is not supported"))),
    };
    /// Maximum number of concatenated poolings: each method once, and some more.
    const METHODS_MAX: usize = 16;
    match methods.len() {
        0 => Err(error("pooling_mode names no pooling; choose one with --pooling".into())),
        1..=METHODS_MAX => {
            // As in Python, null is false; an absent key is true.
            let default = config.get("include_prompt").is_none();
            let include_prompt = flag("include_prompt")?.unwrap_or(default);
            Ok(PoolingModule { methods, include_prompt })
        }
        count => Err(error(format!("{count} poolings are more than {METHODS_MAX}"))),
    }
}

fn method(path: &Path, name: &str) -> Result<Pooling, CheckpointError> {
    match name.trim_start_matches("pooling_mode_") {
        "cls" | "cls_token" => Ok(Pooling::Cls),
        "mean" | "mean_tokens" => Ok(Pooling::Mean),
        "max" | "max_tokens" => Ok(Pooling::Max),
        "lasttoken" => Ok(Pooling::Last),
        "weightedmean" | "weightedmean_tokens" => Ok(Pooling::WeightedMean),
        "mean_sqrt_len_tokens" | "mean_sqrt_len" => Ok(Pooling::MeanSqrtLength),
        _ => Err(CheckpointError::new(path, format!("pooling {name:?} is not supported"))),
    }
}

/// The input and output names of a module that works on tokens or on the vector.
#[derive(Deserialize, Default)]
struct Names {
    module_input_name: Option<Subject>,
    module_output_name: Option<Subject>,
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // The table of keys admits no other name.
        let name = String::deserialize(from)?;
        Ok(if name == "token_embeddings" { Self::Tokens } else { Self::Sentence })
    }
}

impl Names {
    fn subject(&self, path: &Path) -> Result<Subject, CheckpointError> {
        let input = self.module_input_name.unwrap_or(Subject::Sentence);
        if self.module_output_name.is_some_and(|output| output != input) {
            let problem = "a module_output_name other than module_input_name is not supported";
            return Err(CheckpointError::new(path, problem));
        }
        Ok(input)
    }
}

/// What a Normalize module works on.
pub fn normalize(path: &Path, reader: &mut Reader<'_>) -> Result<Subject, CheckpointError> {
    let names: Names = reader.read(path, tables::NORMALIZE)?.unwrap_or_default();
    names.subject(path)
}

/// A Dropout module, which has no effect outside of training. It takes a vector.
pub fn dropout(
    path: &Path,
    chain: &SentenceTransformers,
    reader: &mut Reader<'_>,
) -> Result<(), CheckpointError> {
    reader.object(path, tables::DROPOUT)?;
    match chain.pooling() {
        Some(_) => Ok(()),
        None => {
            Err(CheckpointError::new(path, "Dropout is before Pooling, which makes its vector"))
        }
    }
}

/// A LayerNorm module, which works on the vector.
pub fn layer_norm(dir: PathBuf, reader: &mut Reader<'_>) -> Result<ModuleStep, CheckpointError> {
    #[derive(Deserialize)]
    struct Config {
        dimension: usize,
    }
    let config: Config = reader.read_needed(&dir.join("config.json"), tables::LAYER_NORM)?;
    Ok(ModuleStep::LayerNorm { dir, width: config.dimension })
}

/// How a SpladePooling module pools.
pub fn splade(path: &Path, reader: &mut Reader<'_>) -> Result<Splade, CheckpointError> {
    #[derive(Deserialize)]
    struct Config {
        pooling_strategy: Option<String>,
        activation_function: Option<String>,
    }
    let config: Config = reader.read_needed(path, tables::SPLADE_POOLING)?;
    let unknown = |what: &str| CheckpointError::new(path, format!("{what} is not supported"));
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

/// A Dense module.
pub fn dense(dir: PathBuf, reader: &mut Reader<'_>) -> Result<ModuleStep, CheckpointError> {
    #[derive(Deserialize)]
    struct Config {
        in_features: usize,
        out_features: usize,
        #[serde(default = "yes")]
        bias: Option<bool>,
        activation_function: Option<String>,
        use_residual: Option<bool>,
        #[serde(flatten)]
        names: Names,
    }
    let path = dir.join("config.json");
    fn yes() -> Option<bool> {
        Some(true)
    }
    let content: Value = reader.read_needed(&path, tables::DENSE)?;
    if content.get("activation_function").is_some_and(Value::is_null) {
        let problem = "activation_function is null; name a class such as torch.nn.Identity";
        return Err(CheckpointError::new(path, problem));
    }
    let config = Config::deserialize(content)
        .map_err(|problem| CheckpointError::new(&path, format!("unexpected content: {problem}")))?;
    let name = config.activation_function.as_deref().unwrap_or("torch.nn.Tanh");
    let activation = match torch_class(name) {
        Some("Identity") => None,
        Some("Tanh") => Some(Activation::Tanh),
        Some("GELU") => Some(Activation::Gelu),
        Some("ReLU") => Some(Activation::Relu),
        Some("SiLU") => Some(Activation::Silu),
        _ => {
            let problem = format!("activation_function {name} is not supported");
            return Err(CheckpointError::new(path, problem));
        }
    };
    let subject = config.names.subject(&path)?;
    let module = DenseModule {
        dir,
        inputs: config.in_features,
        outputs: config.out_features,
        bias: config.bias.unwrap_or(false),
        activation,
        residual: config.use_residual.unwrap_or(false),
    };
    Ok(ModuleStep::Dense(subject, module))
}

/// The class name of a PyTorch activation at a path such as `torch.nn.Tanh` or
/// `torch.nn.modules.activation.Tanh`; other paths with the same ending are something else.
pub fn torch_class(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("torch.nn.")?;
    let name = match rest.strip_prefix("modules.") {
        Some("linear.Identity") => "Identity",
        Some(inner) => inner.strip_prefix("activation.").unwrap_or(inner),
        None => rest,
    };
    Some(name).filter(|name| !name.contains('.'))
}
