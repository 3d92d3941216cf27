//! `proxima serve`: loads the models, starts their engines, listens, and stops in good order.
//!
//! Must not know: wire formats.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use proxima_engine::{Engine, Registry};
use proxima_models::{Checkpoint, LoadOptions, Model};
use tokio::net::TcpListener;

use crate::cli::CommandError;
use crate::config::{HubSettings, ModelPlace, ModelSource, Settings};
use crate::http::{self, Listeners};
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
    Model::load(&checkpoint, options).map_err(failed)
}

/// Serves until the process is told to stop.
///
/// # Errors
/// A port in use, a model that cannot be loaded.
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
        let model = load(&dir, &options)?;
        let info = &model.info;
        tracing::info!(
            "model {}: {} ({}) on {} ({}), {}, at most {} tokens, loaded in {:.1} s",
            source.name,
            info.family,
            info.recipe,
            info.device,
            info.isa,
            info.dtype,
            info.tokens_max,
            started.elapsed().as_secs_f64(),
        );
        let observer = metrics.for_model(&source.name);
        engines
            .push((source.name.clone(), Engine::start(model, settings.engine.clone(), observer)));
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
    http::serve(listeners, registry, metrics, settings.http, told_to_stop()).await;
    tracing::info!("stopped");
    Ok(())
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
    tokio::spawn(async {
        signal().await;
        tracing::warn!("stopped at once by a second signal");
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
