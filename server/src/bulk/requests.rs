//! Chunks as requests to the engine, some at a time; fewer where there is no room.
//!
//! Must not know: how records are read, how chunks are made.

use proxima_engine::{EmbedAnswer, EmbedRequest, Engine, EngineError};
use proxima_models::Input;
use tokio::sync::Semaphore;

use super::chunks::Ready;
use super::{CommandError, Job, Record};

/// Requests at a time: enough to tokenise and decode ahead, few enough to hold little.
pub const REQUESTS: usize = 4;

/// A record with its vector.
type Embedded = (Record, Vec<f32>);

/// The requests of a run.
pub struct Requests<'a> {
    engine: &'a Engine,
    job: &'a Job,
    /// A request has one of these, or all while it may not wait beside others.
    turns: Semaphore,
}

impl<'a> Requests<'a> {
    /// Those of a job.
    pub fn new(engine: &'a Engine, job: &'a Job) -> Self {
        Self { engine, job, turns: Semaphore::new(REQUESTS) }
    }

    /// The vectors of some records.
    ///
    /// # Errors
    /// A record that cannot be embedded, named by its place, or an engine that cannot.
    pub async fn embed(&self, records: Vec<Ready>) -> Result<Vec<Embedded>, CommandError> {
        let (records, inputs): (Vec<Record>, Vec<Input>) = records.into_iter().unzip();
        let vectors = self.vectors(&inputs).await.map_err(|error| match error {
            EngineError::Input { index, source } => {
                CommandError::failure(format!("{}: {source}", records[index].place))
            }
            EngineError::NotFinite { index } => CommandError::failure(format!(
                "{}: the model's output is not finite",
                records[index].place
            )),
            other => CommandError::failure(other.to_string()),
        })?;
        Ok(records.into_iter().zip(vectors).collect())
    }

    /// The vectors of some inputs: beside others, if there is no room alone, if there is none still
    /// input by input.
    async fn vectors(&self, inputs: &[Input]) -> Result<Vec<Vec<f32>>, EngineError> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        // Nobody closes the turns; without one there would only be more requests at a time.
        let turn = self.turns.acquire().await.ok();
        let answer = self.ask(inputs).await;
        drop(turn);
        let Err(EngineError::Overloaded { .. }) = answer else { return Ok(answer?.vectors) };
        // All turns are free once the requests before this one are answered; those behind wait.
        let _turns = self.turns.acquire_many(REQUESTS as u32).await.ok();
        let answer = self.ask(inputs).await;
        let Err(EngineError::Overloaded { .. }) = answer else { return Ok(answer?.vectors) };
        let mut vectors = Vec::with_capacity(inputs.len());
        for (index, input) in inputs.iter().enumerate() {
            let answer = self.ask(std::slice::from_ref(input)).await;
            let answer = answer.map_err(|error| match error {
                EngineError::Input { source, .. } => EngineError::Input { index, source },
                EngineError::NotFinite { .. } => EngineError::NotFinite { index },
                other => other,
            })?;
            vectors.extend(answer.vectors);
        }
        Ok(vectors)
    }

    async fn ask(&self, inputs: &[Input]) -> Result<EmbedAnswer, EngineError> {
        let request = EmbedRequest {
            inputs: inputs.to_vec(),
            prepare: self.job.prepare.clone(),
            dimensions: self.job.dimensions,
            normalize: self.job.normalize,
        };
        self.engine.embed(request).await
    }
}
