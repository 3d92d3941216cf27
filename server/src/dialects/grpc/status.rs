//! Failures as gRPC statuses.
//!
//! Must not know: which service fails.

use proxima_engine::{EngineError, Fault};
use proxima_models::InputError;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::http::Failure;

/// The status of a failure, with the delay if retrying helps, in the form that gRPC clients read.
pub fn status(failure: &Failure) -> Status {
    let mut status = Status::new(code(failure), failure.message());
    if let Some(after) = failure.retry_after() {
        let milliseconds = MetadataValue::from(after.as_millis() as u64);
        status.metadata_mut().insert("grpc-retry-pushback-ms", milliseconds);
    }
    status
}

fn code(failure: &Failure) -> Code {
    match failure {
        Failure::Body { .. } => Code::InvalidArgument,
        // As for a single message that is too large.
        Failure::BodyTooLarge { .. } | Failure::AnswerTooLarge { .. } => Code::OutOfRange,
        Failure::Malformed { .. } | Failure::Coding { .. } => Code::InvalidArgument,
        Failure::Browser => Code::PermissionDenied,
        Failure::Unauthorized => Code::Unauthenticated,
        Failure::UnknownModel(_) => Code::NotFound,
        Failure::UnknownPath { .. }
        | Failure::WrongMethod { .. }
        | Failure::TransferCoding { .. } => Code::Unimplemented,
        Failure::TooManyRequests { .. } | Failure::Busy { .. } => Code::ResourceExhausted,
        Failure::Timeout { .. } | Failure::SlowBody { .. } => Code::DeadlineExceeded,
        Failure::Unhealthy { .. }
        | Failure::Upstream { .. }
        | Failure::NotReady(_)
        | Failure::Stopping => Code::Unavailable,
        Failure::Bug => Code::Internal,
        // Another model might support it.
        Failure::Engine(
            EngineError::Unsupported { .. }
            | EngineError::Input { source: InputError::Kind(_), .. },
        ) => Code::FailedPrecondition,
        Failure::Engine(error) => match error.fault() {
            Fault::Empty | Fault::Request | Fault::Tokenizer => Code::InvalidArgument,
            Fault::Load => Code::ResourceExhausted,
            Fault::Bug | Fault::Model => Code::Internal,
            Fault::Shutdown => Code::Unavailable,
        },
    }
}
