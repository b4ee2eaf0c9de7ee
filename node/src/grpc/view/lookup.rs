//! Groups by their keys.

use alluvium_core::stream::Frontier;
use alluvium_query::print::{Format, to_text};
use alluvium_query::wire;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;

use super::door::{DoorError, GroupsRead, ViewDoor, Wait};
use super::groups::{ROWS_MAX, ReadKeys, ViewGroups, WrittenKeys};

/// Bytes of one answer: what a client must be ready to take in one message, four times over.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The view's name.
    pub view: String,
    /// Which groups.
    pub keys: WrittenKeys,
    /// Rows of the answer; none where the keys say how many there can be.
    pub limit: Option<usize>,
    /// Names of columns; none for all.
    pub columns: Vec<String>,
    /// What to wait for.
    pub wait: Wait,
    /// Whether rows are wanted as JSON.
    pub json_rows: bool,
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct LookedUp {
    /// JSON objects one a line, or an Arrow IPC stream of one batch.
    pub rows: Bytes,
    /// The stream, and what of it the answer reflects.
    pub frontier: (String, Frontier),
}

/// Looks groups up.
///
/// # Errors
/// See [`DoorError`].
pub async fn lookup(door: &dyn ViewDoor, asked: &Lookup) -> Result<LookedUp, DoorError> {
    let view = door.groups(&asked.view)?;
    let places = places(&view, &asked.columns)?;
    let ReadKeys { keys, is_prefix } = view.read_keys(&asked.keys)?;
    let limit = limit(asked.limit, is_prefix)?;
    let GroupsRead { groups, frontier, .. } = door.read(&view, &asked.wait, keys).await?;
    let rows = rows(&view, &groups, limit, places.as_deref())?;
    let rows = match asked.json_rows {
        true => to_text(Format::NdJson, &rows.schema(), std::slice::from_ref(&rows))
            .map(Bytes::from)
            .map_err(|error| DoorError::Invalid { reason: error.to_string() })?,
        false => wire::encode_batch(&rows),
    };
    if ANSWER_BYTES_MAX < rows.len() {
        return Err(DoorError::TooLarge { bytes: rows.len() });
    }
    Ok(LookedUp { rows, frontier: (view.stream.definition.name.clone(), frontier) })
}

/// Where these columns are; none for all in their order.
fn places(view: &ViewGroups, columns: &[String]) -> Result<Option<Vec<usize>>, DoorError> {
    if columns.is_empty() {
        return Ok(None);
    }
    let place = |column: &String| {
        view.schema.index_of(column).map_err(|_| {
            let known: Vec<&str> =
                view.schema.fields().iter().map(|field| field.name().as_str()).collect();
            DoorError::Column {
                view: view.name.clone(),
                column: column.clone(),
                known: known.join(", "),
            }
        })
    };
    columns.iter().map(place).collect::<Result<Vec<_>, _>>().map(Some)
}

fn limit(asked: Option<usize>, is_prefix: bool) -> Result<usize, DoorError> {
    let invalid = |reason| Err(DoorError::Invalid { reason });
    match asked {
        None if is_prefix => invalid(
            "any number of groups may begin with these values: set a limit for the rows".into(),
        ),
        None => Ok(ROWS_MAX),
        Some(limit) if ROWS_MAX < limit => {
            invalid(format!("a limit of {limit} rows is more than one call may ask ({ROWS_MAX})"))
        }
        Some(limit) => Ok(limit),
    }
}

fn rows(
    view: &ViewGroups,
    groups: &[RecordBatch],
    limit: usize,
    places: Option<&[usize]>,
) -> Result<RecordBatch, DoorError> {
    let computed = |reason| DoorError::Computed { view: view.name.clone(), reason };
    let mut left = limit;
    let mut found = Vec::with_capacity(groups.len());
    for groups in groups {
        if left == 0 {
            break;
        }
        let rows = view.rows(groups).map_err(computed)?;
        let rows = rows.slice(0, rows.num_rows().min(left));
        left -= rows.num_rows();
        found.push(rows);
    }
    let rows = match found.len() {
        1 => found.remove(0),
        _ => concat_batches(&view.schema, &found)
            .map_err(|error| DoorError::Invalid { reason: error.to_string() })?,
    };
    match places {
        None => Ok(rows),
        Some(places) => {
            rows.project(places).map_err(|error| DoorError::Invalid { reason: error.to_string() })
        }
    }
}
