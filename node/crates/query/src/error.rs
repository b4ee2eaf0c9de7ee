//! Why a statement was not answered, in the words of the person who wrote it.
//!
//! One enum for every statement; the node's one file of status codes maps [`SqlError::kind`] to the
//! wire. Messages are one lower-case paragraph without the wrappers of the libraries underneath,
//! and name the nearest stream or column where a name was not found.

use std::time::Duration;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

use crate::host::HostError;
use crate::nearest;

/// What kind of trouble it is: answers whether the caller may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not SQL.
    Syntax,
    /// It names a stream, column or function that does not exist.
    NotFound,
    /// It is SQL, and wrong: a type, a number, a null.
    InvalidArgument,
    /// The name is taken.
    AlreadyExists,
    /// It is SQL that this node does not do.
    Unsupported,
    /// Memory, temporary disk or a queue is full; later it may work.
    ResourceExhausted,
    /// The node cannot serve this now.
    Unavailable,
    /// The frontier asked for is gone or not there yet.
    OutOfRange,
    /// The caller went away.
    Cancelled,
    /// The caller may not.
    Denied,
    /// A defect of the node.
    Internal,
}

/// Why a statement was not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SqlError {
    /// See [`ErrorKind::Syntax`].
    #[error("{reason}")]
    Syntax {
        /// Where and what.
        reason: String,
    },
    /// See [`ErrorKind::NotFound`].
    #[error("{reason}")]
    NotFound {
        /// The name, and the nearest one there is.
        reason: String,
    },
    /// See [`ErrorKind::InvalidArgument`].
    #[error("{reason}")]
    InvalidArgument {
        /// What to change.
        reason: String,
    },
    /// See [`ErrorKind::AlreadyExists`].
    #[error("{reason}")]
    AlreadyExists {
        /// The name.
        reason: String,
    },
    /// See [`ErrorKind::Unsupported`].
    #[error("{reason}")]
    Unsupported {
        /// What, and what to do instead.
        reason: String,
    },
    /// See [`ErrorKind::ResourceExhausted`].
    #[error("{reason}")]
    ResourceExhausted {
        /// What is full.
        reason: String,
        /// When the same statement may be tried again, where that can be said.
        retry_after: Option<Duration>,
    },
    /// See [`ErrorKind::Unavailable`].
    #[error("{reason}")]
    Unavailable {
        /// What is wrong with the node.
        reason: String,
    },
    /// See [`ErrorKind::OutOfRange`].
    #[error("{reason}")]
    OutOfRange {
        /// Which offset, and what there is.
        reason: String,
    },
    /// See [`ErrorKind::Cancelled`].
    #[error("the statement was cancelled")]
    Cancelled,
    /// See [`ErrorKind::Denied`].
    #[error("{reason}")]
    Denied {
        /// What is not granted, to whom.
        reason: String,
    },
    /// See [`ErrorKind::Internal`].
    #[error("{reason}")]
    Internal {
        /// For the log and a report.
        reason: String,
    },
}

impl SqlError {
    /// What kind of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SqlError::Syntax { .. } => ErrorKind::Syntax,
            SqlError::NotFound { .. } => ErrorKind::NotFound,
            SqlError::InvalidArgument { .. } => ErrorKind::InvalidArgument,
            SqlError::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            SqlError::Unsupported { .. } => ErrorKind::Unsupported,
            SqlError::ResourceExhausted { .. } => ErrorKind::ResourceExhausted,
            SqlError::Unavailable { .. } => ErrorKind::Unavailable,
            SqlError::OutOfRange { .. } => ErrorKind::OutOfRange,
            SqlError::Cancelled => ErrorKind::Cancelled,
            SqlError::Denied { .. } => ErrorKind::Denied,
            SqlError::Internal { .. } => ErrorKind::Internal,
        }
    }

    /// When the same statement may be tried again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            SqlError::ResourceExhausted { retry_after, .. } => *retry_after,
            SqlError::Syntax { .. }
            | SqlError::NotFound { .. }
            | SqlError::InvalidArgument { .. }
            | SqlError::AlreadyExists { .. }
            | SqlError::Unsupported { .. }
            | SqlError::Unavailable { .. }
            | SqlError::OutOfRange { .. }
            | SqlError::Cancelled
            | SqlError::Denied { .. }
            | SqlError::Internal { .. } => None,
        }
    }

    /// The same error with more to say.
    pub(crate) fn with_suffix(mut self, suffix: &str) -> SqlError {
        match &mut self {
            SqlError::Syntax { reason }
            | SqlError::NotFound { reason }
            | SqlError::InvalidArgument { reason }
            | SqlError::AlreadyExists { reason }
            | SqlError::Unsupported { reason }
            | SqlError::ResourceExhausted { reason, .. }
            | SqlError::Unavailable { reason }
            | SqlError::OutOfRange { reason }
            | SqlError::Denied { reason }
            | SqlError::Internal { reason } => reason.push_str(suffix),
            SqlError::Cancelled => {}
        }
        self
    }

    pub(crate) fn syntax(reason: impl Into<String>) -> SqlError {
        SqlError::Syntax { reason: reason.into() }
    }

    pub(crate) fn invalid(reason: impl Into<String>) -> SqlError {
        SqlError::InvalidArgument { reason: reason.into() }
    }

    pub(crate) fn unsupported(reason: impl Into<String>) -> SqlError {
        SqlError::Unsupported { reason: reason.into() }
    }

    pub(crate) fn internal(reason: impl Into<String>) -> SqlError {
        SqlError::Internal { reason: reason.into() }
    }

    /// A stream that is not in the catalogue, with the nearest name that is.
    pub(crate) fn unknown_stream<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> SqlError {
        let hint = nearest::hint(name, known);
        SqlError::NotFound { reason: format!("stream \"{name}\" does not exist{hint}") }
    }
}

impl From<HostError> for SqlError {
    fn from(error: HostError) -> SqlError {
        let reason = error.to_string();
        match error {
            HostError::UnknownStream { .. }
            | HostError::UnknownView { .. }
            | HostError::UnknownQuery { .. } => SqlError::NotFound { reason },
            HostError::StreamExists { .. } | HostError::NameTaken { .. } => {
                SqlError::AlreadyExists { reason }
            }
            HostError::Invalid { .. } | HostError::HasDependants { .. } => {
                SqlError::InvalidArgument { reason }
            }
            HostError::Busy { retry_after, .. } => {
                SqlError::ResourceExhausted { reason, retry_after: Some(retry_after) }
            }
            HostError::Unavailable { .. } => SqlError::Unavailable { reason },
            HostError::OutOfRange { .. } => SqlError::OutOfRange { reason },
        }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> SqlError {
        translate(&error)
    }
}

/// Finds the kind under the wrappers.
fn translate(error: &DataFusionError) -> SqlError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            translate(inner)
        }
        DataFusionError::Shared(inner) => translate(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => translate(first),
            None => SqlError::internal("the engine reported an empty list of errors"),
        },
        DataFusionError::SQL(parser, _) => SqlError::syntax(plain(&parser.to_string())),
        DataFusionError::SchemaError(schema, _) => of_schema(schema),
        DataFusionError::Plan(text) | DataFusionError::Configuration(text) => of_plan(text),
        DataFusionError::NotImplemented(text) => SqlError::unsupported(plain(text)),
        DataFusionError::Execution(text) => SqlError::invalid(plain(text)),
        DataFusionError::ResourcesExhausted(text) => {
            SqlError::ResourceExhausted { reason: plain(text), retry_after: None }
        }
        DataFusionError::ArrowError(arrow, _) => of_arrow(arrow),
        DataFusionError::ParquetError(parquet) => {
            SqlError::Unavailable { reason: format!("read a segment: {parquet}") }
        }
        DataFusionError::ObjectStore(store) => {
            SqlError::Unavailable { reason: format!("read a segment: {store}") }
        }
        DataFusionError::IoError(io) => SqlError::Unavailable { reason: format!("read: {io}") },
        DataFusionError::External(inner) => of_external(inner.as_ref()),
        DataFusionError::ExecutionJoin(join) if join.is_cancelled() => SqlError::Cancelled,
        DataFusionError::ExecutionJoin(join) => {
            SqlError::internal(format!("a task of the statement ended early: {join}"))
        }
        DataFusionError::Internal(text)
        | DataFusionError::Substrait(text)
        | DataFusionError::Ffi(text) => SqlError::internal(plain(text)),
    }
}

fn of_schema(schema: &SchemaError) -> SqlError {
    match schema {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let name = field.name();
            let hint = nearest::hint(name, valid_fields.iter().map(|valid| valid.name()));
            let reason = format!("column \"{}\" does not exist{hint}", field.flat_name());
            SqlError::NotFound { reason }
        }
        SchemaError::AmbiguousReference { field } => SqlError::invalid(format!(
            "column \"{}\" is in more than one table; write it as table.column",
            field.name()
        )),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => SqlError::invalid(format!(
            "column \"{name}\" comes out twice; give one of them another name with AS"
        )),
    }
}

/// Planning says everything in one kind of error; what names a missing thing is told apart by its
/// text.
fn of_plan(text: &str) -> SqlError {
    let reason = plain(text);
    if let Some(table) =
        reason.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found"))
    {
        let name = table.strip_prefix("alluvium.").unwrap_or(table);
        let name = name.strip_prefix("public.").unwrap_or(name);
        return SqlError::NotFound { reason: format!("table \"{name}\" does not exist") };
    }
    if reason.contains(" not supported: ") {
        // The second lock of the planner: data definition, data change, or a setting.
        return SqlError::unsupported("a query only reads: it has no INTO and changes nothing");
    }
    if reason.starts_with("invalid function") || reason.starts_with("table function") {
        return SqlError::NotFound { reason };
    }
    SqlError::invalid(reason)
}

fn of_arrow(arrow: &arrow::error::ArrowError) -> SqlError {
    use arrow::error::ArrowError;
    if let ArrowError::ExternalError(inner) = arrow {
        return of_external(inner.as_ref());
    }
    let reason = plain(&arrow.to_string());
    match arrow {
        ArrowError::MemoryError(_) => SqlError::ResourceExhausted { reason, retry_after: None },
        ArrowError::NotYetImplemented(_) => SqlError::unsupported(reason),
        ArrowError::IoError(..) | ArrowError::ParquetError(_) => {
            SqlError::Unavailable { reason: format!("read a segment: {reason}") }
        }
        // The rest are values that do not fit: a cast, an overflow, a division by zero.
        _ => SqlError::invalid(reason),
    }
}

fn of_external(inner: &(dyn std::error::Error + Send + Sync + 'static)) -> SqlError {
    if let Some(ours) = inner.downcast_ref::<SqlError>() {
        return ours.clone();
    }
    if let Some(wrapped) = inner.downcast_ref::<DataFusionError>() {
        return translate(wrapped);
    }
    if let Some(arrow) = inner.downcast_ref::<arrow::error::ArrowError>() {
        return of_arrow(arrow);
    }
    SqlError::internal(plain(&inner.to_string()))
}

const WRAPPERS: [&str; 16] = [
    "Error during planning: ",
    "Invalid or Unsupported Configuration: ",
    "This feature is not implemented: ",
    "Execution error: ",
    "Schema error: ",
    "SQL error: ",
    "sql parser error: ",
    "Resources exhausted: ",
    "Optimizer rule ",
    "type_coercion\ncaused by\n",
    "type_coercion caused by ",
    "Arrow error: ",
    "Cast error: ",
    "Parser error: ",
    "Compute error: ",
    "Invalid argument error: ",
];

/// Takes the libraries' wrappers off, joins the lines, and starts with a small letter.
fn plain(text: &str) -> String {
    // A backtrace, and the request to report a defect of the library, are not for the reader.
    let text = text.split("\n\nbacktrace").next().unwrap_or(text);
    let text = text.split("\nThis issue was likely caused").next().unwrap_or(text);
    let mut text = text.trim().trim_end_matches('.');
    'outer: loop {
        for wrapper in WRAPPERS {
            if let Some(rest) = text.strip_prefix(wrapper) {
                text = rest.trim_start();
                continue 'outer;
            }
        }
        break;
    }
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut letters = joined.chars();
    match (letters.next(), letters.clone().next()) {
        // `NULL …`, `CASE …` stay as they are.
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => joined,
    }
}
