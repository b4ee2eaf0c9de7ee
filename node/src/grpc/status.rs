//! Errors to gRPC codes, all in one place.

use std::time::Duration;

use alluvium_core::meta::access::decide::Refused;
use alluvium_query::{ErrorKind, SqlError};
use tonic::{Code, Status};

use crate::access::AuthError;
use crate::actors::meta::ChangeError;
use crate::ingest::{AppendError, RETRY_AFTER};
use crate::sql::producers::ProducerError;

use super::view::DoorError;

/// Metadata that says after how many milliseconds the same call may be tried again.
pub const RETRY_AFTER_HEADER: &str = "retry-after-ms";

/// The code of an append's error, and after what time the same batch may be sent again.
pub fn append_code(error: &AppendError) -> (Code, Option<Duration>) {
    match error {
        AppendError::UnknownStream { .. } => (Code::NotFound, None),
        AppendError::Invalid(_) => (Code::InvalidArgument, None),
        AppendError::Busy { .. } => (Code::ResourceExhausted, Some(RETRY_AFTER)),
        AppendError::DiskFull => (Code::ResourceExhausted, None),
        AppendError::Damaged { .. } => (Code::DataLoss, None),
        AppendError::Refused { .. } => (Code::Internal, None),
        AppendError::Fenced { .. } => (Code::FailedPrecondition, None),
        AppendError::OutOfSequence { .. } => (Code::OutOfRange, None),
        AppendError::NotOwner { .. } | AppendError::Lost | AppendError::Stopping => {
            (Code::Unavailable, Some(RETRY_AFTER))
        }
    }
}

/// An append's error for a unary call.
pub fn append_status(error: &AppendError) -> Status {
    let (code, retry_after) = append_code(error);
    with_retry_after(Status::new(code, error.to_string()), retry_after)
}

/// A producer whose batch was not appended.
pub fn producer_status(error: &ProducerError) -> Status {
    match error {
        ProducerError::Name { reason } => Status::invalid_argument(reason.clone()),
        ProducerError::Append(error) => append_status(error),
        ProducerError::Change(error) => change_status(error),
        ProducerError::Unavailable { reason } => Status::unavailable(reason.clone()),
    }
}

/// A change of the catalogue that failed.
pub fn change_status(error: &ChangeError) -> Status {
    match error {
        ChangeError::Busy => {
            with_retry_after(Status::resource_exhausted(error.to_string()), Some(RETRY_AFTER))
        }
        ChangeError::NotLeader { .. }
        | ChangeError::Refused { .. }
        | ChangeError::Lost
        | ChangeError::NotStarted { .. }
        | ChangeError::Stopping => Status::unavailable(error.to_string()),
    }
}

/// A statement that failed.
pub fn sql_status(error: &SqlError) -> Status {
    let code = match error.kind() {
        ErrorKind::Syntax | ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::OutOfRange => Code::OutOfRange,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Denied => Code::PermissionDenied,
        ErrorKind::Internal => Code::Internal,
    };
    with_retry_after(Status::new(code, error.to_string()), error.retry_after())
}

/// Somebody who is not let in.
pub fn auth_status(error: &AuthError) -> Status {
    match error {
        AuthError::Busy => Status::resource_exhausted(error.to_string()),
        AuthError::Missing
        | AuthError::Malformed
        | AuthError::Wrong
        | AuthError::Token
        | AuthError::Readable => Status::unauthenticated(error.to_string()),
    }
}

/// Something that is not granted.
pub fn refused_status(refused: &Refused) -> Status {
    Status::permission_denied(refused.to_string())
}

/// A lookup or a subscription that failed.
pub fn door_status(error: DoorError) -> Status {
    let code = match &error {
        DoorError::Unknown { .. } => Code::NotFound,
        DoorError::NeedsSql { .. } => Code::FailedPrecondition,
        DoorError::Column { .. }
        | DoorError::Invalid { .. }
        | DoorError::Keys(_)
        | DoorError::Computed { .. } => Code::InvalidArgument,
        DoorError::Forgotten { .. } => Code::OutOfRange,
        DoorError::Ended { .. } => Code::Aborted,
        DoorError::TooLarge { .. } => Code::ResourceExhausted,
        DoorError::Condition(error) => return sql_status(error),
        DoorError::Host(_) => Code::Unknown,
    };
    match error {
        // One place says what a host's errors are to a client.
        DoorError::Host(error) => sql_status(&SqlError::from(error)),
        error => Status::new(code, error.to_string()),
    }
}

fn with_retry_after(mut status: Status, retry_after: Option<Duration>) -> Status {
    if let Some(wait) = retry_after {
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        status.metadata_mut().insert(RETRY_AFTER_HEADER, wait.into());
    }
    status
}
