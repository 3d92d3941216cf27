//! The engine of one model: requests in, answers out.
//!
//! Must not know: wire formats, HTTP.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use proxima_models::readout::finish;
use proxima_models::recipes::Recipe;
use proxima_models::{BatchRows, Input, Model, ModelInfo, Prepare};

use crate::cache::CacheStats;
use crate::config::EngineConfig;
use crate::error::EngineError;
use crate::inputs::InputPart;
use crate::job::{PendingVector, Reply, ResultReceiver, Vector, Waiter};
use crate::metrics::{DeviceEvent, Metrics};
use crate::prepare::Pool;
use crate::queue::{Accepted, Prepared, Queue, Workers};
use crate::replica::{self, Replica, WorkerResources};
use crate::request::{
    EmbedAllAnswer, EmbedAnswer, EmbedRequest, PredictAnswer, PredictRequest, SparseAnswer,
    TokensAnswer, TokensRequest,
};
use crate::tally::{Tally, received};
use crate::threads::NoThread;
use crate::ticket::{Caller, Limit, in_time};
use crate::warm_up;

/// Texts of a request that are tokenised before another request has its turn.
const TEXTS_OF_A_TURN: usize = 8;

/// The engine of one model, on behalf of one caller. Cheap to clone; all clones share one engine.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) handle: Arc<Handle>,
    /// Whose requests these are.
    pub(crate) caller: Caller,
}

/// What all clones share. Dropping the last clone ends the threads.
pub(crate) struct Handle {
    pub info: ModelInfo,
    pub recipe: Arc<dyn Recipe>,
    pub config: EngineConfig,
    pub queue: Arc<Queue>,
    pub pool: Pool,
    /// Threads for requests with images or videos, so that texts do not wait for them.
    pub media: Option<Pool>,
    pub metrics: Arc<dyn Metrics>,
    pub text_bytes: AtomicUsize,
    /// Bytes of waiting requests with images or videos. They have their own budget, as they take
    /// longer and must not block texts.
    pub media_bytes: AtomicUsize,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("model", &self.info).field("config", &self.config).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Engine {
    /// Starts the worker and tokenisation threads of a model.
    ///
    /// # Panics
    /// If the system cannot start the threads.
    pub fn start(model: Model, config: EngineConfig, metrics: Arc<dyn Metrics>) -> Self {
        Self::start_on(vec![model.into()], config, metrics).expect("threads")
    }

    /// Like [`start`](Self::start), with the same model on one or more devices. Each device has a
    /// worker, and an idle worker takes the next batch.
    ///
    /// # Errors
    /// If the system cannot start the threads.
    ///
    /// # Panics
    /// If there is no replica.
    pub fn start_on(
        replicas: Vec<Replica>,
        config: EngineConfig,
        metrics: Arc<dyn Metrics>,
    ) -> Result<Self, NoThread> {
        let model = &replicas[0].model;
        let devices: Vec<&str> =
            replicas.iter().map(|replica| &*replica.model.info.device).collect();
        let info = ModelInfo { device: devices.join(", "), ..model.info.clone() };
        let recipe = model.recipe.clone();
        let batch_tokens_max = config.batch_tokens_max.min(info.batch_tokens.most());
        let measured = warm_up::measure(model, batch_tokens_max);
        if let Some(measured) = measured {
            metrics.device(DeviceEvent::Measured(measured));
        }
        let batch_tokens_max = match (measured, info.batch_tokens) {
            (Some(measured), _) => measured.batch_tokens,
            (None, BatchRows::Known(_)) => batch_tokens_max,
            // Even the smallest batch that was tried failed.
            (None, BatchRows::AtMost(_)) => batch_tokens_max.min(warm_up::TOKENS_MIN),
        };
        let config = EngineConfig { batch_tokens_max, ..config };
        let prefix_bytes_max = config.prefix_bytes_max;
        let workers = Workers {
            count: replicas.len(),
            share: prefix_bytes_max > 0 && model.shares_prefixes(),
            rate: measured.map(|measured| measured.tokens_per_second),
        };
        let queue = Arc::new(Queue::new(config.clone(), workers, metrics.clone()));
        let threads = config.tokenization_threads;
        let pool = Pool::start("tokenize", threads, TEXTS_OF_A_TURN, &recipe)?;
        let media = info.media.then(|| Pool::start("media", threads, 1, &recipe)).transpose()?;
        let shared =
            WorkerResources { queue: queue.clone(), metrics: metrics.clone(), prefix_bytes_max };
        for (slot, replica) in replicas.into_iter().enumerate() {
            // On an error, the workers started so far end.
            replica::start(shared.clone(), slot, replica).inspect_err(|_| queue.close())?;
        }
        let (text_bytes, media_bytes) = Default::default();
        let handle =
            Handle { info, recipe, config, queue, pool, media, metrics, text_bytes, media_bytes };
        Ok(Self { handle: Arc::new(handle), caller: Caller::default() })
    }

    /// This engine, on behalf of a caller.
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self { handle: self.handle.clone(), caller }
    }

    /// Properties of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.handle.info
    }

    /// The limits in effect: batches have no more tokens than the device needs to be fast.
    pub fn config(&self) -> &EngineConfig {
        &self.handle.config
    }

    /// Embeds inputs. Dropping the future drops its jobs that have not run.
    ///
    /// # Errors
    /// See [`EngineError`]; a request succeeds or fails as a whole.
    pub async fn embed(&self, request: EmbedRequest) -> Result<EmbedAnswer, EngineError> {
        let mut all = self.embed_all(vec![request]).await?;
        Ok(EmbedAnswer { vectors: all.vectors.pop().unwrap_or_default(), timings: all.timings })
    }

    /// Embeds the inputs of several requests, which are admitted together and succeed or fail as a
    /// whole. An invalid input is reported by its index among all inputs.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn embed_all(
        &self,
        requests: Vec<EmbedRequest>,
    ) -> Result<EmbedAllAnswer, EngineError> {
        let started = Instant::now();
        let width = self.info().capabilities.embedding;
        let width = width.ok_or(EngineError::unsupported("embed"))?;
        let (mut parts, mut cuts) = (Vec::new(), Vec::new());
        for EmbedRequest { inputs, prepare, dimensions, normalize } in requests {
            if let Some(asked) = dimensions.filter(|asked| !(1..=width).contains(asked)) {
                return Err(EngineError::Dimensions { asked, width });
            }
            cuts.push((inputs.len(), dimensions, normalize));
            parts.push(InputPart { inputs, how: prepare });
        }
        self.check_count(parts.iter().map(|part| part.inputs.len()).sum())?;
        let _accepted = self.accept()?;
        let mut tally = Tally::of(&self.caller);
        let mut raw = self.vectors(parts, &mut tally).await?.into_iter();
        let vectors = cuts.into_iter().map(|(count, dimensions, normalize)| {
            let own = raw.by_ref().take(count);
            own.map(|raw| finish(&raw, dimensions, normalize)).collect()
        });
        let vectors = vectors.collect();
        Ok(EmbedAllAnswer { vectors, timings: tally.timings(started) })
    }

    /// Raw vectors of inputs, from the cache or a worker.
    pub(crate) async fn vectors(
        &self,
        parts: Vec<InputPart>,
        tally: &mut Tally,
    ) -> Result<Vec<Vector>, EngineError> {
        let Prepared { sequences, expected } = self.prepare(parts, tally).await?;
        let slots = self.handle.queue.admit_embeddings(expected, sequences)?;
        self.in_time(tally, async |tally| {
            let mut vectors = Vec::with_capacity(slots.len());
            for (index, slot) in slots.into_iter().enumerate() {
                vectors.push(match slot {
                    PendingVector::Cached(vector) => vector,
                    PendingVector::Waiting(answer) => tally.add(received(index, answer).await?),
                });
            }
            Ok(vectors)
        })
        .await
    }

    /// Runs `receive`, unless the request times out before any of it is computed; then its waiting
    /// jobs are dropped.
    async fn in_time<T>(
        &self,
        tally: &mut Tally,
        receive: impl AsyncFnOnce(&mut Tally) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let (limit, ticket) = (self.wait_limit(tally), tally.ticket.clone());
        let received = in_time(limit, || ticket.has_begun(), receive(tally)).await;
        received.unwrap_or_else(|_| Err(self.handle.queue.overloaded()))
    }

    /// How long a request may still wait.
    pub(crate) fn wait_limit(&self, tally: &Tally) -> Limit {
        Limit { wait_max: self.config().queue_time_max, waited: tally.waited }
    }

    /// Logits of inputs. Inputs with the same tokens are computed once.
    pub(crate) async fn logits(
        &self,
        inputs: Vec<Input>,
        how: Prepare,
        tally: &mut Tally,
    ) -> Result<Vec<Vec<f32>>, EngineError> {
        let Prepared { sequences, expected } =
            self.prepare(InputPart::only(inputs, how), tally).await?;
        let mut unique_indices = Vec::with_capacity(sequences.len());
        let (mut known, mut firsts, mut unique) = (HashMap::new(), Vec::new(), Vec::new());
        for (index, sequence) in sequences.into_iter().enumerate() {
            let next = unique.len();
            let unique_index = *known.entry(sequence.clone()).or_insert(next);
            if unique_index == next {
                firsts.push(index);
                unique.push(sequence);
            }
            unique_indices.push(unique_index);
        }
        let answers = self.handle.queue.admit(expected, unique, Reply::Score)?;
        let logits = self.received(firsts.into_iter().zip(answers), tally).await?;
        Ok(unique_indices.into_iter().map(|index: usize| logits[index].clone()).collect())
    }

    /// Logits of texts or pairs, one for each label of the model.
    ///
    /// # Errors
    /// See [`EngineError`]; a request succeeds or fails as a whole.
    pub async fn predict(&self, request: PredictRequest) -> Result<PredictAnswer, EngineError> {
        let started = Instant::now();
        if self.info().capabilities.labels.is_none() {
            return Err(EngineError::unsupported("classify"));
        }
        let _accepted = self.accept()?;
        let mut tally = Tally::of(&self.caller);
        let logits = self.logits(request.inputs, request.prepare, &mut tally).await?;
        Ok(PredictAnswer { logits, timings: tally.timings(started) })
    }

    /// Accepts a request; see [`Queue::accept`].
    pub(crate) fn accept(&self) -> Result<Accepted<'_>, EngineError> {
        self.handle.queue.accept()
    }

    /// Hidden states of every token of each input.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn tokens(&self, request: TokensRequest) -> Result<TokensAnswer, EngineError> {
        let started = Instant::now();
        let _accepted = self.accept()?;
        let mut tally = Tally::of(&self.caller);
        let how = request.prepare;
        let rows = self.each(request.inputs, how, &mut tally, Reply::Tokens).await?;
        Ok(TokensAnswer { rows, timings: tally.timings(started) })
    }

    /// Sparse token weights of each input.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn sparse(&self, request: TokensRequest) -> Result<SparseAnswer, EngineError> {
        let started = Instant::now();
        if !self.info().capabilities.sparse {
            return Err(EngineError::unsupported("give word weights"));
        }
        let _accepted = self.accept()?;
        let mut tally = Tally::of(&self.caller);
        let how = request.prepare;
        let weights = self.each(request.inputs, how, &mut tally, Reply::Sparse).await?;
        Ok(SparseAnswer { weights, timings: tally.timings(started) })
    }

    /// One unit vector per token but the first, for late interaction.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub async fn multi_vectors(&self, request: TokensRequest) -> Result<TokensAnswer, EngineError> {
        let started = Instant::now();
        let _accepted = self.accept()?;
        let mut tally = Tally::of(&self.caller);
        let rows = self.token_vectors(request.inputs, request.prepare, &mut tally).await?;
        Ok(TokensAnswer { rows, timings: tally.timings(started) })
    }

    /// See [`multi_vectors`](Self::multi_vectors).
    pub(crate) async fn token_vectors(
        &self,
        inputs: Vec<Input>,
        how: Prepare,
        tally: &mut Tally,
    ) -> Result<Vec<Vec<Vec<f32>>>, EngineError> {
        if !self.info().capabilities.multi {
            return Err(EngineError::unsupported("give token vectors"));
        }
        self.each(inputs, how, tally, Reply::Multi).await
    }

    /// The readout that `reply` selects, for each input in order.
    pub(crate) async fn each<T>(
        &self,
        inputs: Vec<Input>,
        how: Prepare,
        tally: &mut Tally,
        reply: impl Fn(Waiter<T>) -> Reply,
    ) -> Result<Vec<T>, EngineError> {
        let Prepared { sequences, expected } =
            self.prepare(InputPart::only(inputs, how), tally).await?;
        let answers = self.handle.queue.admit(expected, sequences, reply)?;
        self.received(answers.into_iter().enumerate(), tally).await
    }

    /// Waits for all answers; each comes with the index of its input.
    async fn received<T>(
        &self,
        answers: impl ExactSizeIterator<Item = (usize, ResultReceiver<T>)>,
        tally: &mut Tally,
    ) -> Result<Vec<T>, EngineError> {
        self.in_time(tally, async |tally| {
            let mut results = Vec::with_capacity(answers.len());
            for (index, answer) in answers {
                results.push(tally.add(received(index, answer).await?));
            }
            Ok(results)
        })
        .await
    }

    /// Runs a real forward pass on every worker, bypassing the cache and queue limits, and checks
    /// that its output is finite. Returns the longest time one took.
    ///
    /// # Errors
    /// Why a worker's pass failed.
    pub async fn check(&self) -> Result<Duration, EngineError> {
        let ended = || EngineError::Failed { reason: "the worker has ended".into() };
        let mut longest = Duration::ZERO;
        for answer in self.handle.queue.ask_check() {
            longest = longest.max(answer.await.unwrap_or_else(|_| Err(ended()))?);
        }
        Ok(longest)
    }

    /// Waits until the device of a worker fails for good, and returns the reason; waits forever if
    /// none does. Other workers still answer requests.
    pub async fn wait_lost(&self) -> String {
        self.handle.queue.wait_lost().await
    }

    /// Why the device of a worker failed for good, if one did.
    pub fn lost(&self) -> Option<String> {
        self.handle.queue.lost()
    }

    /// Number of idle workers.
    pub fn idle_workers(&self) -> usize {
        self.handle.queue.idle()
    }

    /// Statistics of the vector cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.handle.queue.cache_stats()
    }

    /// Tokens waiting in the queue.
    pub fn queue_tokens(&self) -> usize {
        self.handle.queue.tokens()
    }

    /// Stops accepting requests, and returns when everything accepted is answered.
    pub async fn shutdown(&self) {
        self.handle.queue.close();
        self.handle.queue.wait_end().await;
        self.handle.pool.close();
        self.handle.media.iter().for_each(Pool::close);
    }
}
