//! The files of sentence-transformers: the module chain, prompts, length.
//!
//! Must not know: tensors' values, tokenizers.

mod modules;

use modules::ModuleKind;
pub use modules::torch_class;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proxima_kernels::spec::{Activation, Pooling};
use serde::Deserialize;
use serde_json::Value;

use super::files::{is_there, within};
use super::keys::{ConfigFile, Key, Warning, files as tables};
use super::similarity::SimilarityFunction;
use super::{CheckpointError, files};

/// Possible names of the file with the length of a chain's transformer. As in
/// sentence-transformers, the first with any key is used.
pub const LENGTH_FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];
/// The file with prompts and other settings of the whole chain.
const SETTINGS: &str = "config_sentence_transformers.json";

/// The contents of `modules.json` and the files it names.
#[derive(Debug, Clone, Default)]
pub struct SentenceTransformers {
    /// The transformer's folder.
    pub transformer_dir: PathBuf,
    /// The modules applied to the transformer's hidden states, in order.
    pub steps: Vec<ModuleStep>,
    /// Whether there is a table of vectors instead of a transformer; `steps` begin with the mean.
    pub is_static: bool,
    /// Whether the transformer returns vocabulary logits instead of hidden states.
    pub gives_words: bool,
    /// How a sparse model pools, if it has such a module.
    pub splade: Option<Splade>,
    /// Which tokens' logits make a language model's score, if it has such a module.
    pub logit_score: Option<LogitScore>,
    /// Longest sequence in tokens.
    pub tokens_max: Option<usize>,
    /// Whether texts are lower-cased before tokenisation.
    pub lower_case: bool,
    /// Prompts by name.
    pub prompts: BTreeMap<String, String>,
    /// The prompt used when a request names none.
    pub default_prompt_name: Option<String>,
    /// How vectors are compared.
    pub similarity: SimilarityFunction,
    /// Number of leading components that are kept.
    pub truncate_dim: Option<usize>,
    /// The path of the function applied to a cross-encoder's logits.
    pub activation_fn: Option<String>,
    /// Whether the transformer takes chat messages, if the files tell: `modality_config`.
    pub takes_messages: Option<bool>,
    /// What the transformer returns, if its files tell: `transformer_task`.
    pub transformer_task: Option<String>,
    /// Which of its outputs the modules take, if its files tell: `method_output_name`.
    pub outputs: Vec<String>,
    /// Whether a message's content is a list of parts (`structured`) or a text (`flat`), if its
    /// files tell.
    pub message_format: Option<String>,
    /// Whether chats end in the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Whether the files say that it is a cross-encoder.
    pub is_cross_encoder: bool,
    /// Whether `model_type` is an embedder's or absent.
    pub is_embedder: bool,
}

/// A module after the transformer.
#[derive(Debug, Clone)]
pub enum ModuleStep {
    /// Hidden states of tokens to a vector.
    Pool(PoolingModule),
    /// A projection.
    Dense(Subject, DenseModule),
    /// Scaling to unit length.
    Normalize(Subject),
    /// A layer norm of the vector.
    LayerNorm {
        /// Its folder, with `model.safetensors`.
        dir: PathBuf,
        /// Number of input and output components.
        width: usize,
    },
    /// Rounding of the vector's hyperbolic tangents to whole numbers from -127 to 127.
    TanhInt8,
}

/// What a module works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Each token's hidden state: `token_embeddings`.
    Tokens,
    /// The vector: `sentence_embedding`.
    Sentence,
}

/// How tokens are pooled.
#[derive(Debug, Clone)]
pub struct PoolingModule {
    /// Pooling methods, whose vectors are concatenated.
    pub methods: Vec<Pooling>,
    /// Whether the prompt's tokens are pooled.
    pub include_prompt: bool,
}

/// How the logits of a masked language model become word weights (Formal et al., SPLADE v2, 2021;
/// sentence-transformers `SpladePooling`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Splade {
    /// The sum over tokens instead of the maximum.
    pub sum: bool,
    /// `log(1 + log(1 + relu))` instead of `log(1 + relu)`.
    pub twice: bool,
}

/// Which logits of a language model make a score (sentence-transformers `LogitScore`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct LogitScore {
    /// The token that means yes.
    pub true_token_id: usize,
    /// The token that means no, whose logit is subtracted.
    pub false_token_id: Option<usize>,
}

/// A projection.
#[derive(Debug, Clone)]
pub struct DenseModule {
    /// Its folder, with `model.safetensors`.
    pub dir: PathBuf,
    /// Number of input components.
    pub inputs: usize,
    /// Number of output components.
    pub outputs: usize,
    /// Whether it has a bias.
    pub bias: bool,
    /// The activation after it.
    pub activation: Option<Activation>,
    /// Whether its input is added, through a projection of its own if the widths differ.
    pub residual: bool,
}

#[derive(Deserialize)]
struct ModuleEntry {
    path: String,
    name: Option<Value>,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize, Default)]
struct ChainSettings {
    model_type: Option<String>,
    prompts: Option<BTreeMap<String, Option<String>>>,
    default_prompt_name: Option<String>,
    #[serde(default)]
    similarity_fn_name: Option<SimilarityFunction>,
    truncate_dim: Option<usize>,
    activation_fn: Option<String>,
}

#[derive(Deserialize, Default)]
struct TransformerSettings {
    max_seq_length: Option<usize>,
    transformer_task: Option<String>,
    do_lower_case: Option<bool>,
    modality_config: Option<BTreeMap<String, Value>>,
    processing_kwargs: Option<Value>,
}

/// Reads files of a folder, checking each against the table of its keys.
struct Reader<'a> {
    dir: &'a Path,
    warnings: &'a mut Vec<Warning>,
}

impl Reader<'_> {
    /// A file's content, if the file exists.
    fn object(&mut self, path: &Path, table: &[Key]) -> Result<Option<Value>, CheckpointError> {
        let Some(content) = files::read_json_if_there::<Value>(path)? else { return Ok(None) };
        ConfigFile { dir: self.dir, path }.check(&content, &[table], self.warnings)?;
        Ok(Some(content))
    }

    /// A file's content, deserialised, if the file exists.
    fn read<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &Path,
        table: &[Key],
    ) -> Result<Option<T>, CheckpointError> {
        let Some(content) = self.object(path, table)? else { return Ok(None) };
        serde_path_to_error::deserialize(content)
            .map(Some)
            .map_err(|error| CheckpointError::new(path, format!("unexpected content: {error}")))
    }

    /// As [`read`](Self::read), for a file that must exist.
    fn read_needed<T: serde::de::DeserializeOwned>(
        &mut self,
        path: &Path,
        table: &[Key],
    ) -> Result<T, CheckpointError> {
        self.read(path, table)?.ok_or_else(|| CheckpointError::new(path, "the file is missing"))
    }
}

impl SentenceTransformers {
    /// Reads `modules.json` and the files it names; `None` if there is none.
    ///
    /// # Errors
    /// An unknown module, pooling or activation, modules in an order that makes no sense, a path
    /// outside the folder, or a file that contradicts another.
    pub fn open(dir: &Path, warnings: &mut Vec<Warning>) -> Result<Option<Self>, CheckpointError> {
        let path = dir.join("modules.json");
        if !is_there(&path) {
            return Ok(None);
        }
        let mut reader = Reader { dir, warnings };
        let mut this = Self::with_settings(&mut reader)?;
        let entries: Vec<Value> = files::read_json(&path)?;
        let mut found_transformer = false;
        let mut names = Vec::new();
        for entry in &entries {
            ConfigFile { dir, path: &path }.check(entry, &[tables::MODULE], reader.warnings)?;
            let module = ModuleEntry::deserialize(entry)
                .map_err(|error| CheckpointError::new(&path, format!("a module: {error}")))?;
            // If two have the same name, sentence-transformers runs only one of them.
            if let Some(name) = module.name {
                if names.contains(&name) {
                    let problem = format!("two modules have the name {name}; give each its own");
                    return Err(CheckpointError::new(path, problem));
                }
                names.push(name);
            }
            let folder = within(dir, &path, &module.path)?;
            let kind = modules::kind(&path, &module.kind)?;
            let is_first = !std::mem::replace(&mut found_transformer, true);
            let begins = matches!(kind, ModuleKind::Transformer | ModuleKind::StaticEmbedding);
            if is_first != begins {
                let problem = format!(
                    "{}: the first module, and no other, must be a Transformer or StaticEmbedding",
                    module.kind
                );
                return Err(CheckpointError::new(path, problem));
            }
            this.gives_words |= module.kind.ends_with(".MLMTransformer");
            this.add(kind, folder, &mut reader)?;
        }
        if !found_transformer {
            let problem = "it names neither a Transformer nor a StaticEmbedding";
            return Err(CheckpointError::new(path, problem));
        }
        modules::check_order(&path, &this)?;
        Ok(Some(this))
    }

    /// Reads the settings of the whole chain.
    fn with_settings(reader: &mut Reader<'_>) -> Result<Self, CheckpointError> {
        let path = reader.dir.join(SETTINGS);
        let settings: ChainSettings =
            reader.read(&path, tables::SENTENCE_TRANSFORMERS)?.unwrap_or_default();
        let prompts: BTreeMap<String, String> = settings
            .prompts
            .unwrap_or_default()
            .into_iter()
            .map(|(name, prompt)| (name, prompt.unwrap_or_default()))
            .collect();
        if let Some(name) = &settings.default_prompt_name
            && !prompts.contains_key(name)
        {
            let problem = format!("default_prompt_name {name:?} is not among its prompts");
            return Err(CheckpointError::new(path, problem));
        }
        Ok(Self {
            prompts,
            default_prompt_name: settings.default_prompt_name,
            similarity: settings.similarity_fn_name.unwrap_or_default(),
            truncate_dim: settings.truncate_dim,
            activation_fn: settings.activation_fn,
            is_cross_encoder: settings.model_type.as_deref() == Some("CrossEncoder"),
            is_embedder: settings.model_type.is_none_or(|class| class == "SentenceTransformer"),
            ..Self::default()
        })
    }

    fn add(
        &mut self,
        kind: ModuleKind,
        folder: PathBuf,
        reader: &mut Reader<'_>,
    ) -> Result<(), CheckpointError> {
        let config = folder.join("config.json");
        match kind {
            ModuleKind::Transformer => self.set_transformer(folder, reader)?,
            ModuleKind::StaticEmbedding => {
                (self.transformer_dir, self.is_static) = (folder, true);
                let (methods, include_prompt) = (vec![Pooling::Mean], true);
                self.steps.push(ModuleStep::Pool(PoolingModule { methods, include_prompt }));
            }
            ModuleKind::TanhQuantizer => self.steps.push(ModuleStep::TanhInt8),
            ModuleKind::Pooling => {
                self.steps.push(ModuleStep::Pool(modules::pooling(&config, reader)?))
            }
            ModuleKind::Dense => self.steps.push(modules::dense(folder, reader)?),
            ModuleKind::Normalize => {
                self.steps.push(ModuleStep::Normalize(modules::normalize(&config, reader)?))
            }
            ModuleKind::Dropout => modules::dropout(&config, self, reader)?,
            ModuleKind::LayerNorm => self.steps.push(modules::layer_norm(folder, reader)?),
            ModuleKind::SpladePooling => self.splade = Some(modules::splade(&config, reader)?),
            ModuleKind::LogitScore => {
                self.logit_score = Some(reader.read_needed(&config, tables::LOGIT_SCORE)?);
            }
        }
        Ok(())
    }

    fn set_transformer(
        &mut self,
        folder: PathBuf,
        reader: &mut Reader<'_>,
    ) -> Result<(), CheckpointError> {
        for name in LENGTH_FILES {
            let path = folder.join(name);
            let Some(content) = reader.object(&path, tables::TRANSFORMER)? else { continue };
            let settings: TransformerSettings = serde_path_to_error::deserialize(&content)
                .map_err(|error| {
                    CheckpointError::new(&path, format!("unexpected content: {error}"))
                })?;
            (self.tokens_max, self.lower_case) =
                (settings.max_seq_length, settings.do_lower_case.unwrap_or(false));
            let kinds = settings.modality_config;
            // Files with a task and without this list are of an older layout, for texts only.
            let texts_only = settings.transformer_task.is_some().then_some(false);
            let takes_messages = kinds.as_ref().map(|kinds| kinds.contains_key("message"));
            self.takes_messages = takes_messages.or(texts_only);
            let message = kinds.as_ref().and_then(|kinds| kinds.get("message"));
            self.message_format =
                message.and_then(|message| message["format"].as_str()).map(str::to_owned);
            let chat = settings.processing_kwargs.as_ref().map(|all| &all["chat_template"]);
            self.add_generation_prompt =
                chat.is_some_and(|chat| chat["add_generation_prompt"] == true);
            let kinds = kinds.iter().flat_map(BTreeMap::values);
            let outputs = kinds.filter_map(|kind| kind["method_output_name"].as_str());
            self.outputs = outputs.map(str::to_owned).collect();
            self.gives_words |= settings.transformer_task.as_deref() == Some("fill-mask");
            self.transformer_task = settings.transformer_task;
            if content.as_object().is_some_and(|keys| !keys.is_empty()) {
                break;
            }
        }
        self.transformer_dir = folder;
        Ok(())
    }

    /// A key in these files that sentence-transformers' `CrossEncoder` would not read: unless they
    /// are marked as a cross-encoder's, it loads the transformer alone, with defaults.
    pub fn unread_by_cross_encoder(&self) -> Option<&'static str> {
        match self {
            Self { is_cross_encoder: true, .. } => None,
            Self { activation_fn: Some(_), .. } => Some("activation_fn"),
            Self { tokens_max: Some(_), .. } => Some("max_seq_length"),
            Self { lower_case: true, .. } => Some("do_lower_case"),
            _ => None,
        }
    }

    /// How tokens are pooled, if there is a pooling module.
    pub fn pooling(&self) -> Option<&PoolingModule> {
        self.steps.iter().find_map(|step| match step {
            ModuleStep::Pool(pooling) => Some(pooling),
            _ => None,
        })
    }

    /// Whether vectors are normalised to unit length at the end.
    pub fn normalizes(&self) -> bool {
        matches!(self.steps.last(), Some(ModuleStep::Normalize(Subject::Sentence)))
    }
}
