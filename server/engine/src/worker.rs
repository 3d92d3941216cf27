//! The thread that owns the model. It runs batch after batch through the network and its readouts.
//!
//! Must not know: requests, wire formats.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use proxima_models::readout::token_rows;
use proxima_models::{HiddenStates, Model, Prepare, RaggedBatch, Sequence};

use crate::batching::cost;
use crate::error::EngineError;
use crate::job::{Computed, Job, JobError, Reply, Vector, Waiter};
use crate::metrics::{DeviceEvent, Metrics, Observation};
use crate::prefixes::Prefixes;
use crate::queue::{Next, Queue};
use crate::ticket::Ticket;
use crate::worker_slots::CheckSender;

/// How long a batch runs before other work may run between its layers. It is short, as a small
/// request waits this long during a large batch.
const PAUSE_AFTER: Duration = Duration::from_millis(2);

/// Why a worker stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The queue is closed and everything accepted is answered.
    Ended,
    /// The device no longer works, for this reason.
    DeviceFailed(String),
}

/// What a worker needs.
pub struct WorkerContext<'a> {
    /// Where jobs come from.
    pub queue: &'a Queue,
    /// Its index among the queue's workers.
    pub slot: usize,
    /// The model it runs.
    pub model: &'a Model,
    /// Receives observations.
    pub metrics: &'a dyn Metrics,
    /// Size of its prefix KV cache in bytes; 0 disables prefix sharing.
    pub prefix_bytes_max: usize,
}

/// Runs until the queue ends or the device fails.
pub fn run(context: WorkerContext<'_>) -> Stopped {
    let worker = Worker::new(context);
    loop {
        // The last batch may have panicked and left another value.
        worker.running.set(RunState::Nothing);
        match worker.context.queue.next(worker.context.slot) {
            Next::End => return Stopped::Ended,
            Next::Check(senders) => worker.check(senders),
            Next::Batch(jobs) => worker.batch(jobs),
        }
        let postponed = worker.postponed.take();
        if !postponed.is_empty() {
            worker.check(postponed);
        }
        if let Some(reason) = worker.failed.take() {
            return Stopped::DeviceFailed(reason);
        }
    }
}

/// Runs a health check and returns how long its forward pass took.
///
/// # Errors
/// Why it failed.
pub fn check(context: WorkerContext<'_>) -> Result<Duration, EngineError> {
    Worker::new(context).alive().map_err(|(error, _)| error)
}

struct Worker<'a> {
    context: WorkerContext<'a>,
    prefixes: RefCell<Prefixes>,
    /// Whether sequences with a common prefix share its rows.
    shares: bool,
    running: Cell<RunState>,
    /// Total time spent in pauses of batches.
    paused: Cell<Duration>,
    /// Why the device no longer works, once that is known.
    failed: RefCell<Option<String>>,
    /// Health checks that ran out of memory in a pause of a batch, to be repeated after it.
    postponed: RefCell<Vec<CheckSender>>,
}

/// Whether a failure is out of memory: half of a batch may still fit.
type OutOfMemory = bool;

/// Why a batch failed.
struct BatchFailure {
    reason: String,
    out_of_memory: OutOfMemory,
}

/// What the thread is running.
#[derive(Debug, Clone, Copy)]
enum RunState {
    Nothing,
    /// A batch, since it started or resumed from its last pause.
    Batch {
        since: Instant,
    },
    /// Other work in a pause of a batch, which is not itself paused.
    InPause,
}

/// Outputs of a batch, one per sequence. A readout that no job asks for is not run.
struct Outputs {
    vectors: Vec<Vec<f32>>,
    tokens: Vec<Vec<Vec<f32>>>,
    logits: Vec<Vec<f32>>,
    sparse: Vec<Vec<(u32, f32)>>,
    multi: Vec<Vec<Vec<f32>>>,
    lists: Vec<Vec<Vec<f32>>>,
    /// Rows computed.
    rows: usize,
}

impl Outputs {
    /// Checks that there is an output for each job, which answering the jobs relies on. A panic
    /// here fails only this batch.
    ///
    /// # Panics
    /// If a readout gave a wrong number of outputs.
    fn check(&self, jobs: &[Job]) {
        for job in jobs {
            let found = match &job.reply {
                Reply::Embedding => self.vectors.len(),
                Reply::Tokens(_) => self.tokens.len(),
                Reply::Score(_) => self.logits.len(),
                Reply::Sparse(_) => self.sparse.len(),
                Reply::Multi(_) => self.multi.len(),
                Reply::List(_) => self.lists.len(),
            };
            assert_eq!(found, jobs.len(), "a readout gives an output for each sequence");
        }
    }
}

impl<'a> Worker<'a> {
    fn new(context: WorkerContext<'a>) -> Self {
        Self {
            prefixes: RefCell::new(Prefixes::new(context.prefix_bytes_max)),
            shares: context.prefix_bytes_max > 0 && context.model.shares_prefixes(),
            running: Cell::new(RunState::Nothing),
            paused: Cell::new(Duration::ZERO),
            failed: RefCell::new(None),
            postponed: RefCell::default(),
            context,
        }
    }

    fn observe(&self, observation: Observation) {
        self.context.metrics.observe(observation);
    }

    /// Runs a batch and answers its jobs. If it fails while the device still works, its halves are
    /// retried, so that only the offending sequence fails, and a batch that was too large for
    /// memory fits.
    fn batch(&self, mut jobs: Vec<Job>) {
        let started = Instant::now();
        let paused_before = self.paused.get();
        let outputs = self.guarded(|| self.outputs(&jobs));
        let took = started.elapsed().saturating_sub(self.paused.get() - paused_before);
        let sequences = jobs.len();
        let failure = match outputs {
            Ok(outputs) => {
                let tokens: usize = jobs.iter().map(|job| job.sequence.tokens.len()).sum();
                let rows = outputs.rows;
                self.observe(Observation::Batch { sequences, tokens, rows, took });
                // Rows shared or taken from the prefix cache took no time.
                self.context.queue.note_rate(cost_of(&jobs) * rows / tokens.max(1), took);
                return self.answer(jobs, outputs, started, took);
            }
            Err(failure) => failure,
        };
        self.observe(Observation::BatchFailed { sequences });
        if self.failed.borrow().is_none()
            && let Err((error, false)) = self.alive()
        {
            *self.failed.borrow_mut() = Some(format!("{}, then: {error}", failure.reason));
        }
        let device = &self.context.model.info.device;
        if self.failed.borrow().is_some() || sequences == 1 {
            for job in jobs {
                let reason = &failure.reason;
                let request_id = job.ticket.request_id();
                tracing::error!(%device, request_id, %reason, "an input could not be computed");
                self.fail(job, &JobError::Failed(reason.clone()));
            }
            return;
        }
        let reason = &failure.reason;
        tracing::warn!(%device, sequences, %reason, "a batch failed, its halves are tried again");
        // In a pause, the paused batch holds the memory, so the size of this one is not the cause.
        if failure.out_of_memory && !matches!(self.running.get(), RunState::InPause) {
            self.context.queue.note_too_large(cost_of(&jobs));
            self.context.metrics.device(DeviceEvent::OutOfMemory { sequences });
        }
        let second = jobs.split_off(sequences / 2);
        self.batch(jobs);
        self.batch(second);
    }

    /// Runs model code and turns a panic into a failure.
    fn guarded<T>(
        &self,
        run: impl FnOnce() -> Result<T, proxima_models::ModelError>,
    ) -> Result<T, BatchFailure> {
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(result) => result.map_err(|error| BatchFailure {
                out_of_memory: proxima_models::is_out_of_memory(&error),
                reason: proxima_models::sentence(&error),
            }),
            Err(panic) => Err(BatchFailure { reason: panic_reason(&*panic), out_of_memory: false }),
        }
    }

    /// Runs the network. Small requests and health checks that arrive during a long batch run
    /// between its layers.
    fn encode(&self, batch: &RaggedBatch) -> Result<HiddenStates, proxima_models::ModelError> {
        if matches!(self.running.get(), RunState::InPause) {
            return self.context.model.encoder.encode(batch);
        }
        self.running.set(RunState::Batch { since: Instant::now() });
        let result = self.context.model.encoder.run(batch, &|| self.pause());
        self.running.set(RunState::Nothing);
        result
    }

    fn pause(&self) {
        let RunState::Batch { since } = self.running.get() else { return };
        // If the device has failed, small requests also wait for its restart.
        if since.elapsed() < PAUSE_AFTER || self.failed.borrow().is_some() {
            return;
        }
        let started = Instant::now();
        self.running.set(RunState::InPause);
        match self.context.queue.urgent(self.context.slot) {
            Some(Next::Check(senders)) => self.check(senders),
            Some(Next::Batch(jobs)) => self.batch(jobs),
            Some(Next::End) | None => {}
        }
        self.paused.set(self.paused.get() + started.elapsed());
        self.running.set(RunState::Batch { since: Instant::now() });
    }

    /// Hidden states, and the number of rows computed for them.
    fn hidden(
        &self,
        sequences: &[&Sequence],
        share: bool,
    ) -> Result<(HiddenStates, usize), proxima_models::ModelError> {
        if !share {
            let batch = RaggedBatch::new(sequences.iter().copied());
            return Ok((self.encode(&batch)?, batch.tokens().len()));
        }
        let recent = self.prefixes.borrow().recent();
        let find = |tokens: &[u32]| self.prefixes.borrow_mut().find(tokens);
        let batch = RaggedBatch::sharing(sequences, &recent, find);
        let mut hidden = self.encode(&batch)?;
        let mut prefixes = self.prefixes.borrow_mut();
        prefixes.insert(std::mem::take(&mut hidden.prefixes));
        sequences.iter().for_each(|sequence| prefixes.remember(sequence));
        self.observe(Observation::PrefixSize { bytes: prefixes.bytes() });
        Ok((hidden, batch.tokens().len()))
    }

    fn outputs(&self, jobs: &[Job]) -> Result<Outputs, proxima_models::ModelError> {
        let sequences: Vec<&Sequence> = jobs.iter().map(|job| &*job.sequence).collect();
        let wants = |kind: fn(&Reply) -> bool| jobs.iter().any(|job| kind(&job.reply));
        let wants_tokens = wants(|reply| matches!(reply, Reply::Tokens(_)));
        // With prefix sharing, there are hidden states of last tokens only.
        let (hidden, rows) = self.hidden(&sequences, self.shares && !wants_tokens)?;
        let readouts = &self.context.model.readouts;
        let vectors = wants(|reply| matches!(reply, Reply::Embedding));
        let vectors = readouts.embedding.as_ref().filter(|_| vectors);
        let logits = wants(|reply| matches!(reply, Reply::Score(_)));
        let logits = readouts.score.as_ref().filter(|_| logits);
        let sparse = wants(|reply| matches!(reply, Reply::Sparse(_)));
        let sparse = readouts.sparse.as_ref().filter(|_| sparse);
        let multi = wants(|reply| matches!(reply, Reply::Multi(_)));
        let multi = readouts.multi.as_ref().filter(|_| multi);
        let lists = wants(|reply| matches!(reply, Reply::List(_)));
        let lists = readouts.list.as_ref().filter(|_| lists);
        let outputs = Outputs {
            vectors: vectors.map_or(Ok(Vec::new()), |readout| readout.embed(&hidden))?,
            tokens: if wants_tokens { token_rows(&hidden)? } else { Vec::new() },
            logits: logits.map_or(Ok(Vec::new()), |readout| readout.logits(&hidden))?,
            sparse: sparse
                .map_or(Ok(Vec::new()), |readout| readout.weights(&hidden, &sequences))?,
            multi: multi.map_or(Ok(Vec::new()), |readout| readout.vectors(&hidden))?,
            lists: lists.map_or(Ok(Vec::new()), |readout| readout.vectors(&hidden))?,
            rows,
        };
        outputs.check(jobs);
        Ok(outputs)
    }

    fn answer(&self, jobs: Vec<Job>, mut outputs: Outputs, started: Instant, took: Duration) {
        for (index, job) in jobs.into_iter().enumerate() {
            let queue = started.saturating_duration_since(job.arrived);
            let spent = Spent { queue, inference: took, ticket: &job.ticket };
            match job.reply {
                Reply::Embedding => {
                    let vector: Vector = std::mem::take(&mut outputs.vectors[index]).into();
                    self.context.queue.complete(&job.sequence, &self.computed(vector, &spent));
                }
                Reply::Score(waiter) => {
                    self.reply(waiter, std::mem::take(&mut outputs.logits[index]), &spent);
                }
                Reply::Sparse(waiter) => {
                    self.reply(waiter, std::mem::take(&mut outputs.sparse[index]), &spent);
                }
                Reply::Multi(waiter) => {
                    self.reply(waiter, std::mem::take(&mut outputs.multi[index]), &spent);
                }
                Reply::List(waiter) => {
                    self.reply(waiter, std::mem::take(&mut outputs.lists[index]), &spent);
                }
                Reply::Tokens(waiter) => {
                    self.reply(waiter, std::mem::take(&mut outputs.tokens[index]), &spent);
                }
            }
        }
    }

    /// Sends a result to its waiter. A client that has disconnected is ignored.
    fn reply<T: Output>(&self, waiter: Waiter<T>, value: T, spent: &Spent<'_>) {
        let _ = waiter.send(self.computed(value, spent));
    }

    /// A result, if all its values are finite.
    fn computed<T: Output>(&self, value: T, spent: &Spent<'_>) -> Result<Computed<T>, JobError> {
        if value.is_finite() {
            return Ok(Computed { value, queue: spent.queue, inference: spent.inference });
        }
        let device = &self.context.model.info.device;
        let request_id = spent.ticket.request_id();
        tracing::error!(%device, request_id, "a result is not finite");
        self.observe(Observation::NotFinite);
        Err(JobError::NotFinite)
    }

    fn fail(&self, job: Job, error: &JobError) {
        match job.reply {
            Reply::Embedding => self.context.queue.complete(&job.sequence, &Err(error.clone())),
            // A client that has disconnected is ignored.
            Reply::Tokens(waiter) | Reply::Multi(waiter) | Reply::List(waiter) => {
                drop(waiter.send(Err(error.clone())));
            }
            Reply::Score(waiter) => drop(waiter.send(Err(error.clone()))),
            Reply::Sparse(waiter) => drop(waiter.send(Err(error.clone()))),
        }
    }

    /// Runs a short sequence through the network. Returns the time it took if its output is finite;
    /// otherwise why it failed, and whether only for lack of memory.
    fn alive(&self) -> Result<Duration, (EngineError, OutOfMemory)> {
        let started = Instant::now();
        let rows = self.guarded(|| {
            let recipe = &self.context.model.recipe;
            let sequence = recipe.prepare(&recipe.check_input(), &Prepare::default());
            let sequence = sequence.map_err(proxima_models::ModelError::wrap)?;
            token_rows(&self.hidden(&[&sequence], false)?.0)
        });
        match rows {
            Err(BatchFailure { reason, out_of_memory }) => {
                Err((EngineError::Failed { reason }, out_of_memory))
            }
            Ok(rows) if rows.iter().all(Output::is_finite) => Ok(started.elapsed()),
            Ok(_) => Err((EngineError::NotFinite { index: 0 }, false)),
        }
    }

    /// Answers a health check. A failure marks the device as failed, unless it is for lack of
    /// memory. If the memory is held by a batch in whose pause this runs, the check is repeated
    /// after that batch.
    fn check(&self, senders: Vec<CheckSender>) {
        let result = match self.alive() {
            Err((_, true)) if matches!(self.running.get(), RunState::InPause) => {
                return self.postponed.borrow_mut().extend(senders);
            }
            Err((error, out_of_memory)) => {
                if !out_of_memory {
                    self.failed.borrow_mut().get_or_insert_with(|| error.to_string());
                }
                Err(error)
            }
            Ok(took) => Ok(took),
        };
        for sender in senders {
            // The caller may have given up.
            let _ = sender.send(result.clone());
        }
    }
}

/// Cost of all jobs together, without prefix sharing.
fn cost_of(jobs: &[Job]) -> usize {
    jobs.iter().map(|job| cost(job.sequence.work())).sum()
}

/// What a job took, and whose it is.
struct Spent<'a> {
    queue: Duration,
    inference: Duration,
    ticket: &'a Ticket,
}

/// An output of a sequence.
trait Output {
    fn is_finite(&self) -> bool;
}

impl Output for Vector {
    fn is_finite(&self) -> bool {
        self.iter().all(|value| value.is_finite())
    }
}

impl Output for Vec<f32> {
    fn is_finite(&self) -> bool {
        self.iter().all(|value| value.is_finite())
    }
}

impl Output for Vec<(u32, f32)> {
    fn is_finite(&self) -> bool {
        self.iter().all(|(_, weight)| weight.is_finite())
    }
}

impl Output for Vec<Vec<f32>> {
    fn is_finite(&self) -> bool {
        self.iter().flatten().all(|value| value.is_finite())
    }
}

fn panic_reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a panic: {}", text.unwrap_or("without a message"))
}
