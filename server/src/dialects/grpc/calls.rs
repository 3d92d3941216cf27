//! Turns messages into answers: a single one, each of a stream in order, or a stream as a whole.
//!
//! Must not know: the contents of any message.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, stream};
use prost::Message;
use proxima_engine::{ClientKey, EngineError, Timings};
use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::intake::CallReservation;
use super::status::status;
use crate::http::{App, COMPUTE_TYPE, Failure, Scope, Want, WhenFull, busy, timing_values};

/// Messages of one stream that are processed concurrently.
const IN_FLIGHT_MAX: usize = 16;

/// Replies to a stream.
pub type Replies<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// A reply, with timings if they were measured.
pub type CallResult<A> = Result<(A, Option<Timings>), Failure>;

/// What all services share.
#[derive(Debug, Clone)]
pub struct Calls {
    app: Arc<App>,
    stop: watch::Receiver<bool>,
}

impl Calls {
    /// Calls of an app; `stop` turns true when the server shuts down.
    pub fn new(app: Arc<App>, stop: watch::Receiver<bool>) -> Self {
        Self { app, stop }
    }

    /// The app.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Whether the server is shutting down.
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when the server shuts down.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.clone();
        // An error means that the sender was dropped, which is a shutdown as well.
        async move { drop(stop.wait_for(|stopping| *stopping).await) }
    }

    /// Answers a message, with timings as metadata.
    pub async fn one<Q, A, F: Future<Output = CallResult<A>>>(
        &self,
        request: Request<Q>,
        when_full: WhenFull,
        answer: impl FnOnce(Arc<App>, Q) -> F,
    ) -> Result<Response<A>, Status> {
        let client = client(&request);
        let (_, extensions, message) = request.into_parts();
        let work = answer(self.app.clone(), message);
        let ((reply, timings), scope) = self.limited(client, when_full, work).await?;
        // This releases the message's share of the body budget.
        drop(extensions);
        let mut response = Response::new(reply);
        response.extensions_mut().insert(scope);
        if let Some(timings) = timings {
            let metadata = response.metadata_mut();
            metadata.insert("x-compute-type", MetadataValue::from_static(COMPUTE_TYPE));
            for (name, value) in timing_values(&timings) {
                metadata.insert(name, MetadataValue::from(value));
            }
        }
        Ok(response)
    }

    /// Answers each message of a stream, in order; the first failure is the last reply. On
    /// shutdown, messages already read are answered and no more are read.
    pub fn each<Q, A, F>(
        &self,
        messages: Request<Streaming<Q>>,
        answer: fn(Arc<App>, Q) -> F,
    ) -> Response<Replies<A>>
    where
        Q: Send + 'static,
        A: Send + 'static,
        F: Future<Output = CallResult<A>> + Send + 'static,
    {
        let (calls, ending, client) = (self.clone(), self.clone(), client(&messages));
        of_stream(&messages);
        let end = async move { ending.is_stopping().then(|| Err(stopping())) };
        let messages = messages.into_inner().take_until(self.stopped());
        let messages = messages.chain(stream::once(end).filter_map(std::future::ready));
        let replies = messages.map(move |message| {
            let calls = calls.clone();
            async move {
                let work = answer(calls.app.clone(), message?);
                calls.limited(client, WhenFull::Wait, work).await
            }
        });
        let mut replies = Box::pin(replies.buffered(IN_FLIGHT_MAX));
        let mut held: Option<Arc<Scope>> = None;
        let replies = stream::poll_fn(move |context| {
            // A poll for the next reply means that the previous one was written.
            drop(held.take());
            replies.as_mut().poll_next(context).map_ok(|((reply, _), scope)| {
                held = Some(scope);
                reply
            })
        });
        Response::new(Box::pin(replies))
    }

    /// All messages of a stream that is answered as a whole: at most as many as the inputs of a
    /// request, and no larger together than a body.
    pub async fn all<Q: Message>(
        &self,
        messages: Request<Streaming<Q>>,
        want: Want,
    ) -> Result<Request<Vec<Q>>, Status> {
        of_stream(&messages);
        let (metadata, mut extensions, mut messages) = messages.into_parts();
        let (timeout, bytes_max) =
            (self.app.config().request_timeout, self.app.config().body_bytes_max);
        let refused = |failure: Failure| {
            self.app.metrics().refused(&failure);
            status(&failure)
        };
        let limit = self.app.find(None, want).map_err(refused)?.inputs_max();
        let room = self.app.intake().bodies.begin();
        let mut room = room.map_err(|full| refused(busy(full)))?;
        let read = async {
            let (mut all, mut bytes) = (Vec::new(), 0);
            while let Some(message) = messages.message().await? {
                bytes += message.encoded_len();
                all.push(message);
                if bytes > bytes_max {
                    return Err(refused(Failure::BodyTooLarge { limit: bytes_max }));
                }
                if all.len() > limit {
                    let count = all.len();
                    return Err(refused(EngineError::TooManyInputs { count, limit }.into()));
                }
                room.grow(bytes).map_err(|full| refused(busy(full)))?;
            }
            Ok(all)
        };
        let all = tokio::select! {
            read = tokio::time::timeout(timeout, read) => {
                read.unwrap_or_else(|_| Err(refused(Failure::Timeout { limit: timeout })))
            }
            () = self.stopped() => Err(stopping()),
        }?;
        // Held as long as the messages are.
        extensions.insert(Arc::new(room));
        Ok(Request::from_parts(metadata, extensions, all))
    }

    async fn limited<A>(
        &self,
        client: ClientKey,
        when_full: WhenFull,
        work: impl Future<Output = CallResult<A>>,
    ) -> Result<((A, Option<Timings>), Arc<Scope>), Status> {
        self.app.within_limits(client, when_full, work).await.map_err(|failure| {
            // The engine counts its own refusals per model; it has not seen this one.
            if failure.is_of_handler() {
                self.app.metrics().refused(&failure);
            }
            status(&failure)
        })
    }
}

/// The client that made the call.
fn client<Q>(request: &Request<Q>) -> ClientKey {
    request.extensions().get().copied().unwrap_or_default()
}

/// Marks a call as a stream whose messages are processed one by one.
fn of_stream<Q>(request: &Request<Q>) {
    request.extensions().get::<CallReservation>().into_iter().for_each(CallReservation::of_stream);
}

fn stopping() -> Status {
    status(&EngineError::ShuttingDown.into())
}
