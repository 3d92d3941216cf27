//! `proxima serve`: listens, starts the models' engines meanwhile, and stops in good order.
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
use crate::config::{self, Environment, ModelPlace, ModelSource, ServeArgs, Settings};
use crate::http::{self, App, Listeners};
use crate::hub::Hub;
use crate::hub::HubSettings;
use crate::media::end_programs;
use crate::metrics::MetricsHub;
use crate::router;
use crate::signals::Signals;
use crate::{logging, memory};

/// The folder of a model, downloaded if it is of the Hub; bytes are counted in `progress`.
///
/// # Errors
/// A model that is not available.
pub fn folder(
    source: &ModelSource,
    hub: &HubSettings,
    revision: &str,
    progress: &Progress,
) -> Result<PathBuf, CommandError> {
    match &source.place {
        ModelPlace::Folder(path) => Ok(path.clone()),
        ModelPlace::Hub { id, revision: own } => {
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

/// As [`load`]; `opened` is called with the checkpoint's progress before its tensors are read.
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

/// Logs what whoever serves a model should know of its files.
fn warn_of(folder: &Path, model: &Model) {
    for warning in &model.info.warnings {
        tracing::warn!("{}: {warning}", folder.display());
    }
}

/// The model of a folder on each of the devices, with one recipe for all, and a function for each
/// that loads it again. `opened` is called with each checkpoint's progress before its tensors are
/// read.
///
/// # Errors
/// As [`load`].
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

/// Serves until the process is told to stop or a device is lost. Signals are heard and ports answer
/// before anything else is done.
///
/// # Errors
/// Settings that contradict each other, a port in use, a model that cannot be loaded, a device that
/// failed for good.
pub fn run(arguments: ServeArgs, environment: &Environment) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::failure(format!("no threads: {error}")))?;
    let result = runtime.block_on(async {
        let signals = Signals::install();
        let signals = signals
            .map_err(|error| CommandError::failure(format!("no handlers of signals: {error}")))?;
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
    // Of requests that were cut off.
    end_programs();
    // A download or a load that still runs ends with the process.
    runtime.shutdown_background();
    result
}

async fn serve(settings: Settings, stopping: Stopping) -> Result<(), CommandError> {
    http::check_open_files().map_err(CommandError::failure)?;
    // First of all, so that a port in use is known before a long load.
    let (http, local) = listen(&settings.host, settings.port, "--port").await?;
    tracing::info!("listening on http://{local}");
    let grpc = match settings.grpc_port {
        Some(port) => Some(listen(&settings.host, port, "--grpc-port").await?),
        None => None,
    };
    let grpc = grpc.map(|(listener, local)| {
        tracing::info!("gRPC on {local}");
        listener
    });
    let names = settings.models.iter().map(|source| source.name.clone());
    let registry = Registry::starting(names)
        .map_err(|name| CommandError::usage(format!("two models are named {name:?}")))?;
    let metrics = MetricsHub::new();
    let app = Arc::new(App::new(registry.clone(), metrics.clone(), settings.http.clone()));
    let loading = async {
        start::all(&settings, &registry, &metrics).await?;
        let (_, engine) = registry.iter().next().expect("all models are ready");
        tracing::info!(
            "ready on http://{local} (batch {} tokens, queue {} tokens, {} inputs a request, {} requests at a time)",
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
/// lost; then what was accepted, as far as it can be.
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
    // Also one that was lost while requests were still answered.
    let lost = |(name, engine): (&str, &Engine)| {
        engine.lost().map(|reason| CommandError::device(format!("model {name}: {reason}")))
    };
    failed.or_else(|| app.registry().iter().find_map(lost)).map_or(Ok(()), Err)
}

/// Turns readiness red and goes on answering for a while, so that balancers send requests to others
/// before this process refuses them. Nobody was sent here while no model was ready.
async fn leave(app: &App) {
    app.leave();
    let delay = app.config().shutdown_delay;
    if !delay.is_zero() && app.registry().iter().next().is_some() {
        tracing::info!("stopping: not ready any more, and answering for another {delay:?}");
        tokio::time::sleep(delay).await;
    }
    tracing::info!("stopping: answering what was accepted");
}

/// Returns when a device of a model that is ready is lost; else never.
async fn any_lost(registry: &Registry) {
    let mut lost = JoinSet::new();
    for index in 0..registry.slots().len() {
        let registry = registry.clone();
        lost.spawn(async move { drop(registry.slots()[index].filled().await.wait_lost().await) });
    }
    match lost.join_next().await {
        Some(Ok(())) => {}
        // Not even a panic there ends a server whose models work.
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

/// What signals ask of a server: the first one to stop, another one to end at once.
struct Stopping {
    told: watch::Receiver<bool>,
    /// Whether the next signal that is no hangup ends the process at once.
    hurry: Arc<AtomicBool>,
}

impl Stopping {
    /// Hears signals from now on, within a runtime.
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
            // Nobody hears signals any longer.
            std::future::pending::<()>().await;
        }
    }

    /// The server stops for another reason: the next signal ends the process at once.
    fn end_at_next_signal(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }
}

fn end_at_once() -> ! {
    tracing::warn!("stopped at once by a signal while stopping");
    end_programs();
    logging::flush();
    std::process::exit(i32::from(crate::command::EXIT_FAILURE));
}

/// From now on a signal to stop ends the programs that read videos, too: they are in process groups
/// of their own, which the signals of a terminal do not reach.
///
/// # Errors
/// A system that gives no thread or no handlers.
pub fn end_programs_by_signal() -> Result<(), CommandError> {
    let failed = |error: std::io::Error| CommandError::failure(format!("no threads: {error}"));
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
