//! What handlers share: the models, their metrics, limits, health.
//!
//! Must not know: any dialect's bodies.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proxima_engine::{ClientKey, Registry, Slot};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};

use super::budget::{Bodies, ResponseBudget};
use super::client::Clients;
use super::intake::Intake;
use super::outgoing::Outgoing;
use super::probes::Probes;
use super::streams::Streams;
use super::{Failure, HttpConfig};
use crate::media::MediaFetcher;
use crate::metrics::MetricsHub;
use crate::shares::Shares;

/// How long the result of a health check is shared with other callers.
const HEALTH_SHARED_FOR: Duration = Duration::from_secs(1);

/// When a model was last checked, and the result.
type Health = Mutex<Option<(Instant, Result<(), Failure>)>>;

/// A client may hold all of the permits but one in this many.
const OTHERS_PART: usize = 16;

/// What handlers share.
#[derive(Debug)]
pub struct App {
    registry: Registry,
    metrics: Arc<MetricsHub>,
    media: Arc<MediaFetcher>,
    config: HttpConfig,
    permits: Arc<Semaphore>,
    /// Each client's share of the permits.
    shares: Shares,
    streams: Streams,
    outgoing: Arc<Outgoing>,
    intake: Intake,
    answers: Arc<ResponseBudget>,
    started: u64,
    probes: Probes,
    /// One per slot of the registry, in the same order.
    health: Vec<Health>,
    leaving: watch::Sender<bool>,
}

impl App {
    /// The app for these models.
    pub fn new(registry: Registry, metrics: Arc<MetricsHub>, config: HttpConfig) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            health: registry.slots().iter().map(|_| Health::default()).collect(),
            leaving: watch::Sender::new(false),
            registry,
            metrics,
            media: Arc::new(MediaFetcher::new(&config.media)),
            permits: Arc::new(Semaphore::new(config.requests_max)),
            shares: Shares::new(config.requests_max - config.requests_max / OTHERS_PART),
            streams: Streams::new(config.requests_max),
            outgoing: Arc::default(),
            intake: Intake {
                bytes_max: config.body_bytes_max,
                timeout: config.body_timeout,
                // Large enough for a body of the maximum size if it is alone.
                bodies: Bodies::new(config.bodies_bytes_max.max(2 * config.body_bytes_max)),
            },
            answers: ResponseBudget::new(config.answer_bytes_max),
            config,
            probes: Probes::default(),
            started: now.as_secs(),
        }
    }

    /// The models.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The metrics.
    pub fn metrics(&self) -> &MetricsHub {
        &self.metrics
    }

    /// The last results of health checks, for the log.
    pub fn probes(&self) -> &Probes {
        &self.probes
    }

    /// Limits and secrets.
    pub fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// Fetches the images and videos of requests.
    pub fn media(&self) -> &Arc<MediaFetcher> {
        &self.media
    }

    /// Whether inputs that are too long are truncated unless a request says otherwise.
    pub fn auto_truncate(&self) -> bool {
        self.config.auto_truncate
    }

    /// Takes a part of a client's share of the permits, without waiting: requests of a client that
    /// has disconnected go on for a while, and must not take all permits.
    ///
    /// # Errors
    /// If the client's share is used up.
    pub fn take_share(&self, client: ClientKey) -> Result<OwnedSemaphorePermit, Failure> {
        let share = self.shares.of(client).try_acquire_owned();
        share.map_err(|_| Failure::TooManyRequests { limit: self.shares.each() })
    }

    /// A permit to compute, without waiting. If none is left, a response that nobody reads is cut
    /// off, and its permit is taken.
    pub fn take_permit(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok().or_else(|| self.outgoing.cut_off_one())
    }

    /// Responses that are being sent.
    pub fn outgoing(&self) -> &Arc<Outgoing> {
        &self.outgoing
    }

    /// The permits for further requests.
    pub fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    /// The slots for messages of streams.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// How bodies are read.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// The budget of all responses.
    pub fn answers(&self) -> &Arc<ResponseBudget> {
        &self.answers
    }

    /// How clients are identified.
    pub fn clients(&self) -> Clients<'_> {
        Clients {
            have_keys: !self.config.api_keys.is_empty(),
            trusted_proxies: &self.config.trusted_proxies,
        }
    }

    /// When the server started, as a Unix time in seconds.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Reports not ready from now on, while requests are still answered.
    pub fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Whether the server was told to stop; it may still answer requests.
    pub fn is_leaving(&self) -> bool {
        *self.leaving.borrow()
    }

    /// Becomes true when the server is told to stop.
    pub fn leaving(&self) -> watch::Receiver<bool> {
        self.leaving.subscribe()
    }

    /// Resolves when the server is told to stop.
    pub fn left(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut leaving = self.leaving.subscribe();
        // An error means that the sender was dropped, which is the end as well.
        async move { drop(leaving.wait_for(|leaving| *leaving).await) }
    }

    /// Whether a forward pass works on every model. Calls within a second share one result.
    ///
    /// # Errors
    /// The first model that is not ready or does not work, and why.
    pub async fn ready(&self) -> Result<(), Failure> {
        if self.is_leaving() {
            return Err(Failure::Stopping);
        }
        // Models that are loading are reported at once; a forward pass may have to wait for a
        // batch.
        if let Some(model) = self.registry.not_ready().next() {
            return Err(model.into());
        }
        for (slot, health) in self.registry.slots().iter().zip(&self.health) {
            self.check_shared(slot, health).await?;
        }
        Ok(())
    }

    /// As [`ready`](Self::ready), for one model.
    ///
    /// # Errors
    /// An unknown name, or why the model is not ready.
    pub async fn model_ready(&self, model: &str) -> Result<(), Failure> {
        let named = self.registry.slot(Some(model)).map_err(Failure::UnknownModel)?;
        if self.is_leaving() {
            return Err(Failure::Stopping);
        }
        let mut slots = self.registry.slots().iter().zip(&self.health);
        match slots.find(|(slot, _)| slot.name() == named.name()) {
            Some((slot, health)) => self.check_shared(slot, health).await,
            None => Err(Failure::Bug),
        }
    }

    async fn check_shared(&self, slot: &Slot, health: &Health) -> Result<(), Failure> {
        let engine = slot.engine()?;
        let mut health = health.lock().await;
        if let Some((when, result)) = &*health
            && when.elapsed() < HEALTH_SHARED_FOR
        {
            return result.clone();
        }
        let limit = self.config.health_timeout;
        let unhealthy = |reason: String| Failure::Unhealthy { model: slot.name().into(), reason };
        let result = match tokio::time::timeout(limit, engine.check()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unhealthy(error.to_string())),
            Err(_) => Err(unhealthy(format!("no forward pass within {limit:?}"))),
        };
        if result.is_err() {
            self.metrics.check_failed(slot.name());
        }
        *health = Some((Instant::now(), result.clone()));
        result
    }
}
