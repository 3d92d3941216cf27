//! Sends chunks to the engine, several at a time; fewer when the engine is overloaded.
//!
//! Must not know: how records are read, how chunks are made.

use proxima_engine::{EmbedAnswer, EmbedRequest, Engine, EngineError};
use proxima_models::Input;
use tokio::sync::Semaphore;

use super::chunks::Ready;
use super::{BulkJob, BulkRecord, CommandError};

/// Concurrent requests: enough to tokenise and decode ahead, few enough to bound memory.
pub const REQUESTS: usize = 4;

/// A record with its vector.
type Embedded = (BulkRecord, Vec<f32>);

/// The requests of a run.
pub struct Requests<'a> {
    engine: &'a Engine,
    job: &'a BulkJob,
    /// A request holds one permit, or all of them when it must run alone.
    turns: Semaphore,
}

impl<'a> Requests<'a> {
    /// The requests of `job`.
    pub fn new(engine: &'a Engine, job: &'a BulkJob) -> Self {
        Self { engine, job, turns: Semaphore::new(REQUESTS) }
    }

    /// Embeds some records.
    ///
    /// # Errors
    /// A record cannot be embedded (the message says where it was found), or the engine fails.
    pub async fn embed(&self, records: Vec<Ready>) -> Result<Vec<Embedded>, CommandError> {
        let (records, inputs): (Vec<BulkRecord>, Vec<Input>) = records.into_iter().unzip();
        let vectors = self.vectors(&inputs).await.map_err(|error| match error {
            EngineError::Input { index, source } => {
                CommandError::failure(format!("{}: {source}", records[index].origin))
            }
            EngineError::NotFinite { index } => CommandError::failure(format!(
                "{}: the model's output is not finite",
                records[index].origin
            )),
            other => CommandError::failure(other.to_string()),
        })?;
        Ok(records.into_iter().zip(vectors).collect())
    }

    /// The vectors of some inputs: sent alongside other requests; if the engine is overloaded,
    /// alone; if it still is, one input at a time.
    async fn vectors(&self, inputs: &[Input]) -> Result<Vec<Vec<f32>>, EngineError> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        // The semaphore is never closed; an error would only mean more concurrent requests.
        let turn = self.turns.acquire().await.ok();
        let answer = self.ask(inputs).await;
        drop(turn);
        let Err(EngineError::Overloaded { .. }) = answer else { return Ok(answer?.vectors) };
        // All permits are free once earlier requests are answered; later ones wait.
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
