//! Serves a model on a free local port while it is measured.
//!
//! Must not know: what is measured.

use std::net::SocketAddr;
use std::sync::Arc;

use proxima_engine::{Engine, Registry, RerankMethod};
use proxima_models::{LoadOptions, Progress};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::BenchArgs;
use crate::command::CommandError;
use crate::config::{self, Environment, ServeArgs, ServeSettings};
use crate::http::{App, Listeners, LogRequests};
use crate::hub::HubSettings;
use crate::logging::{LogFormat, LogSettings};
use crate::media::media_options;
use crate::metrics::MetricsHub;
use crate::show::{Unit, shown};
use crate::{logging, router, serve};

/// A running server.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// The path for what its model is made for.
    pub path: &'static str,
    /// What it computes with.
    pub on: String,
}

/// Serves the model, runs `work` with the server, and stops it.
///
/// # Errors
/// A model that cannot be loaded, or the error of `work`.
pub fn with_server(
    arguments: &BenchArgs,
    environment: &Environment,
    work: impl FnOnce(&Server) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    logging::start(&LogSettings { format: LogFormat::Text, level: "warn".into() });
    let given = ServeArgs {
        model: Some(vec![arguments.target.clone()]),
        dtype: arguments.dtype,
        device: arguments.device.clone(),
        threads: arguments.threads,
        log_requests: Some(LogRequests::Off),
        ..ServeArgs::default()
    };
    // Its variables are meant for servers: none of them, such as a key, may change what is
    // measured.
    let settings = config::settings(given, &Environment::default())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(&error))?;
    let (metrics, hub) = (MetricsHub::new(), config::hub_settings(environment));
    let engine = engine(&settings, &hub, &metrics)?;
    runtime.block_on(engine.check()).map_err(|error| failed(&error))?;
    let name = settings.models[0].name.clone();
    let registry = Registry::new(vec![(name, engine.clone())]);
    let registry = registry.map_err(|error| failed(&error))?;
    let app = Arc::new(App::new(registry, metrics, settings.http.clone()));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
    let listener = listener.map_err(|error| failed(&error))?;
    let address = listener.local_addr().map_err(|error| failed(&error))?;
    let info = engine.info();
    let on = format!("{} ({}), {}", info.device, info.isa, info.precision);
    let server = Server { address, path: path(&engine), on };
    let (stop, stopped) = oneshot::channel::<()>();
    let told = async move { drop(stopped.await) };
    let serving = runtime.spawn(router::serve(Listeners { http: listener, grpc: None }, app, told));
    let result = work(&server);
    drop(stop);
    runtime.block_on(serving).map_err(|error| failed(&error))?;
    result
}

/// The engine of the first model of these settings.
fn engine(
    settings: &ServeSettings,
    hub: &HubSettings,
    metrics: &MetricsHub,
) -> Result<Engine, CommandError> {
    if let Some(threads) = settings.threads {
        proxima_models::set_threads(threads);
    }
    let media = media_options(&settings.http.media).map_err(|error| failed(&error))?;
    let load = LoadOptions { media, ..settings.load.clone() };
    let source = &settings.models[0];
    let replicas = shown(|show| {
        let progress = show.begin(&source.name, Unit::Bytes);
        let dir = serve::folder(source, hub, &settings.revision, &progress)?;
        let opened = |progress: &Arc<Progress>| {
            show.follow("loading", Unit::Of("tensors"), progress.clone());
        };
        serve::replicas(&dir, &load, &settings.devices, &opened)
    })?;
    let observer = metrics.for_model(&source.name);
    Engine::start_on(replicas, settings.engine.clone(), observer).map_err(|error| failed(&error))
}

fn failed(error: &dyn std::fmt::Display) -> CommandError {
    CommandError::failure(error.to_string())
}

/// The path for what a model is made for.
fn path(engine: &Engine) -> &'static str {
    let capabilities = &engine.info().capabilities;
    let ranks = engine.rerank_method() == Some(RerankMethod::Pointwise) || capabilities.lists;
    if capabilities.embedding.is_some() {
        "/embed"
    } else if ranks {
        "/rerank"
    } else if capabilities.sparse {
        "/embed_sparse"
    } else {
        "/predict"
    }
}
