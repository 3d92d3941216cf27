//! Makes models ready while the server already answers: files are downloaded concurrently, models
//! loaded one after another, and each is served as soon as its first forward pass has succeeded.
//!
//! Must not know: signals, requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use proxima_engine::{Engine, LoadStep, Registry, Slot};
use proxima_models::{LoadOptions, Loading, Progress};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::{folder, replicas};
use crate::command::CommandError;
use crate::config::{ModelSource, ServeSettings};
use crate::logging::panic_message;
use crate::media::media_options;
use crate::metrics::MetricsHub;

/// Concurrent downloads.
const FETCHES_MAX: usize = 4;
/// How often the progress of models is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// Makes all models ready.
///
/// # Errors
/// The first one that cannot be fetched, loaded or run.
pub async fn all(
    settings: &ServeSettings,
    registry: &Registry,
    metrics: &Arc<MetricsHub>,
) -> Result<(), CommandError> {
    let reports = report(registry);
    let start = async {
        let media_settings = settings.http.media.clone();
        // Whether ffmpeg runs is found out before a long load.
        let media = on_thread("ffmpeg", move || {
            media_options(&media_settings)
                .map_err(|problem| CommandError::usage(format!("--ffmpeg: {problem}")))
        });
        let load = LoadOptions { media: media.await?, ..settings.load.clone() };
        let starter = Arc::new(Starter {
            settings: ServeSettings { load, ..settings.clone() },
            registry: registry.clone(),
            metrics: metrics.clone(),
            fetches: Semaphore::new(FETCHES_MAX),
            loads: Semaphore::new(1),
        });
        let mut models = JoinSet::new();
        for source in settings.models.clone() {
            models.spawn(starter.clone().start(source));
        }
        while let Some(ended) = models.join_next().await {
            ended.unwrap_or_else(|error| Err(CommandError::failure(error.to_string())))?;
        }
        Ok(())
    };
    tokio::select! {
        started = start => started,
        never = reports => match never {},
    }
}

/// Logs the progress of models that are not ready, every few seconds.
async fn report(registry: &Registry) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        registry.not_ready().for_each(|model| tracing::info!("{model}"));
    }
}

/// Starts models.
struct Starter {
    settings: ServeSettings,
    registry: Registry,
    metrics: Arc<MetricsHub>,
    fetches: Semaphore,
    loads: Semaphore,
}

impl Starter {
    /// Makes a model ready.
    async fn start(self: Arc<Self>, source: ModelSource) -> Result<(), CommandError> {
        let closed = "the semaphore is never closed";
        let (name, what) = (source.name.clone(), format!("model {}", source.name));
        let fetched = {
            let _turn = self.fetches.acquire().await.expect(closed);
            let (starter, source) = (self.clone(), source);
            on_thread(&what, move || starter.fetch(&source)).await?
        };
        let _turn = self.loads.acquire().await.expect(closed);
        let (starter, runtime) = (self.clone(), Handle::current());
        on_thread(&what, move || starter.load(&name, &fetched, &runtime)).await
    }

    fn slot(&self, name: &str) -> &Slot {
        self.registry.slot(Some(name)).expect("every model has a slot")
    }

    fn fetch(&self, source: &ModelSource) -> Result<PathBuf, CommandError> {
        let progress = Arc::new(Progress::default());
        self.slot(&source.name).begin(LoadStep::Fetching, progress.clone());
        let found = folder(source, &self.settings.hub, &self.settings.revision, &progress);
        self.slot(&source.name).begin(LoadStep::Waiting, Arc::default());
        found
    }

    fn load(&self, name: &str, folder: &Path, runtime: &Handle) -> Result<(), CommandError> {
        let (settings, slot, started) = (&self.settings, self.slot(name), Instant::now());
        let _loading = Loading::begin();
        slot.begin(LoadStep::Loading, Arc::default());
        let opened = |progress: &Arc<Progress>| slot.begin(LoadStep::Loading, progress.clone());
        let replicas = replicas(folder, &settings.load, &settings.devices, &opened)?;
        let loaded = started.elapsed();
        slot.begin(LoadStep::Checking, Arc::default());
        let observer = self.metrics.for_model(name);
        let engine = Engine::start_on(replicas, settings.engine.clone(), observer)
            .map_err(|error| CommandError::failure(format!("model {name}: {error}")))?;
        // The first request finds everything warm, and a model that cannot compute is not served.
        let took = runtime.block_on(engine.check()).map_err(|error| {
            CommandError::failure(format!("model {name} fails its first forward pass: {error}"))
        })?;
        tracing::debug!("model {name}: first forward pass in {took:?}");
        let info = engine.info();
        tracing::info!(
            "model {name}: {} ({}) on {} ({}), {}, at most {} tokens, loaded in {:.1} s",
            info.family,
            info.recipe,
            info.device,
            info.isa,
            info.precision,
            info.tokens_max,
            loaded.as_secs_f64(),
        );
        slot.fill(engine);
        Ok(())
    }
}

/// Runs blocking work on a thread of its own. If this future is dropped, the work goes on and its
/// result is dropped: unlike the runtime's threads, this one is not waited for when the process
/// ends.
///
/// # Errors
/// The error of the work, a panic in it, or a system that provides no thread.
async fn on_thread<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    let (give, result) = oneshot::channel();
    let spawned = thread::Builder::new().name("start".into()).spawn(move || {
        // The receiver is dropped when the server stops.
        let _ = give.send(catch_unwind(AssertUnwindSafe(work)));
    });
    let failed = |problem: String| CommandError::failure(format!("{what}: {problem}"));
    spawned.map_err(|error| failed(format!("cannot start a thread: {error}")))?;
    match result.await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => Err(failed(format!("starting it panicked: {}", panic_message(&*panic)))),
        Err(_) => Err(failed("starting it was aborted".into())),
    }
}
