//! The settings of `serve` as flags, environment variables and file keys, in one list.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use proxima_models::readout::Pooling;
use proxima_models::{Precision, Task};
use serde::Deserialize;

use super::{Bytes, Seconds};
use crate::http::{LogRequests, TokenIds};
use crate::logging::LogFormat;

/// A key that never appears in logs.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Values from a file or a list may carry whitespace.
        Ok(Self(text.trim().to_owned()))
    }
}

/// Precision of the linear layers, by the names that other tools have for it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionName {
    /// As stored in the checkpoint
    Auto,
    /// Weights as they are stored, 32-bit activations (also f32)
    #[value(aliases = ["f32", "fp32", "float"])]
    #[serde(alias = "f32", alias = "fp32", alias = "float")]
    Float32,
    /// bfloat16 weights and activations (also bf16)
    #[value(alias = "bf16")]
    #[serde(alias = "bf16")]
    Bfloat16,
    /// IEEE half weights (also f16, fp16, half)
    #[value(aliases = ["f16", "fp16", "half"])]
    #[serde(alias = "f16", alias = "fp16", alias = "half")]
    Float16,
    /// 8-bit weights and activations
    Int8,
}

impl PrecisionName {
    /// The precision; `None` means the checkpoint's.
    pub fn precision(self) -> Option<Precision> {
        match self {
            Self::Auto => None,
            Self::Float32 => Some(Precision::Float32),
            Self::Bfloat16 => Some(Precision::Bfloat16),
            Self::Float16 => Some(Precision::Float16),
            Self::Int8 => Some(Precision::Int8),
        }
    }
}

/// How tokens are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum PoolingName {
    /// The first token
    Cls,
    /// The mean of all tokens
    Mean,
    /// The last token
    #[value(alias = "last-token")]
    #[serde(alias = "last-token")]
    LastToken,
    /// The componentwise maximum
    Max,
    /// The mean weighted by position
    WeightedMean,
    /// The sum divided by the square root of the length
    MeanSqrtLen,
    /// Word weights: the same as --task sparse
    Splade,
}

impl PoolingName {
    /// How tokens are pooled into one vector; `None` if they are not.
    pub fn of_vectors(self) -> Option<Pooling> {
        Some(match self {
            Self::Cls => Pooling::Cls,
            Self::Mean => Pooling::Mean,
            Self::LastToken => Pooling::Last,
            Self::Max => Pooling::Max,
            Self::WeightedMean => Pooling::WeightedMean,
            Self::MeanSqrtLen => Pooling::MeanSqrtLength,
            Self::Splade => return None,
        })
    }
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskName {
    /// Embeds texts
    #[value(alias = "embedding")]
    #[serde(alias = "embedding")]
    Embed,
    /// Scores documents for queries
    Rerank,
    /// Embeds texts and ranks listwise
    E2rank,
    /// Ranks lists of documents that it reads with the query (jina-reranker-v3)
    #[serde(rename = "rank-lists")]
    RankLists,
    /// Classifies texts
    Classify,
    /// Word weights from the head of a masked language model (SPLADE)
    Sparse,
}

impl From<TaskName> for Task {
    fn from(name: TaskName) -> Self {
        match name {
            TaskName::Embed => Self::Embed,
            TaskName::Rerank => Self::Rerank,
            TaskName::E2rank => Self::E2Rank,
            TaskName::RankLists => Self::RankLists,
            TaskName::Classify => Self::Classify,
            TaskName::Sparse => Self::Sparse,
        }
    }
}

/// What is done with token ids in place of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenIdsName {
    /// Accepts them everywhere, as ids of the model's own tokenizer
    Allow,
    /// Refuses them everywhere
    Refuse,
}

impl From<TokenIdsName> for TokenIds {
    fn from(name: TokenIdsName) -> Self {
        match name {
            TokenIdsName::Allow => Self::Allow,
            TokenIdsName::Refuse => Self::Refuse,
        }
    }
}

macro_rules! serve_args {
    ($($(#[$attribute:meta])* $name:ident: $kind:ty,)*) => {
        /// The settings of `serve`, each where it was given. Keys of a TOML file have the flags'
        /// names.
        #[derive(Debug, Clone, Default, Args, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct ServeArgs {
            /// Read settings from a TOML file; flags and variables override it
            #[arg(long, env = "PROXIMA_CONFIG", value_name = "FILE")]
            #[serde(skip)]
            pub config: Option<PathBuf>,
            /// A model, as for --model; models in the environment and the file are ignored
            #[arg(value_name = "MODEL")]
            #[serde(skip)]
            pub models: Vec<String>,
            $($(#[$attribute])* pub $name: Option<$kind>,)*
        }

        impl ServeArgs {
            /// These settings, falling back to those of `other`.
            pub fn or(self, other: Self) -> Self {
                Self {
                    config: self.config,
                    models: self.models,
                    $($name: self.$name.or(other.$name),)*
                }
            }
        }
    };
}

serve_args! {
    /// A model to serve: a folder or a Hugging Face Hub id, optionally under another name; repeat
    /// for several, the first is the default
    #[arg(long, env = "PROXIMA_MODEL", value_name = "[NAME=]ID[@REVISION]|PATH", value_delimiter = ',')]
    model: Vec<String>,
    /// Branch, tag or commit of Hub models [default: main]
    #[arg(long, env = "PROXIMA_REVISION", help_heading = "Model")]
    revision: String,
    /// Precision of the linear layers [default: the checkpoint's]
    #[arg(long, env = "PROXIMA_DTYPE", help_heading = "Model")]
    dtype: PrecisionName,
    /// What the model is for [default: determined by its files]
    #[arg(long, env = "PROXIMA_TASK", help_heading = "Model")]
    task: TaskName,
    /// How tokens are pooled [default: the checkpoint's]
    #[arg(long, env = "PROXIMA_POOLING", help_heading = "Model")]
    pooling: PoolingName,
    /// Refuse a checkpoint with an unknown configuration key, instead of warning
    #[arg(
        long,
        env = "PROXIMA_STRICT_CHECKPOINT",
        num_args = 0..=1,
        default_missing_value = "true",
        help_heading = "Model",
    )]
    strict_checkpoint: bool,
    /// Longest input in tokens [default: the checkpoint's]
    #[arg(long, env = "PROXIMA_MAX_LENGTH", value_name = "TOKENS", help_heading = "Model")]
    max_length: usize,
    /// Where to compute: cpu, cuda, cuda:N, several as cuda:0,cuda:1 or cuda:all, metal, or auto
    /// for a GPU if there is one [default: cpu]
    #[arg(long, env = "PROXIMA_DEVICE", help_heading = "Model")]
    device: String,
    /// Fraction of an NVIDIA GPU's memory for the tensors of all models, above 0 and at most 1
    /// [default: no limit]
    #[arg(
        long,
        env = "PROXIMA_GPU_MEMORY_FRACTION",
        value_name = "FRACTION",
        help_heading = "Model",
    )]
    gpu_memory_fraction: f64,
    /// Compute threads [default: all physical cores]
    #[arg(long, env = "PROXIMA_THREADS", help_heading = "Model")]
    threads: usize,
    /// Use only downloaded models, without network access
    #[arg(
        long,
        env = "PROXIMA_OFFLINE",
        num_args = 0..=1,
        default_missing_value = "true",
        help_heading = "Model",
    )]
    offline: bool,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, env = "PROXIMA_HOST", help_heading = "Server")]
    host: String,
    /// Port to listen on, 0 for any free one [default: 8080]
    #[arg(long, env = "PROXIMA_PORT", help_heading = "Server")]
    port: u16,
    /// Port for gRPC, 0 for any free one [default: none, no gRPC]
    #[arg(long, env = "PROXIMA_GRPC_PORT", value_name = "PORT", help_heading = "Server")]
    grpc_port: u16,
    /// Require this key; repeat or separate with commas for several
    #[arg(
        long,
        env = "PROXIMA_API_KEY",
        hide_env_values = true,
        value_delimiter = ',',
        help_heading = "Server",
    )]
    api_key: Vec<Secret>,
    /// Truncate inputs that are too long unless a request says otherwise [default: true]
    #[arg(
        long,
        env = "PROXIMA_AUTO_TRUNCATE",
        num_args = 0..=1,
        default_missing_value = "true",
        help_heading = "Server",
    )]
    auto_truncate: bool,
    /// Let web pages of this origin (`https://app.example.com`, or `*` for any) call the server
    /// from a browser; repeat or separate with commas for several [default: none]
    #[arg(
        long,
        env = "PROXIMA_CORS_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        help_heading = "Server",
    )]
    cors_allow_origin: Vec<String>,
    /// A host name of this server, besides those of the local machine, at which its own pages may
    /// call it from a browser without a key; repeat or separate with commas for several
    #[arg(
        long,
        env = "PROXIMA_ALLOWED_HOST",
        value_name = "HOST[:PORT]",
        value_delimiter = ',',
        help_heading = "Server",
    )]
    allowed_host: Vec<String>,
    /// Accept token ids in place of texts, or refuse them [default: /v1/embeddings accepts those
    /// with the special tokens of the model's tokenizer; the paths of text-embeddings-inference and
    /// gRPC accept all]
    #[arg(long, env = "PROXIMA_TOKEN_IDS", help_heading = "Server")]
    token_ids: TokenIdsName,
    /// Log as text or json [default: text]
    #[arg(long, env = "PROXIMA_LOG_FORMAT", help_heading = "Server")]
    log_format: LogFormat,
    /// What to log: error, warn, info, debug, or a tracing filter [default: info]
    #[arg(long, env = "PROXIMA_LOG_LEVEL", help_heading = "Server")]
    log_level: String,
    /// Log one line per request: all, errors or off [default: all]
    #[arg(long, env = "PROXIMA_LOG_REQUESTS", help_heading = "Server")]
    log_requests: LogRequests,
    /// Maximum tokens per batch; devices may take fewer [default: on a CPU 256 per thread]
    #[arg(long, env = "PROXIMA_MAX_BATCH_TOKENS", value_name = "TOKENS", help_heading = "Limits")]
    max_batch_tokens: usize,
    /// Target time of the longest batch, so that small requests do not wait longer [default: 250]
    #[arg(long, env = "PROXIMA_BATCH_TIME_MS", value_name = "MS", help_heading = "Limits")]
    batch_time_ms: u64,
    /// Maximum tokens waiting; requests beyond that are refused with 429 [default: 1048576]
    #[arg(long, env = "PROXIMA_MAX_QUEUE_TOKENS", value_name = "TOKENS", help_heading = "Limits")]
    max_queue_tokens: usize,
    /// Time a request may wait before any of it is computed; requests expected to wait nearly that
    /// long, or that have waited that long, are refused with 429 [default: 30]
    #[arg(long, env = "PROXIMA_MAX_QUEUE_TIME", value_name = "SECONDS", help_heading = "Limits")]
    max_queue_time: Seconds,
    /// Maximum inputs per request [default: 2048]
    #[arg(long, env = "PROXIMA_MAX_INPUTS", value_name = "COUNT", help_heading = "Limits")]
    max_inputs: usize,
    /// Tokenizer threads [default: all cores]
    #[arg(
        long,
        env = "PROXIMA_TOKENIZATION_THREADS",
        value_name = "COUNT",
        help_heading = "Limits",
    )]
    tokenization_threads: usize,
    /// Cache vectors of recent inputs, up to this size [default: 0, off]
    #[arg(long, env = "PROXIMA_CACHE_BYTES", value_name = "SIZE", help_heading = "Limits")]
    cache_bytes: Bytes,
    /// Compute common prefixes of sequences (a reranker's instruction and query) once, and cache
    /// their keys and values up to this size; 0 turns it off [default: 256MiB]
    #[arg(long, env = "PROXIMA_PREFIX_BYTES", value_name = "SIZE", help_heading = "Limits")]
    prefix_bytes: Bytes,
    /// Maximum size of a request body [default: 32MiB]
    #[arg(long, env = "PROXIMA_MAX_BODY_BYTES", value_name = "SIZE", help_heading = "Limits")]
    max_body_bytes: Bytes,
    /// Maximum size of all bodies being received; more are refused with 429 [default: 256MiB]
    #[arg(
        long,
        env = "PROXIMA_MAX_BODIES_BYTES",
        value_name = "SIZE",
        help_heading = "Limits",
    )]
    max_bodies_bytes: Bytes,
    /// Time in which a body must end or have brought 4 KiB per second; then as long again [default:
    /// 20]
    #[arg(long, env = "PROXIMA_BODY_TIMEOUT", value_name = "SECONDS", help_heading = "Limits")]
    body_timeout: Seconds,
    /// Maximum size of all responses being written or waiting to be read [default: 256MiB]
    #[arg(long, env = "PROXIMA_MAX_ANSWER_BYTES", value_name = "SIZE", help_heading = "Limits")]
    max_answer_bytes: Bytes,
    /// Time after which a connection or stream is closed if its client reads nothing [default: 30]
    #[arg(long, env = "PROXIMA_WRITE_TIMEOUT", value_name = "SECONDS", help_heading = "Limits")]
    write_timeout: Seconds,
    /// A proxy whose x-forwarded-for names the client: an address or a network like 10.0.0.0/8;
    /// repeat or separate with commas for several [default: none, the connection's address counts]
    #[arg(
        long,
        env = "PROXIMA_TRUSTED_PROXY",
        value_name = "ADDRESS",
        value_delimiter = ',',
        help_heading = "Limits",
    )]
    trusted_proxy: Vec<String>,
    /// Fetch images and videos that requests give as URLs from this host (example.com,
    /// *.example.com, or * for any public host; ports 80 and 443 unless it ends in :PORT);
    /// private:HOST:PORT allows one in a private network; repeat or separate with commas for
    /// several [default: none, URLs are refused]
    #[arg(
        long,
        env = "PROXIMA_MEDIA_ALLOW",
        value_name = "HOST",
        value_delimiter = ',',
        help_heading = "Media",
    )]
    media_allow: Vec<String>,
    /// Maximum size of one image or video [default: 32MiB]
    #[arg(long, env = "PROXIMA_MAX_MEDIA_BYTES", value_name = "SIZE", help_heading = "Media")]
    max_media_bytes: Bytes,
    /// Maximum time to fetch one image or video [default: 10]
    #[arg(long, env = "PROXIMA_MEDIA_TIMEOUT", value_name = "SECONDS", help_heading = "Media")]
    media_timeout: Seconds,
    /// Maximum pixels of one image or frame [default: the model's]
    #[arg(long, env = "PROXIMA_MAX_IMAGE_PIXELS", value_name = "COUNT", help_heading = "Media")]
    max_image_pixels: usize,
    /// Cache decoded media of recent requests, up to this size; 0 turns it off
    #[arg(long, env = "PROXIMA_MEDIA_CACHE_BYTES", value_name = "SIZE", help_heading = "Media")]
    media_cache_bytes: Bytes,
    /// The ffmpeg that decodes video files, with ffprobe next to it; off refuses video files
    /// [default: the one in PATH, if any]
    #[arg(long, env = "PROXIMA_FFMPEG", value_name = "PATH|off", help_heading = "Media")]
    ffmpeg: String,
    /// Maximum concurrent requests; more are refused with 429 [default: 512]
    #[arg(
        long,
        env = "PROXIMA_MAX_CONCURRENT_REQUESTS",
        value_name = "COUNT",
        help_heading = "Limits",
    )]
    max_concurrent_requests: usize,
    /// Maximum time of a request [default: 600]
    #[arg(long, env = "PROXIMA_REQUEST_TIMEOUT", value_name = "SECONDS", help_heading = "Limits")]
    request_timeout: Seconds,
    /// Time to keep answering after a signal to stop, no longer ready and closing connections, so
    /// that load balancers first send requests elsewhere [default: 0]
    #[arg(long, env = "PROXIMA_SHUTDOWN_DELAY", value_name = "SECONDS", help_heading = "Limits")]
    shutdown_delay: Seconds,
    /// Time accepted requests have to finish at shutdown [default: 60]
    #[arg(long, env = "PROXIMA_DRAIN_TIMEOUT", value_name = "SECONDS", help_heading = "Limits")]
    drain_timeout: Seconds,
    /// Maximum time of a health check, including the running batch [default: 10]
    #[arg(long, env = "PROXIMA_HEALTH_TIMEOUT", value_name = "SECONDS", help_heading = "Limits")]
    health_timeout: Seconds,
}
