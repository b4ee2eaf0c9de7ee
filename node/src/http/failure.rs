//! What went wrong, as JSON: SQL's code, what it says, where in the statement, and when to try
//! again.

use alluvium_query::{ErrorKind, SqlError};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::grpc::view::DoorError;
use crate::ingest::{AppendError, RETRY_AFTER};
use crate::sql::errors;
use crate::sql::producers::ProducerError;
use crate::sql::run::RunError;

/// See the module.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    code: &'static str,
    message: String,
    place: Option<usize>,
    can_retry: bool,
}

impl Failure {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Failure {
        Failure { status, code, message: message.into(), place: None, can_retry: false }
    }

    pub fn internal(error: impl std::fmt::Display) -> Failure {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "XX000", error.to_string())
    }

    /// Why a statement was not answered.
    pub fn of_run(sql: &str, error: &RunError) -> Failure {
        let status = match error {
            RunError::Sql(error) => status_of(error),
            RunError::Deadline { .. } => StatusCode::GATEWAY_TIMEOUT,
            RunError::Full => StatusCode::TOO_MANY_REQUESTS,
            RunError::Cancelled => StatusCode::CONFLICT,
        };
        let message = error.to_string();
        let place = errors::place(sql, &message);
        let can_retry =
            matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        Failure { place, can_retry, ..Failure::new(status, errors::sql_state(error), message) }
    }

    /// Why a view is not followed, or not any more.
    pub fn of_door(condition: &str, error: DoorError) -> Failure {
        let (status, code) = match &error {
            DoorError::Unknown { .. } => (StatusCode::NOT_FOUND, "42P01"),
            DoorError::NeedsSql { .. } => (StatusCode::BAD_REQUEST, "0A000"),
            DoorError::Column { .. } => (StatusCode::BAD_REQUEST, "42703"),
            DoorError::Invalid { .. } | DoorError::Keys(_) | DoorError::Computed { .. } => {
                (StatusCode::BAD_REQUEST, "22023")
            }
            DoorError::Forgotten { .. } => (StatusCode::GONE, "55000"),
            DoorError::Ended { .. } => (StatusCode::CONFLICT, "55000"),
            DoorError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "54000"),
            DoorError::Condition(error) => {
                return Failure::of_run(condition, &error.clone().into());
            }
            DoorError::Host(_) => (StatusCode::SERVICE_UNAVAILABLE, "57P03"),
        };
        match error {
            // One place says what a host's errors are to a client.
            DoorError::Host(error) => Failure::of_run("", &SqlError::from(error).into()),
            error => Failure::new(status, code, error.to_string()),
        }
    }

    /// Why events were not appended.
    pub fn of_append(error: &AppendError) -> Failure {
        let (status, code, can_retry) = match error {
            AppendError::UnknownStream { .. } => (StatusCode::NOT_FOUND, "42P01", false),
            AppendError::Invalid(_) => (StatusCode::BAD_REQUEST, "22023", false),
            AppendError::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "53400", true),
            AppendError::DiskFull => (StatusCode::INSUFFICIENT_STORAGE, "53100", false),
            AppendError::Damaged { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "XX001", false),
            AppendError::Refused { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "XX000", false),
            AppendError::Fenced { .. } | AppendError::OutOfSequence { .. } => {
                (StatusCode::CONFLICT, "55000", false)
            }
            AppendError::NotOwner { .. } | AppendError::Lost | AppendError::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, "57P03", true)
            }
        };
        Failure { can_retry, ..Failure::new(status, code, error.to_string()) }
    }

    /// Why a producer's events were not appended.
    pub fn of_producer(error: &ProducerError) -> Failure {
        match error {
            ProducerError::Append(error) => Failure::of_append(error),
            ProducerError::Name { reason } => {
                Failure::new(StatusCode::BAD_REQUEST, "22023", reason.clone())
            }
            ProducerError::Change(_) | ProducerError::Unavailable { .. } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Failure { can_retry: true, ..Failure::new(status, "57P03", error.to_string()) }
            }
        }
    }

    /// As JSON.
    pub fn document(&self) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(place) = self.place {
            error["position"] = json!(place);
        }
        if self.can_retry {
            error["retry_after_ms"] = json!(RETRY_AFTER.as_millis());
        }
        json!({ "error": error })
    }
}

fn status_of(error: &SqlError) -> StatusCode {
    match error.kind() {
        ErrorKind::Syntax | ErrorKind::InvalidArgument | ErrorKind::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Cancelled => StatusCode::CONFLICT,
        ErrorKind::Unsupported => StatusCode::BAD_REQUEST,
        ErrorKind::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        (self.status, kind, format!("{}\n", self.document())).into_response()
    }
}
