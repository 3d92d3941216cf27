//! Incoming messages: each has a deadline that is extended only as bytes arrive, and all share the
//! budget of bodies.
//!
//! Must not know: the contents of any message.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::Frame;
use tokio::time::Sleep;
use tonic::Status;

use super::status::status;
use crate::http::{BodyReservation, Failure, Intake, Pace, busy};

/// Bytes before each message: a compression flag and the length.
const PREFIX_BYTES: usize = 5;

/// A call's share of the body budget; held as long as what was read is needed.
#[derive(Debug, Clone)]
pub struct CallReservation(Arc<CallState>);

#[derive(Debug)]
struct CallState {
    room: Mutex<BodyReservation>,
    streams: AtomicBool,
}

impl CallReservation {
    /// Marks the call as a stream whose messages are processed one by one: each releases its share
    /// once it has arrived.
    pub fn of_stream(&self) {
        self.0.streams.store(true, Ordering::Relaxed);
        self.message_ends();
    }

    fn is_of_stream(&self) -> bool {
        self.0.streams.load(Ordering::Relaxed)
    }

    fn message_ends(&self) {
        if self.is_of_stream() {
            self.0.room.lock().unwrap_or_else(PoisonError::into_inner).empty();
        }
    }

    fn grow(&self, bytes: usize) -> Result<(), Failure> {
        let mut room = self.0.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.grow(bytes).map_err(busy)
    }
}

/// The body of a call.
pub struct Messages {
    inner: Body,
    intake: Intake,
    room: CallReservation,
    message: Message,
    /// While a message is arriving: its pace, and a timer that fires when it is too slow.
    pace: Option<(Pace, Pin<Box<Sleep>>)>,
}

/// How much of a message has been read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    prefix: Vec<u8>,
    /// Bytes still to come after the prefix.
    left: usize,
    bytes: usize,
}

impl Message {
    /// Consumes bytes of one message and its prefix; returns their number, and whether it ends.
    fn take(&mut self, bytes: &[u8]) -> (usize, bool) {
        let of_prefix = (PREFIX_BYTES - self.prefix.len()).min(bytes.len());
        self.prefix.extend_from_slice(&bytes[..of_prefix]);
        if of_prefix > 0
            && let [_, length @ ..] = &self.prefix[..]
            && let Ok(length) = <[u8; 4]>::try_from(length)
        {
            self.left = u32::from_be_bytes(length) as usize;
        }
        let of_message = self.left.min(bytes.len() - of_prefix);
        self.left -= of_message;
        self.bytes += of_prefix + of_message;
        let ends = self.prefix.len() == PREFIX_BYTES && self.left == 0;
        if ends {
            *self = Self::default();
        }
        (of_prefix + of_message, ends)
    }
}

impl Messages {
    /// The body of a new call.
    ///
    /// # Errors
    /// The body budget is exhausted.
    pub fn new(inner: Body, intake: Intake) -> Result<(Self, CallReservation), Failure> {
        let room = Mutex::new(intake.bodies.begin().map_err(busy)?);
        let room = CallReservation(Arc::new(CallState { room, streams: AtomicBool::new(false) }));
        let pace = Some(start(&intake));
        let kept = room.clone();
        Ok((Self { inner, intake, room, message: Message::default(), pace }, kept))
    }

    /// Accounts for received bytes.
    fn came(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        while !bytes.is_empty() {
            let (pace, sleep) = self.pace.get_or_insert_with(|| start(&self.intake));
            let (taken, ends) = self.message.take(bytes);
            bytes = &bytes[taken..];
            pace.came(taken);
            if ends {
                self.pace = None;
                self.room.message_ends();
            } else {
                sleep.as_mut().reset(pace.deadline());
                self.room.grow(self.message.bytes)?;
            }
        }
        Ok(())
    }
}

fn start(intake: &Intake) -> (Pace, Pin<Box<Sleep>>) {
    let pace = Pace::new(intake.timeout);
    let sleep = Box::pin(tokio::time::sleep_until(pace.deadline()));
    (pace, sleep)
}

fn failed(failure: &Failure) -> axum::Error {
    // A service answers with the status that it finds as its body's error.
    let status: Status = status(failure);
    axum::Error::new(status)
}

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let noted = frame.data_ref().map_or(Ok(()), |bytes| this.came(bytes));
                Poll::Ready(Some(noted.map(|()| frame).map_err(|failure| failed(&failure))))
            }
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => {
                let Some((_, sleep)) = &mut this.pace else { return Poll::Pending };
                ready!(sleep.as_mut().poll(context));
                if this.message.bytes == 0 && this.room.is_of_stream() {
                    // A stream may be idle before its first message, as it may be after it.
                    this.pace = None;
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(failed(&this.intake.too_slow()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use tonic::Code;

    use super::*;
    use crate::http::Bodies;

    /// A call whose body begins with these bytes and never ends.
    fn call(first: &[u8]) -> (Messages, CallReservation) {
        let first = stream::iter([Ok::<_, Infallible>(first.to_vec())]);
        let body = Body::from_stream(first.chain(stream::pending()));
        let (timeout, bodies) = (Duration::from_secs(20), Bodies::new(1024 * 1024));
        let intake = Intake { bytes_max: 100_000, timeout, bodies };
        Messages::new(body, intake).expect("room")
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_come_ends_its_call_and_a_quiet_stream_does_not() {
        let begun = b"\0\0\0\0\x07\x0a";
        for is_stream in [false, true] {
            let (mut messages, room) = call(begun);
            if is_stream {
                room.of_stream();
            }
            messages.frame().await.expect("a frame").expect("bytes");
            let error = messages.frame().await.expect("an end").expect_err("too slow");
            let status = Status::from_error(error.into());
            assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        }
        let (mut messages, room) = call(b"\0\0\0\0\x01a");
        room.of_stream();
        messages.frame().await.expect("a frame").expect("bytes");
        let quiet = tokio::time::timeout(Duration::from_secs(3600), messages.frame()).await;
        assert!(quiet.is_err(), "nothing is due between messages");
    }

    #[test]
    fn messages_end_where_their_prefixes_say() {
        let mut bytes = Vec::new();
        for length in [0u32, 3, 300] {
            bytes.push(0);
            bytes.extend(length.to_be_bytes());
            bytes.extend(std::iter::repeat_n(7, length as usize));
        }
        for piece in [1, 2, 5, 7, 1000] {
            let (mut message, mut ends, mut at) = (Message::default(), Vec::new(), 0);
            for mut part in bytes.chunks(piece) {
                while !part.is_empty() {
                    let (taken, ended) = message.take(part);
                    (at, part) = (at + taken, &part[taken..]);
                    if ended {
                        ends.push(at);
                    }
                }
            }
            assert_eq!(ends, [5, 13, 318], "in pieces of {piece}");
            assert_eq!(message, Message::default());
        }
    }
}
