//! Apps and servers for tests, with the fake model that can be made to misbehave or any other
//! model.
//!
//! Must not know: what is tested.

use std::net::SocketAddr;
use std::sync::Arc;

use proxima_engine::{Engine, EngineConfig, Registry};
use proxima_models::Model;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake_model::{Knobs, fake_model};
use crate::http::{App, HttpConfig, Listeners};
use crate::metrics::MetricsHub;
use crate::router::serve;

/// An app that serves one model.
pub struct ServedApp {
    /// The app.
    pub app: Arc<App>,
    /// The model's engine.
    pub engine: Engine,
}

/// An app that serves this model under this name.
pub fn app_of(name: &str, model: Model, http: HttpConfig, engine: EngineConfig) -> ServedApp {
    let metrics = MetricsHub::new();
    let engine = Engine::start(model, engine, metrics.for_model(name));
    let registry = Registry::new(vec![(name.to_owned(), engine.clone())]).expect("one model");
    ServedApp { app: Arc::new(App::new(registry, metrics, http)), engine }
}

/// An app that serves the model `fake`, and the knobs that make it misbehave.
pub fn fake_app(http: HttpConfig, engine: EngineConfig) -> (ServedApp, Knobs) {
    let (model, knobs) = fake_model();
    (app_of("fake", model, http, engine), knobs)
}

/// A running server.
pub struct Listening {
    /// Its address for HTTP.
    pub http: SocketAddr,
    /// Its address for gRPC.
    pub grpc: SocketAddr,
    /// Stops the server when used or dropped.
    pub stop: oneshot::Sender<()>,
    /// Ends when the server has stopped.
    pub serving: JoinHandle<()>,
}

/// Serves an app on free ports.
pub async fn listen(app: Arc<App>) -> Listening {
    let bind = || async { TcpListener::bind("127.0.0.1:0").await.expect("a port") };
    let (for_http, for_grpc) = (bind().await, bind().await);
    let address = |listener: &TcpListener| listener.local_addr().expect("an address");
    let (http, grpc) = (address(&for_http), address(&for_grpc));
    let listeners = Listeners { http: for_http, grpc: Some(for_grpc) };
    let (stop, stopped) = oneshot::channel();
    let told = async move { drop(stopped.await) };
    let serving = tokio::spawn(serve(listeners, app, told));
    Listening { http, grpc, stop, serving }
}
