//! Reads request bodies, within a size limit, a process-wide budget, and a deadline that moves only
//! as bytes arrive.
//!
//! Must not know: what bodies contain.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use http_body_util::BodyExt as _;
use tokio::time::Instant;

use super::Failure;
use super::budget::{Bodies, BodyReservation, BudgetExhausted};
use super::decode_error::{DecodeError, TooLarge};

/// Bytes per second that a body must bring within each body timeout.
const BODY_BYTES_PER_SECOND: u64 = 4 * 1024;
/// Bytes reserved for a body when its first bytes arrive.
const FIRST_ROOM_BYTES: usize = 8 * 1024;

/// How bodies are read.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Maximum bytes of one body.
    pub bytes_max: usize,
    /// The time within which a body must end or bring bytes at the minimum rate.
    pub timeout: Duration,
    /// The budget of all bodies.
    pub bodies: Arc<Bodies>,
}

/// How fast a body arrives.
#[derive(Debug)]
pub struct Pace {
    stretch: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// The pace of a body that begins now.
    pub fn new(stretch: Duration) -> Self {
        Self { stretch, since: Instant::now(), bytes: 0 }
    }

    /// Notes that bytes arrived; once there are enough for the minimum rate, the next stretch
    /// begins.
    pub fn came(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes >= BODY_BYTES_PER_SECOND * self.stretch.as_secs().max(1) {
            (self.since, self.bytes) = (Instant::now(), 0);
        }
    }

    /// Deadline by which the body must end or reach the minimum rate.
    pub fn deadline(&self) -> Instant {
        self.since + self.stretch
    }
}

/// A body in memory; its reservation is released with the last reference to its bytes.
struct HeldBody {
    bytes: Vec<u8>,
    _room: BodyReservation,
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Intake {
    /// Reads a body to its end.
    ///
    /// # Errors
    /// A body that is too large or too slow, breaks off, or exceeds the budget of all bodies.
    pub async fn read(&self, mut body: Body) -> Result<Bytes, Failure> {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        let limit = self.bytes_max;
        let too_large = || Failure::BodyTooLarge { limit };
        let declared = usize::try_from(body.size_hint().lower()).map_err(|_| too_large())?;
        if declared > limit {
            return Err(too_large());
        }
        let mut room = self.bodies.begin().map_err(busy)?;
        let (mut bytes, mut pace) = (Vec::new(), Pace::new(self.timeout));
        loop {
            let frame = tokio::time::timeout_at(pace.deadline(), body.frame()).await;
            let Some(frame) = frame.map_err(|_| self.too_slow())? else { break };
            let frame = frame.map_err(|error| self.broken(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            pace.came(data.len());
            let length = bytes.len() + data.len();
            if length > limit {
                return Err(too_large());
            }
            if length > bytes.capacity() {
                let doubled = length.max(bytes.len() * 2).max(FIRST_ROOM_BYTES);
                // No more than the declared length, if there is one.
                let wanted = if declared >= length { doubled.min(declared) } else { doubled };
                room.grow(wanted).map_err(busy)?;
                // There may be less memory than the budget.
                bytes.try_reserve_exact(wanted - bytes.len()).map_err(|_| busy(BudgetExhausted))?;
            }
            bytes.extend_from_slice(&data);
        }
        Ok(Bytes::from_owner(HeldBody { bytes, _room: room }))
    }

    /// The failure of a body whose rest cannot be read.
    fn broken(&self, error: &axum::Error) -> Failure {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(found) = cause {
            if found.is::<TooLarge>() {
                return Failure::BodyTooLarge { limit: self.bytes_max };
            }
            if let Some(DecodeError::Coding(coding, problem)) = found.downcast_ref() {
                let message = format!("the body is not valid {coding}: {problem}");
                return Failure::Body { message, syntax: true };
            }
            cause = found.source();
        }
        Failure::Body { message: format!("the body was cut off: {error}"), syntax: true }
    }

    /// The failure of a body that arrives too slowly.
    pub fn too_slow(&self) -> Failure {
        Failure::SlowBody { limit: self.timeout }
    }
}

/// The failure of a body beyond the budget.
pub fn busy(_: BudgetExhausted) -> Failure {
    let message = "too many request bodies are being received; try again in a second";
    Failure::Busy { message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt as _, stream};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);

    fn intake() -> Intake {
        let bodies = Bodies::new(1024 * 1024);
        Intake { bytes_max: 512 * 1024, timeout: TIMEOUT, bodies }
    }

    /// A body of `pieces` pieces of `bytes` bytes, each after a pause.
    fn slow(pieces: usize, bytes: usize, pause: Duration) -> Body {
        let piece = move |_| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(vec![b'x'; bytes])
        };
        Body::from_stream(stream::iter(0..pieces).then(piece))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_long_but_not_be_slow() {
        let (intake, second) = (intake(), Duration::from_secs(1));
        // Eight kilobytes a second for 40 seconds.
        let read = intake.read(slow(40, 8 * 1024, second)).await;
        assert_eq!(read.map(|bytes| bytes.len()), Ok(40 * 8 * 1024));
        let started = Instant::now();
        let trickle = intake.read(slow(10_000, 1, second)).await;
        assert_eq!(trickle, Err(Failure::SlowBody { limit: TIMEOUT }));
        assert_eq!(started.elapsed(), TIMEOUT);
        let never = intake.read(slow(1, 1, TIMEOUT * 2)).await;
        assert_eq!(never, Err(Failure::SlowBody { limit: TIMEOUT }));
        // A fast start gains no more than one stretch.
        let pieces = stream::iter([Ok::<_, Infallible>(vec![b'x'; 400 * 1024])]);
        let body = Body::from_stream(pieces.chain(stream::pending()));
        let started = Instant::now();
        assert!(intake.read(body).await.is_err());
        assert_eq!(started.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_are_held_open_keep_out_no_small_ones() {
        let intake = intake();
        let reading = |_| {
            let (tell, told) = tokio::sync::oneshot::channel::<()>();
            let first = stream::iter([Ok::<_, Infallible>(vec![b'x'; 300 * 1024])]);
            let rest = stream::once(async move {
                drop(told.await);
                Ok(vec![b'x'; 1024])
            });
            let intake = intake.clone();
            let body = Body::from_stream(first.chain(rest));
            (tell, tokio::spawn(async move { intake.read(body).await }))
        };
        let held: Vec<_> = (0..3).map(reading).collect();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let small = intake.read(Body::from(vec![b'x'; 10 * 1024])).await;
        assert_eq!(small.map(|bytes| bytes.len()), Ok(10 * 1024));
        let large = intake.read(Body::from(vec![b'x'; 300 * 1024])).await;
        assert!(matches!(large, Err(Failure::Busy { .. })), "{large:?}");
        for (tell, reading) in held {
            drop(tell);
            // Bytes are reserved ahead of arrival, so some of these bodies may be refused.
            let read = reading.await.expect("no panic");
            assert!(matches!(read, Ok(_) | Err(Failure::Busy { .. })), "{read:?}");
        }
        let large = intake.read(Body::from(vec![b'x'; 300 * 1024])).await;
        assert_eq!(large.map(|bytes| bytes.len()), Ok(300 * 1024));
    }

    #[tokio::test]
    async fn a_body_is_as_large_as_it_may_be_and_no_larger() {
        let intake = intake();
        let pieces = |count: usize| slow(count, 1024, Duration::ZERO);
        assert_eq!(intake.read(pieces(512)).await.map(|bytes| bytes.len()), Ok(512 * 1024));
        let limit = intake.bytes_max;
        assert_eq!(intake.read(pieces(513)).await, Err(Failure::BodyTooLarge { limit }));
        let declared = Body::from(vec![0; limit + 1]);
        assert_eq!(intake.read(declared).await, Err(Failure::BodyTooLarge { limit }));
        assert_eq!(intake.read(Body::empty()).await, Ok(Bytes::new()));
    }
}
