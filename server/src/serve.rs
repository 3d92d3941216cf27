//! `proxima serve`: listens while the models' engines start, and shuts down gracefully.
//!
//! Must not know: wire formats.

mod start;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proxima_engine::{Engine, Registry, Reload, Replica};
use proxima_models::{
    Checkpoint, CheckpointError, DeviceChoice, LoadOptions, Loading, Model, Progress, memory_needed,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::command::CommandError;
use crate::config::{self, Environment, ModelOrigin, ModelSource, ServeArgs, ServeSettings};
use crate::http::{self, App, Listeners};
use crate::hub::{Hub, HubSettings};
use crate::media::end_programs;
use crate::metrics::MetricsHub;
use crate::signals::Signals;
use crate::{logging, memory, router};

/// The folder of a model, downloaded if it is from the Hub; bytes are counted in `progress`.
///
/// # Errors
/// A model that is not available.
pub fn folder(
    source: &ModelSource,
    hub: &HubSettings,
    revision: &str,
    progress: &Progress,
) -> Result<PathBuf, CommandError> {
    match &source.origin {
        ModelOrigin::Folder(path) => Ok(path.clone()),
        ModelOrigin::Hub { id, revision: own } => {
            Hub::new(hub).pull(id, own.as_deref().unwrap_or(revision), progress)
        }
    }
}

/// Loads a model from a folder.
///
/// # Errors
/// What is wrong with the checkpoint.
pub fn load(folder: &Path, options: &LoadOptions) -> Result<Model, CommandError> {
    load_shown(folder, options, &|_| {})
}

/// As [`load`], but calls `opened` with the checkpoint's progress before reading its tensors.
///
/// # Errors
/// What is wrong with the checkpoint.
pub fn load_shown(
    folder: &Path,
    options: &LoadOptions,
    opened: &dyn Fn(&Arc<Progress>),
) -> Result<Model, CommandError> {
    let _loading = Loading::begin();
    let failed = |error: proxima_models::CheckpointError| CommandError::failure(error.to_string());
    let checkpoint = Checkpoint::open(folder).map_err(failed)?;
    opened(checkpoint.weights().progress());
    let model = Model::load(&checkpoint, options).map_err(failed)?;
    warn_of(folder, &model);
    Ok(model)
}

/// Logs the model's warnings about its files.
fn warn_of(folder: &Path, model: &Model) {
    for warning in &model.info.warnings {
        tracing::warn!("{}: {warning}", folder.display());
    }
}

/// Loads the model of a folder on each of the devices, all with the same recipe, each with a
/// function that reloads it. Calls `opened` with each checkpoint's progress before reading its
/// tensors.
///
/// # Errors
/// As [`load`], or a model that does not fit into memory.
pub fn replicas(
    folder: &Path,
    options: &LoadOptions,
    devices: &[DeviceChoice],
    opened: &dyn Fn(&Arc<Progress>),
) -> Result<Vec<Replica>, CommandError> {
    let mut replicas: Vec<Replica> = Vec::with_capacity(devices.len());
    for device in devices {
        let _loading = Loading::begin();
        let options = LoadOptions { device: *device, ..options.clone() };
        let recipe = replicas.first().map(|first| first.model.recipe.clone());
        let failed = |error: CheckpointError| CommandError::failure(error.to_string());
        let checkpoint = Checkpoint::open(folder).map_err(failed)?;
        opened(checkpoint.weights().progress());
        if *device == DeviceChoice::Cpu {
            let needed = memory_needed(&checkpoint, &options).map_err(failed)?;
            memory::check(folder, needed)?;
        }
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

/// Serves until the process is told to stop or a device is lost. Signals are handled from the
/// start, and the ports answer before models are loaded.
///
/// # Errors
/// Settings that contradict each other, a port in use, a model that cannot be loaded, a device that
/// failed for good.
pub fn run(arguments: ServeArgs, environment: &Environment) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::failure(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(async {
        let signals = Signals::install();
        let signals = signals.map_err(|error| {
            CommandError::failure(format!("cannot install signal handlers: {error}"))
        })?;
        let notice = config::other_servers(environment);
        let settings = config::settings(arguments, environment)?;
        logging::start(&settings.log);
        if let Some(notice) = notice {
            tracing::warn!("{notice}");
        }
        if let Some(threads) = settings.threads {
            proxima_models::set_threads(threads);
        }
        serve(settings, Stopping::watch(signals)).await
    });
    // Media programs of requests that were cut off.
    end_programs();
    // A download or load that is still running ends with the process.
    runtime.shutdown_background();
    result
}

async fn serve(settings: ServeSettings, stopping: Stopping) -> Result<(), CommandError> {
    http::check_open_files().map_err(CommandError::failure)?;
    // First, so that a port in use is reported before a long load.
    let (http, local) = listen(&settings.host, settings.port, "--port").await?;
    tracing::info!("listening on http://{local}");
    if !local.ip().is_loopback() && settings.http.api_keys.is_empty() {
        tracing::warn!(
            "anyone who can reach this address can use the server: --api-key requires a key"
        );
    }
    let grpc = match settings.grpc_port {
        Some(port) => Some(listen(&settings.host, port, "--grpc-port").await?),
        None => None,
    };
    let grpc = grpc.map(|(listener, local)| {
        tracing::info!("gRPC on {local}");
        listener
    });
    let names = settings.models.iter().map(|source| source.name.clone());
    let registry =
        Registry::starting(names).map_err(|error| CommandError::usage(error.to_string()))?;
    let metrics = MetricsHub::new();
    let app = Arc::new(App::new(registry.clone(), metrics.clone(), settings.http.clone()));
    let loading = async {
        start::all(&settings, &registry, &metrics).await?;
        let (_, engine) = registry.iter().next().expect("all models are ready");
        tracing::info!(
            "ready on http://{local} (batch {} tokens, queue {} tokens, {} inputs per request, {} \
             concurrent requests)",
            engine.config().batch_tokens_max,
            settings.engine.queue_tokens_max,
            settings.engine.inputs_max,
            settings.http.requests_max,
        );
        Ok(())
    };
    until_stopped(Listeners { http, grpc }, app, loading, stopping).await
}

/// Answers requests until the process is told to stop, a model cannot be loaded, or a device is
/// lost; then finishes accepted requests, as far as possible.
///
/// # Errors
/// A model that cannot be loaded, a device that failed for good.
async fn until_stopped(
    listeners: Listeners,
    app: Arc<App>,
    loading: impl Future<Output = Result<(), CommandError>>,
    mut stopping: Stopping,
) -> Result<(), CommandError> {
    let mut failed = None;
    let stop = async {
        // A device may be lost while other models still load.
        let ended = async {
            let failed = async {
                loading.await?;
                std::future::pending::<Result<(), CommandError>>().await
            };
            tokio::select! {
                failed = failed => failed,
                () = any_lost(app.registry()) => Ok(()),
            }
        };
        tokio::select! {
            () = stopping.told() => leave(&app).await,
            ended = ended => {
                stopping.end_at_next_signal();
                if let Err(error) = &ended {
                    tracing::error!("stopping: {}", error.message);
                }
                failed = ended.err();
            }
        }
    };
    router::serve(listeners, app.clone(), stop).await;
    tracing::info!("stopped");
    // Including a device lost while the last requests were answered.
    let lost = |(name, engine): (&str, &Engine)| {
        engine.lost().map(|reason| CommandError::device(format!("model {name}: {reason}")))
    };
    failed.or_else(|| app.registry().iter().find_map(lost)).map_or(Ok(()), Err)
}

/// Reports not ready and keeps answering for the shutdown delay, so that load balancers route
/// requests elsewhere before this process refuses them. There is no delay if no model is ready,
/// since then no requests were routed here.
async fn leave(app: &App) {
    app.leave();
    let delay = app.config().shutdown_delay;
    if !delay.is_zero() && app.registry().iter().next().is_some() {
        tracing::info!("stopping: no longer ready, but answering for another {delay:?}");
        tokio::time::sleep(delay).await;
    }
    tracing::info!("stopping: answering accepted requests");
}

/// Returns when a device of a ready model is lost; otherwise never.
async fn any_lost(registry: &Registry) {
    let mut lost = JoinSet::new();
    for index in 0..registry.slots().len() {
        let registry = registry.clone();
        lost.spawn(async move { drop(registry.slots()[index].filled().await.wait_lost().await) });
    }
    match lost.join_next().await {
        Some(Ok(())) => {}
        // Not even a panic there stops a server whose models work.
        Some(Err(_)) | None => std::future::pending().await,
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

/// Signals to a server: the first one stops it gracefully, another one ends it at once.
struct Stopping {
    told: watch::Receiver<bool>,
    /// Whether the next signal other than SIGHUP ends the process at once.
    hurry: Arc<AtomicBool>,
}

impl Stopping {
    /// Handles signals from now on; must be called within a runtime.
    fn watch(mut signals: Signals) -> Self {
        let (tell, told) = watch::channel(false);
        let hurry = Arc::new(AtomicBool::new(false));
        let heard = hurry.clone();
        tokio::spawn(async move {
            loop {
                let signal = signals.next().await;
                if !signal.is_hangup() && heard.swap(true, Ordering::Relaxed) {
                    end_at_once();
                }
                tell.send_replace(true);
            }
        });
        Self { told, hurry }
    }

    /// Resolves at the first signal.
    async fn told(&mut self) {
        if self.told.wait_for(|told| *told).await.is_err() {
            // The task that handles signals has ended.
            std::future::pending::<()>().await;
        }
    }

    /// The server stops for another reason, so the next signal ends the process at once.
    fn end_at_next_signal(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }
}

fn end_at_once() -> ! {
    tracing::warn!("stopped at once by a second signal");
    end_programs();
    logging::flush();
    std::process::exit(i32::from(crate::command::EXIT_FAILURE));
}

/// From now on, a termination signal also ends the programs that decode videos: they run in process
/// groups of their own, which signals from a terminal do not reach.
///
/// # Errors
/// If the system provides no thread or no signal handlers.
pub fn end_programs_by_signal() -> Result<(), CommandError> {
    let failed =
        |error: std::io::Error| CommandError::failure(format!("cannot start threads: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut signals = runtime.block_on(async { Signals::install() }).map_err(failed)?;
    let wait = move || {
        let told = runtime.block_on(signals.next());
        end_programs();
        std::process::exit(told.exit_code());
    };
    std::thread::Builder::new().spawn(wait).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests;
