//! `proxima serve`: loads the models, starts their engines, listens, and stops in good order.
//!
//! Must not know: wire formats.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use proxima_engine::{Engine, Registry, Reload, Replica};
use proxima_models::{Checkpoint, CheckpointError, DeviceChoice, LoadOptions, Model};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::cli::CommandError;
use crate::config::{HubSettings, ModelPlace, ModelSource, Settings};
use crate::http::{self, HttpConfig, Listeners};
use crate::hub::Hub;
use crate::media::{end_programs, media_options};
use crate::metrics::MetricsHub;

/// The folder of a model, downloaded if it is of the Hub.
///
/// # Errors
/// A model that is not to be had.
pub fn folder(
    source: &ModelSource,
    hub: &HubSettings,
    revision: &str,
) -> Result<PathBuf, CommandError> {
    match &source.place {
        ModelPlace::Folder(path) => Ok(path.clone()),
        ModelPlace::Hub(id) => Hub::new(hub).pull(id, revision),
    }
}

/// Loads a model from a folder.
///
/// # Errors
/// What is wrong with the checkpoint.
pub fn load(folder: &std::path::Path, options: &LoadOptions) -> Result<Model, CommandError> {
    let failed = |error: proxima_models::CheckpointError| CommandError::failure(error.to_string());
    let checkpoint = Checkpoint::open(folder).map_err(failed)?;
    let model = Model::load(&checkpoint, options).map_err(failed)?;
    warn_of(folder, &model);
    Ok(model)
}

/// Logs what whoever serves a model should know of its files.
fn warn_of(folder: &Path, model: &Model) {
    for warning in &model.info.warnings {
        tracing::warn!("{}: {warning}", folder.display());
    }
}

/// The model of a folder on each of the devices, with one recipe for all, and how each is loaded
/// anew.
///
/// # Errors
/// As [`load`].
pub fn replicas(
    folder: &Path,
    options: &LoadOptions,
    devices: &[DeviceChoice],
) -> Result<Vec<Replica>, CommandError> {
    let mut replicas: Vec<Replica> = Vec::with_capacity(devices.len());
    for device in devices {
        let options = LoadOptions { device: *device, ..options.clone() };
        let recipe = replicas.first().map(|first| first.model.recipe.clone());
        let failed = |error: CheckpointError| CommandError::failure(error.to_string());
        let checkpoint = Checkpoint::open(folder).map_err(failed)?;
        let model = Model::load_with(&checkpoint, &options, recipe).map_err(failed)?;
        if replicas.is_empty() {
            warn_of(folder, &model);
        }
        let (folder, recipe) = (folder.to_owned(), model.recipe.clone());
        let options = LoadOptions { device: model.device.choice, ..options };
        let reload: Reload =
            Box::new(move || Model::load_with(&Checkpoint::open(&folder)?, &options, Some(recipe)));
        replicas.push(Replica { model, reload: Some(reload) });
    }
    Ok(replicas)
}

/// Serves until the process is told to stop or a device is lost.
///
/// # Errors
/// A port in use, a model that cannot be loaded, a device that failed for good.
pub fn run(settings: Settings) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::failure(format!("no threads: {error}")))?;
    if let Some(threads) = settings.threads {
        proxima_models::set_threads(threads);
    }
    let result = runtime.block_on(serve(settings));
    // Of requests that were cut off.
    end_programs();
    result
}

async fn serve(settings: Settings) -> Result<(), CommandError> {
    // First of all, so that a port in use is known before a long load.
    let (http, local) = listen(&settings.host, settings.port, "--port").await?;
    let grpc = match settings.grpc_port {
        Some(port) => Some(listen(&settings.host, port, "--grpc-port").await?),
        None => None,
    };
    // An ffmpeg that does not run is known before a long load, too.
    let media = media_options(&settings.http.media)
        .map_err(|problem| CommandError::usage(format!("--ffmpeg: {problem}")))?;
    let options = LoadOptions { media, ..settings.load.clone() };
    let metrics = MetricsHub::new();
    let mut engines = Vec::new();
    for source in &settings.models {
        let started = Instant::now();
        let dir = folder(source, &settings.hub, &settings.revision)?;
        let replicas = replicas(&dir, &options, &settings.devices)?;
        let observer = metrics.for_model(&source.name);
        let loaded = started.elapsed();
        let engine = Engine::start_on(replicas, settings.engine.clone(), observer);
        let info = engine.info();
        tracing::info!(
            "model {}: {} ({}) on {} ({}), {}, at most {} tokens, loaded in {:.1} s",
            source.name,
            info.family,
            info.recipe,
            info.device,
            info.isa,
            info.dtype,
            info.tokens_max,
            loaded.as_secs_f64(),
        );
        engines.push((source.name.clone(), engine));
    }
    for (name, engine) in &engines {
        // The first request finds everything warm, and a model that cannot compute is not served.
        let took = engine.check().await.map_err(|error| {
            CommandError::failure(format!("model {name} fails its first forward pass: {error}"))
        })?;
        tracing::debug!("model {name}: first forward pass in {took:?}");
    }
    let registry = Registry::new(engines)
        .map_err(|name| CommandError::usage(format!("two models are named {name:?}")))?;
    let (_, engine) = registry.get(None).expect("a registry has a default");
    tracing::info!(
        "ready on http://{local} (batch {} tokens, queue {} tokens, {} inputs a request, {} requests at a time)",
        engine.config().batch_tokens_max,
        settings.engine.queue_tokens_max,
        settings.engine.inputs_max,
        settings.http.requests_max,
    );
    let grpc = grpc.map(|(listener, local)| {
        tracing::info!("gRPC on {local}");
        listener
    });
    let listeners = Listeners { http, grpc };
    until_stopped(listeners, registry, metrics, settings.http, told_to_stop()).await
}

/// Answers requests until `stop`, or until a device is lost; then what was accepted, as far as it
/// can be.
///
/// # Errors
/// A device that failed for good.
async fn until_stopped(
    listeners: Listeners,
    registry: Registry,
    metrics: Arc<MetricsHub>,
    config: HttpConfig,
    stop: impl Future<Output = ()>,
) -> Result<(), CommandError> {
    let lost = any_lost(&registry);
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = lost => end_at_a_signal(),
        }
    };
    http::serve(listeners, registry.clone(), metrics, config, stop).await;
    tracing::info!("stopped");
    // Also one that was lost while requests were still answered.
    let lost = |(name, engine): (&str, &Engine)| {
        engine.lost().map(|reason| CommandError::device(format!("model {name}: {reason}")))
    };
    registry.iter().find_map(lost).map_or(Ok(()), Err)
}

/// Returns when a device of a model is lost; else never.
fn any_lost(registry: &Registry) -> impl Future<Output = ()> + Send + 'static {
    let mut lost = JoinSet::new();
    for (_, engine) in registry.iter() {
        let engine = engine.clone();
        lost.spawn(async move { drop(engine.wait_lost().await) });
    }
    async move {
        match lost.join_next().await {
            Some(Ok(())) => {}
            // Not even a panic there ends a server whose models work.
            Some(Err(_)) | None => std::future::pending().await,
        }
    }
}

async fn listen(
    host: &str,
    port: u16,
    flag: &str,
) -> Result<(TcpListener, SocketAddr), CommandError> {
    let address = format!("{host}:{port}");
    let failed = |error: std::io::Error| {
        CommandError::failure(format!("cannot listen on {address}: {error}; choose another {flag}"))
    };
    let listener = TcpListener::bind(&address).await.map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

/// Resolves at the first signal to stop; a second one ends the process at once.
async fn told_to_stop() {
    signal().await;
    tracing::info!("stopping: answering what was accepted");
    end_at_a_signal();
}

/// From now on a signal ends the process at once.
fn end_at_a_signal() {
    tokio::spawn(async {
        signal().await;
        tracing::warn!("stopped at once by a signal while stopping");
        end_programs();
        std::process::exit(i32::from(crate::cli::EXIT_FAILURE));
    });
}

/// From now on a signal to stop ends the programs that read videos, too: they are in process groups
/// of their own, which the signals of a terminal do not reach.
///
/// # Errors
/// A system that gives no thread.
pub fn end_programs_by_signal() -> Result<(), CommandError> {
    let failed = |error: std::io::Error| CommandError::failure(format!("no threads: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let wait = move || {
        let number = runtime.block_on(signal());
        end_programs();
        // As shells say it of a process that a signal ended.
        std::process::exit(128 + number);
    };
    std::thread::Builder::new().spawn(wait).map_err(failed)?;
    Ok(())
}

/// Resolves at a signal to stop, with its number.
#[cfg(unix)]
async fn signal() -> i32 {
    use tokio::signal::unix::{SignalKind, signal};
    let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
    match (signal(terminate), signal(interrupt)) {
        (Ok(mut terminated), Ok(mut interrupted)) => {
            tokio::select! {
                _ = terminated.recv() => terminate.as_raw_value(),
                _ = interrupted.recv() => interrupt.as_raw_value(),
            }
        }
        // Without handlers the signals end the process as they do by default.
        _ => std::future::pending().await,
    }
}

/// Resolves at a signal to stop, with its number.
#[cfg(not(unix))]
async fn signal() -> i32 {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
    2
}

#[cfg(test)]
mod tests;
