//! Settings: flags override the environment, which overrides the file, which overrides defaults;
//! read once, checked as a whole.
//!
//! The only module that reads the environment. Must not know: how anything is served.

mod args;
mod check;
mod example;
mod expand;
mod file;
mod known;
mod kubelet;
mod media;
mod migrate;
mod models;
mod size;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proxima_engine::EngineConfig;
use proxima_models::{DeviceChoice, LoadOptions, Task};

use crate::command::CommandError;
use crate::http::{AddressRange, BrowserSettings, HttpConfig, TokenIds};
use crate::hub::{self, HubSettings};
use crate::logging::LogSettings;
use crate::media::MediaSettings;

pub use args::{PoolingName, PrecisionName, Secret, ServeArgs, TaskName};
pub use example::example;
pub use known::meant_flag;
pub use kubelet::without_kubelet;
pub use migrate::{notice as other_servers, page as migrate_page, rewritten};
use models::model_sources;
pub use models::{ModelOrigin, ModelSource, model_id, model_source};
pub use size::{Bytes, Seconds};

/// Our variables that are not settings of `serve`.
const OTHER_VARIABLES: [&str; 4] =
    ["PROXIMA_CONFIG", "PROXIMA_ISA", "PROXIMA_CACHE", "PROXIMA_BUILD_COMMIT"];

/// The default address to listen on.
const HOST: &str = "127.0.0.1";
const PORT: u16 = 8080;

/// The environment, read once.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// The environment of this process, without entries that are not Unicode.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        let text = variables.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self { variables: text.collect() }
    }

    /// An environment of these variables.
    pub fn with(variables: &[(&str, &str)]) -> Self {
        let owned = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Self { variables: owned.collect() }
    }

    /// The value of a variable, if set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a variable is set to a value that means yes.
    fn is_on(&self, name: &str) -> bool {
        let value = self.get(name).unwrap_or_default().to_ascii_lowercase();
        matches!(value.as_str(), "1" | "true" | "yes" | "on")
    }
}

/// Everything `serve` needs.
#[derive(Debug, Clone)]
pub struct ServeSettings {
    /// The models, the default first.
    pub models: Vec<ModelSource>,
    /// Branch, tag or commit of models of the Hub.
    pub revision: String,
    /// How models are loaded.
    pub load: LoadOptions,
    /// Where each model computes: one worker per device.
    pub devices: Vec<DeviceChoice>,
    /// Host to listen on.
    pub host: String,
    /// Port to listen on; 0 takes any free port.
    pub port: u16,
    /// Port for gRPC, if it is served; 0 takes any free port.
    pub grpc_port: Option<u16>,
    /// Threads of the kernels; all cores if absent.
    pub threads: Option<usize>,
    /// Limits of every engine.
    pub engine: EngineConfig,
    /// Limits of the HTTP server.
    pub http: HttpConfig,
    /// Where models are downloaded from.
    pub hub: HubSettings,
    /// The log.
    pub log: LogSettings,
}

/// The Hub's settings, from the variables that huggingface_hub reads, in its order of precedence.
pub fn hub_settings(environment: &Environment) -> HubSettings {
    let get = |names: &[&str]| names.iter().find_map(|name| environment.get(name));
    let home = get(&["HOME", "USERPROFILE"]).unwrap_or(".");
    let path = |text: &str| PathBuf::from(expand::path(text, home, environment));
    let caches = get(&["XDG_CACHE_HOME"]).map_or_else(|| Path::new(home).join(".cache"), path);
    let hf_home = get(&["HF_HOME"]).map_or_else(|| caches.join("huggingface"), path);
    let cache = get(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]);
    let token_file = get(&["HF_TOKEN_PATH"]).map_or_else(|| hf_home.join("token"), path);
    let stored = std::fs::read_to_string(token_file).unwrap_or_default();
    let given = get(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]).map(str::to_owned);
    let token = given.unwrap_or(stored).trim().to_owned();
    let token = Some(token).filter(|token| !token.is_empty());
    let seconds = |name: &str| {
        let seconds = environment.get(name).and_then(|text| text.trim().parse().ok());
        seconds.filter(|seconds| *seconds > 0).map_or(hub::TIMEOUT, Duration::from_secs)
    };
    // The second counts only if the first is not set at all.
    let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
    let offline = offline.into_iter().find(|name| environment.get(name).is_some());
    HubSettings {
        cache: cache.map_or_else(|| hf_home.join("hub"), path),
        endpoint: environment.get("HF_ENDPOINT").map(|url| url.trim_end_matches('/').to_owned()),
        token: token.filter(|_| !environment.is_on("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
        offline: offline.is_some_and(|name| environment.is_on(name)),
        etag_timeout: seconds("HF_HUB_ETAG_TIMEOUT"),
        download_timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT"),
    }
}

/// The settings of `serve`: flags and environment as parsed, then the file they name.
///
/// # Errors
/// Usage errors: unknown or contradictory settings.
pub fn settings(
    flags: ServeArgs,
    environment: &Environment,
) -> Result<ServeSettings, CommandError> {
    check_variables(environment)?;
    let flags = with_positional(flags);
    let arguments = match &flags.config {
        Some(path) => flags.clone().or(file::read(path)?),
        None => flags,
    };
    let models = model_sources(&arguments.model.clone().unwrap_or_default());
    let models = models.map_err(|error| match (&arguments.model, other_servers(environment)) {
        // The model may be named in another server's variable.
        (None, Some(notice)) => CommandError::usage(format!("{}; {notice}", error.message)),
        _ => error,
    })?;
    let media = media::settings(&arguments, environment)?;
    let browsers = BrowserSettings::parse(
        arguments.cors_allow_origin.as_deref().unwrap_or_default(),
        arguments.allowed_host.as_deref().unwrap_or_default(),
    );
    let browsers = browsers.map_err(CommandError::usage)?;
    let http = HttpConfig { media, browsers, ..http_config(&arguments)? };
    let devices = devices(arguments.device.as_deref())?;
    let settings = ServeSettings {
        models,
        revision: arguments.revision.clone().unwrap_or_else(|| "main".into()),
        load: LoadOptions {
            task: task(&arguments)?,
            strict_checkpoint: arguments.strict_checkpoint.unwrap_or(false),
            device_memory: device_memory(arguments.gpu_memory_fraction, &devices)?,
            ..load_options(arguments.dtype, arguments.pooling, arguments.max_length)
        },
        devices,
        host: arguments.host.clone().unwrap_or_else(|| HOST.into()),
        port: arguments.port.unwrap_or(PORT),
        grpc_port: arguments.grpc_port,
        threads: arguments.threads,
        engine: engine_config(&arguments, &http),
        http,
        hub: {
            let hub = hub_settings(environment);
            HubSettings { offline: hub.offline || arguments.offline.unwrap_or(false), ..hub }
        },
        log: LogSettings {
            format: arguments.log_format.unwrap_or_default(),
            level: log_level(arguments.log_level.as_deref().unwrap_or("info"))?,
        },
    };
    check::check(&settings)?;
    Ok(settings)
}

/// Where `serve` listens with these settings and the file they name.
///
/// # Errors
/// The file cannot be read, or the port is 0, which is a different one each time.
pub fn listen_address(flags: ServeArgs) -> Result<(String, u16), CommandError> {
    let arguments = match &flags.config {
        Some(path) => flags.clone().or(file::read(path)?),
        None => flags,
    };
    let port = arguments.port.unwrap_or(PORT);
    if port == 0 {
        return Err(CommandError::usage("port 0 means any free port; give the actual one"));
    }
    Ok((arguments.host.unwrap_or_else(|| HOST.into()), port))
}

/// Flags with the positional models, which replace `--model`.
fn with_positional(mut flags: ServeArgs) -> ServeArgs {
    if !flags.models.is_empty() {
        flags.model = Some(std::mem::take(&mut flags.models));
    }
    flags
}

/// The log filter in `tracing`'s syntax. Other servers' level names are translated or refused:
/// `tracing` would take them for module names and log nothing.
///
/// # Errors
/// A word that is not a level.
fn log_level(level: &str) -> Result<String, CommandError> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    match level.trim().to_ascii_lowercase().as_str() {
        "warning" => Ok("warn".into()),
        "critical" => Ok("error".into()),
        word if !word.contains(['=', ',', '[', ':']) && !LEVELS.contains(&word) => {
            Err(CommandError::usage(format!(
                "--log-level {level:?} is neither one of {} nor a filter such as proxima=debug",
                LEVELS.join(", ")
            )))
        }
        _ => Ok(level.to_owned()),
    }
}

/// Media settings for commands that have none of their own.
///
/// # Errors
/// As for `serve`.
pub fn media_settings(environment: &Environment) -> Result<MediaSettings, CommandError> {
    media::settings(&ServeArgs::default(), environment)
}

/// The named devices, which must be available; the CPU if none is named.
///
/// # Errors
/// An unknown name, an unavailable device, or devices that cannot be combined.
pub fn devices(names: Option<&str>) -> Result<Vec<DeviceChoice>, CommandError> {
    let Some(names) = names else { return Ok(vec![DeviceChoice::default()]) };
    let devices = DeviceChoice::several(names).map_err(CommandError::usage)?;
    for device in &devices {
        device.check().map_err(|error| CommandError::usage(format!("device {device}: {error}")))?;
    }
    Ok(devices)
}

/// The fraction of the devices' memory that may be used.
///
/// # Errors
/// A fraction that is not above 0 and at most 1, or a device whose memory cannot be limited.
pub fn device_memory(
    fraction: Option<f64>,
    devices: &[DeviceChoice],
) -> Result<Option<f64>, CommandError> {
    let Some(part) = fraction else { return Ok(None) };
    if !(part > 0.0 && part <= 1.0) {
        let message = format!("gpu-memory-fraction must be above 0 and at most 1, not {part}");
        return Err(CommandError::usage(message));
    }
    if let Some(device) = devices.iter().find(|device| !device.limits_memory()) {
        let message = format!("gpu-memory-fraction is for NVIDIA GPUs; the device is {device}");
        return Err(CommandError::usage(message));
    }
    Ok(Some(part))
}

/// How models are loaded.
pub fn load_options(
    precision: Option<PrecisionName>,
    pooling: Option<PoolingName>,
    tokens_max: Option<usize>,
) -> LoadOptions {
    LoadOptions {
        precision: precision.and_then(PrecisionName::precision),
        pooling: pooling.and_then(PoolingName::of_vectors),
        task: (pooling == Some(PoolingName::Splade)).then_some(Task::Sparse),
        tokens_max,
        ..LoadOptions::default()
    }
}

/// The models' task, as stated by `task` or `pooling`.
///
/// # Errors
/// Two settings that contradict each other.
fn task(arguments: &ServeArgs) -> Result<Option<Task>, CommandError> {
    let task = arguments.task.map(Task::from);
    if arguments.pooling != Some(PoolingName::Splade) {
        return Ok(task);
    }
    match task {
        None | Some(Task::Sparse) => Ok(Some(Task::Sparse)),
        Some(_) => Err(CommandError::usage("--pooling splade needs --task sparse, or no --task")),
    }
}

/// Refuses variables with our prefix that nothing reads: a typo must not go unnoticed.
fn check_variables(environment: &Environment) -> Result<(), CommandError> {
    let flags = known::flags();
    let known: Vec<&str> =
        flags.iter().filter_map(|flag| flag.get_env()?.to_str()).chain(OTHER_VARIABLES).collect();
    let ours = environment.variables.iter().filter(|(name, _)| name.starts_with("PROXIMA_"));
    let mut ours = ours.filter(|(name, value)| !kubelet::is_injected(name, value));
    match ours.find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => {
            let flag = name.trim_start_matches("PROXIMA_").to_lowercase().replace('_', "-");
            let written = |flag: &str| format!("PROXIMA_{}", flag.to_uppercase().replace('-', "_"));
            let hint = known::hint(&flag, written);
            let known = known.join(", ");
            let message = format!("unknown variable {name}{hint}; known are {known}");
            Err(CommandError::usage(message))
        }
        None => Ok(()),
    }
}

fn engine_config(arguments: &ServeArgs, http: &HttpConfig) -> EngineConfig {
    let default = EngineConfig::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let queue_tokens_max = arguments.max_queue_tokens.unwrap_or(default.queue_tokens_max);
    EngineConfig {
        batch_tokens_max: arguments
            .max_batch_tokens
            .unwrap_or(default.batch_tokens_max.min(queue_tokens_max)),
        batch_time_target: arguments
            .batch_time_ms
            .map_or(default.batch_time_target, Duration::from_millis),
        queue_tokens_max,
        queue_time_max: arguments.max_queue_time.map_or(default.queue_time_max, Seconds::duration),
        // Whatever a request may contain must also fit here.
        text_bytes_max: http.body_bytes_max.saturating_add(http.media.request_bytes_max),
        inputs_max: arguments.max_inputs.unwrap_or(default.inputs_max),
        tokenization_threads: arguments.tokenization_threads.unwrap_or(cores),
        cache_bytes_max: arguments.cache_bytes.map_or(0, |bytes| bytes.0),
        prefix_bytes_max: arguments.prefix_bytes.map_or(default.prefix_bytes_max, |bytes| bytes.0),
        ..default
    }
}

fn http_config(arguments: &ServeArgs) -> Result<HttpConfig, CommandError> {
    let default = HttpConfig::default();
    let seconds = |given: Option<Seconds>, default| given.map_or(default, Seconds::duration);
    let size = |given: Option<Bytes>, default| given.map_or(default, |bytes| bytes.0);
    let proxies = arguments.trusted_proxy.iter().flatten().map(|text| text.parse());
    let trusted_proxies = proxies
        .collect::<Result<Vec<AddressRange>, String>>()
        .map_err(|problem| CommandError::usage(format!("trusted-proxy: {problem}")))?;
    Ok(HttpConfig {
        api_keys: arguments
            .api_key
            .clone()
            .unwrap_or_default()
            .iter()
            // As flag and variable do; and keys read from files end in a newline.
            .flat_map(|key| key.0.split(','))
            .map(|key| key.trim().to_owned())
            .collect(),
        body_bytes_max: size(arguments.max_body_bytes, default.body_bytes_max),
        bodies_bytes_max: size(arguments.max_bodies_bytes, default.bodies_bytes_max),
        body_timeout: seconds(arguments.body_timeout, default.body_timeout),
        answer_bytes_max: size(arguments.max_answer_bytes, default.answer_bytes_max),
        write_timeout: seconds(arguments.write_timeout, default.write_timeout),
        trusted_proxies,
        requests_max: arguments.max_concurrent_requests.unwrap_or(default.requests_max),
        request_timeout: seconds(arguments.request_timeout, default.request_timeout),
        shutdown_delay: seconds(arguments.shutdown_delay, default.shutdown_delay),
        drain_timeout: seconds(arguments.drain_timeout, default.drain_timeout),
        health_timeout: seconds(arguments.health_timeout, default.health_timeout),
        auto_truncate: arguments.auto_truncate.unwrap_or(default.auto_truncate),
        token_ids: arguments.token_ids.map_or(default.token_ids, TokenIds::from),
        log_requests: arguments.log_requests.unwrap_or_default(),
        browsers: default.browsers,
        media: default.media,
    })
}

#[cfg(test)]
mod tests;
