//! What handlers share: the models, their metrics, health.
//!
//! Must not know: any dialect's bodies.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proxima_engine::{
    EmbedAnswer, EmbedRequest, Engine, EngineError, PredictAnswer, PredictRequest, Registry,
    RerankAnswer, RerankRequest, SparseAnswer, TokensAnswer, TokensRequest,
};
use proxima_models::Prompt;
use proxima_models::recipes::Token;
use tokio::sync::{Mutex, Semaphore};

use super::answer_size::AnswerSize;
use super::budget::{Answers, Bodies};
use super::client::Clients;
use super::intake::Intake;
use super::scope::Scope;
use super::{Failure, HttpConfig};
use crate::media::MediaFetcher;
use crate::metrics::{Endpoint, MetricsHub};

/// How long a health check's result serves others who ask.
const HEALTH_SHARED_FOR: Duration = Duration::from_secs(1);

/// What handlers share.
#[derive(Debug)]
pub struct App {
    registry: Registry,
    metrics: Arc<MetricsHub>,
    media: Arc<MediaFetcher>,
    config: HttpConfig,
    permits: Arc<Semaphore>,
    intake: Intake,
    answers: Arc<Answers>,
    started: u64,
    health: Mutex<Option<(Instant, Result<(), Failure>)>>,
}

impl App {
    /// The app of these models.
    pub fn new(registry: Registry, metrics: Arc<MetricsHub>, config: HttpConfig) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            registry,
            metrics,
            media: Arc::new(MediaFetcher::new(&config.media)),
            permits: Arc::new(Semaphore::new(config.requests_max)),
            intake: Intake {
                bytes_max: config.body_bytes_max,
                timeout: config.body_timeout,
                // A body of the largest size always finds room by itself.
                bodies: Bodies::new(config.bodies_bytes_max.max(2 * config.body_bytes_max)),
            },
            answers: Answers::new(config.answer_bytes_max),
            config,
            started: now.as_secs(),
            health: Mutex::new(None),
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

    /// Limits and secrets.
    pub fn config(&self) -> &HttpConfig {
        &self.config
    }

    /// Where images and videos of requests come from.
    pub fn media(&self) -> &Arc<MediaFetcher> {
        &self.media
    }

    /// Whether too long inputs are cut unless a request says otherwise.
    pub fn auto_truncate(&self) -> bool {
        self.config.auto_truncate
    }

    /// Requests that may still come in.
    pub fn permits(&self) -> &Arc<Semaphore> {
        &self.permits
    }

    /// How bodies are read.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Room for answers.
    pub fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// How clients are told apart.
    pub fn clients(&self) -> Clients<'_> {
        Clients {
            have_keys: !self.config.api_keys.is_empty(),
            trusted_proxies: &self.config.trusted_proxies,
        }
    }

    /// When the server started, in seconds since 1970.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Vectors, from the model of this name, and the name.
    ///
    /// # Errors
    /// An unknown name, or what the engine says.
    pub async fn embed(
        &self,
        model: Option<&str>,
        request: EmbedRequest,
    ) -> Result<(String, EmbedAnswer), Failure> {
        let endpoint = Endpoint::embed(request.inputs.len());
        let size = AnswerSize::embed(&request);
        let call = |engine: Engine| async move { engine.embed(request).await };
        let (name, answer) = self.measured(model, (endpoint, size), call).await?;
        self.metrics.embedded(&name, &answer.timings);
        Ok((name, answer))
    }

    /// Hidden states of every token.
    ///
    /// # Errors
    /// An unknown name, or what the engine says.
    pub async fn tokens(
        &self,
        model: Option<&str>,
        request: TokensRequest,
    ) -> Result<(String, TokensAnswer), Failure> {
        let endpoint = Endpoint::embed(request.inputs.len());
        let size = AnswerSize::tokens(&request);
        let call = |engine: Engine| async move { engine.tokens(request).await };
        let (name, answer) = self.measured(model, (endpoint, size), call).await?;
        self.metrics.embedded(&name, &answer.timings);
        Ok((name, answer))
    }

    /// Weights of words.
    ///
    /// # Errors
    /// An unknown name, or what the engine says.
    pub async fn sparse(
        &self,
        model: Option<&str>,
        request: TokensRequest,
    ) -> Result<(String, SparseAnswer), Failure> {
        let size = AnswerSize::sparse(&request);
        let call = |engine: Engine| async move { engine.sparse(request).await };
        let (name, answer) = self.measured(model, (Endpoint::Sparse, size), call).await?;
        self.metrics.answered(&name, &answer.timings);
        Ok((name, answer))
    }

    /// One vector a token, for late interaction.
    ///
    /// # Errors
    /// An unknown name, or what the engine says.
    pub async fn multi_vectors(
        &self,
        model: Option<&str>,
        request: TokensRequest,
    ) -> Result<(String, TokensAnswer), Failure> {
        let size = AnswerSize::tokens(&request);
        let call = |engine: Engine| async move { engine.multi_vectors(request).await };
        let (name, answer) = self.measured(model, (Endpoint::Multi, size), call).await?;
        self.metrics.answered(&name, &answer.timings);
        Ok((name, answer))
    }

    /// Documents ranked for a query.
    ///
    /// # Errors
    /// An unknown name, or what the engine says.
    pub async fn rerank(
        &self,
        model: Option<&str>,
        request: RerankRequest,
    ) -> Result<(String, RerankAnswer), Failure> {
        let size = AnswerSize::rerank(&request);
        let call = |engine: Engine| async move { engine.rerank(request).await };
        let (name, answer) = self.measured(model, (Endpoint::Rerank, size), call).await?;
        self.metrics.answered(&name, &answer.timings);
        Ok((name, answer))
    }

    /// Logits of texts or pairs.
    ///
    /// # Errors
    /// An unknown name, or what the engine says.
    pub async fn predict(
        &self,
        model: Option<&str>,
        request: PredictRequest,
    ) -> Result<(String, PredictAnswer), Failure> {
        let size = AnswerSize::predict(&request);
        let call = |engine: Engine| async move { engine.predict(request).await };
        let (name, answer) = self.measured(model, (Endpoint::Predict, size), call).await?;
        self.metrics.answered(&name, &answer.timings);
        Ok((name, answer))
    }

    /// The tokens of texts.
    ///
    /// # Errors
    /// An unknown name, or what the engine says.
    pub async fn tokenize(
        &self,
        model: Option<&str>,
        texts: Vec<String>,
        special_tokens: bool,
        prompt: Prompt,
    ) -> Result<Vec<Vec<Token>>, Failure> {
        let size = AnswerSize::tokenize(&texts);
        let call =
            |engine: Engine| async move { engine.tokenize(texts, special_tokens, prompt).await };
        Ok(self.measured(model, (Endpoint::Tokenize, size), call).await?.1)
    }

    /// The texts of token ids.
    ///
    /// # Errors
    /// An unknown name, or what the engine says.
    pub async fn decode(
        &self,
        model: Option<&str>,
        ids: Vec<Vec<u32>>,
        skip_special_tokens: bool,
    ) -> Result<Vec<String>, Failure> {
        let size = AnswerSize::decode(&ids);
        let call = |engine: Engine| async move { engine.decode(ids, skip_special_tokens).await };
        Ok(self.measured(model, (Endpoint::Decode, size), call).await?.1)
    }

    async fn measured<T, F: Future<Output = Result<T, EngineError>>>(
        &self,
        model: Option<&str>,
        (endpoint, size): (Endpoint, AnswerSize),
        call: impl FnOnce(Engine) -> F,
    ) -> Result<(String, T), Failure> {
        let found = self.registry.get_fit(model, |engine| endpoint.fits(engine));
        let found = found.map_err(Failure::UnknownModel);
        let (name, engine) = found.inspect_err(|failure| self.metrics.refused(failure))?;
        let request = self.metrics.request(name, endpoint);
        let answered = async {
            let Some(scope) = Scope::current() else { return Ok(call(engine.clone()).await?) };
            scope.reserve(self, size.bytes(engine)).await?;
            Ok(call(engine.for_client(scope.client)).await?)
        };
        match answered.await {
            Ok(answer) => {
                request.succeeded();
                Ok((name.to_owned(), answer))
            }
            Err(failure) => {
                request.failed(&failure);
                Err(failure)
            }
        }
    }

    /// Whether a forward pass works on every model. Those who ask within a second share one result.
    ///
    /// # Errors
    /// The first model that does not work, and why.
    pub async fn ready(&self) -> Result<(), Failure> {
        let mut health = self.health.lock().await;
        if let Some((when, result)) = &*health
            && when.elapsed() < HEALTH_SHARED_FOR
        {
            return result.clone();
        }
        let result = self.check_all().await;
        *health = Some((Instant::now(), result.clone()));
        result
    }

    async fn check_all(&self) -> Result<(), Failure> {
        let limit = self.config.health_timeout;
        for (model, engine) in self.registry.iter() {
            let unhealthy = |reason: String| Failure::Unhealthy { model: model.to_owned(), reason };
            match tokio::time::timeout(limit, engine.check()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(unhealthy(error.to_string())),
                Err(_) => return Err(unhealthy(format!("no forward pass within {limit:?}"))),
            }
        }
        Ok(())
    }
}
