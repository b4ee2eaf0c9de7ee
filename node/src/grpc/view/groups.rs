//! What of a view can be had without SQL: how its groups become its rows, and how values become
//! keys. Made once for each life of a view; a call only looks things up in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::Cursor;
use std::sync::Arc;

use alluvium_core::ids::ViewId;
use alluvium_core::schema::{Column, StreamSchema};
use alluvium_core::stream::Stream;
use alluvium_views::columns::{column_type_of, log_schema};
use alluvium_views::fold::{Definition, DefinitionError, Evaluate, EvaluateError, KeyRange, Keys};
use alluvium_views::group::KeyCodec;
use alluvium_views::rows::{InvalidRows, decode_ipc, decode_json};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use serde::de::IgnoredAny;

/// Groups one call may ask for by their whole keys: a page of a large screen a hundred times over,
/// and well under a second of work.
pub const KEYS_MAX: usize = 10_000;

/// Rows one call may answer.
pub const ROWS_MAX: usize = 100_000;

/// A view whose finishing part computes each row from one group.
#[derive(Debug)]
pub struct ViewGroups {
    /// Which life of the view.
    pub id: ViewId,
    /// Its name.
    pub name: String,
    /// What it folds.
    pub stream: Arc<Stream>,
    /// What is maintained.
    pub definition: Arc<Definition>,
    /// The view's columns.
    pub schema: SchemaRef,
    /// For each of them, the column of the groups that it shows unchanged, if it is one that they
    /// are told apart by.
    pub shows: Vec<Option<usize>>,
    finish: Arc<dyn Finish>,
    keys: Vec<KeyPart>,
    codec: KeyCodec,
    /// Columns of the first so many parts of the key, as rows are read; by how many.
    forms: Vec<Option<Form>>,
}

/// The finishing part of a view whose rows each follow from one group.
pub trait Finish: Send + Sync + Debug {
    /// The rows for these groups, in their order; groups that the view leaves out give none.
    ///
    /// # Errors
    /// When an expression fails.
    fn rows(&self, groups: &RecordBatch) -> Result<RecordBatch, EvaluateError>;
}

/// One of the columns that make up a key.
#[derive(Debug)]
struct KeyPart {
    /// Its name among the view's columns; none where the view leaves it out.
    name: Option<String>,
    /// The place of that one.
    shown: Option<usize>,
    data_type: DataType,
    /// Its place among the columns of the groups.
    group: usize,
}

#[derive(Debug)]
struct Form {
    schema: StreamSchema,
    log: SchemaRef,
}

/// Keys as a caller writes them.
#[derive(Clone, Debug)]
pub enum WrittenKeys {
    /// Objects following each other.
    Json(Bytes),
    /// A stream.
    ArrowIpc(Bytes),
}

/// Keys, ready to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadKeys {
    /// Which groups.
    pub keys: Keys,
    /// Whether only the beginning of the keys was given, so that any number of groups may have it.
    pub is_prefix: bool,
}

/// Why keys are none. Other keys are needed.
#[derive(Debug, thiserror::Error)]
pub enum BadKeys {
    /// No key at all.
    #[error("no key is given; \"{view}\" is looked up by {order}")]
    Missing {
        /// The view.
        view: String,
        /// Its columns.
        order: String,
    },
    /// A name that is not of the key, or not the next one.
    #[error("\"{view}\" is looked up by {order}, or the first of these; {found} is given")]
    Columns {
        /// The view.
        view: String,
        /// Its columns.
        order: String,
        /// The names given.
        found: String,
    },
    /// Objects with different names.
    #[error("key {row} has other columns than key 0: all keys of one call have the same")]
    Mixed {
        /// Counted from 0.
        row: usize,
    },
    /// Too many at once.
    #[error("{count} keys are more than one call may have ({KEYS_MAX})")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Several prefixes.
    #[error("only whole keys can be looked up several at a time; {count} beginnings are given")]
    Prefixes {
        /// How many.
        count: usize,
    },
    /// The values cannot be read.
    #[error(transparent)]
    Values(#[from] InvalidRows),
    /// The text is no JSON.
    #[error("key {row}: {reason}")]
    Json {
        /// Counted from 0.
        row: usize,
        /// What is wrong.
        reason: String,
    },
    /// A value that no group can have.
    #[error("the values of column \"{column}\" are no values of {expected}: {reason}")]
    Type {
        /// Which.
        column: String,
        /// What it has.
        expected: String,
        /// What is wrong.
        reason: String,
    },
}

impl ViewGroups {
    /// Prepares a view. `shows` has an item for each column of `schema`.
    ///
    /// # Errors
    /// When the definition's groups have no keys.
    pub fn new(
        (id, name): (ViewId, &str),
        stream: Arc<Stream>,
        definition: Arc<Definition>,
        (schema, shows): (SchemaRef, Vec<Option<usize>>),
        finish: Arc<dyn Finish>,
    ) -> Result<ViewGroups, DefinitionError> {
        let part = |group: usize| {
            let shown = shows.iter().position(|shown| *shown == Some(group));
            let data_type = definition.groups[group].data_type.clone();
            let name = shown.map(|place| schema.field(place).name().clone());
            KeyPart { name, shown, data_type, group }
        };
        let keys: Vec<KeyPart> = definition.key_order()?.into_iter().map(part).collect();
        let forms = (0..=keys.len()).map(|count| form(&keys[..count])).collect();
        let codec = definition.key_codec()?;
        let name = name.to_owned();
        Ok(ViewGroups { id, name, stream, definition, schema, shows, finish, keys, codec, forms })
    }

    /// The view's rows for these groups, without those that its filter leaves out.
    ///
    /// # Errors
    /// When an expression fails.
    pub fn rows(&self, groups: &RecordBatch) -> Result<RecordBatch, EvaluateError> {
        self.finish.rows(groups)
    }

    /// The name of a column that groups are told apart by and that the view leaves out.
    pub fn hidden_key(&self) -> Option<&str> {
        let hidden = self.keys.iter().find(|part| part.shown.is_none());
        hidden.map(|part| self.group_name(part))
    }

    /// Those of these groups that have no row among `rows`. Of a view without hidden keys.
    ///
    /// # Errors
    /// When the rows are not of these groups.
    pub fn without_row(
        &self,
        groups: &RecordBatch,
        rows: &RecordBatch,
    ) -> Result<RecordBatch, EvaluateError> {
        if groups.num_rows() == rows.num_rows() {
            return Ok(groups.slice(0, 0));
        }
        let shown = self.keys.iter().filter_map(|part| Some((part, part.shown?)));
        let values = shown.map(|(part, place)| cast(rows.column(place), &part.data_type));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        let shown: BTreeSet<Vec<u8>> = self.encode(&values, rows.num_rows())?.into_iter().collect();
        let keys = self.keys_of(groups)?;
        let hidden = keys.iter().map(|key| Some(!shown.contains(key)));
        keep(groups, &BooleanArray::from_iter(hidden))
    }

    /// The keys of these groups.
    ///
    /// # Errors
    /// When the groups are not of this view.
    pub fn keys_of(&self, groups: &RecordBatch) -> Result<Vec<Vec<u8>>, EvaluateError> {
        let values: Vec<ArrayRef> =
            self.keys.iter().map(|part| ArrayRef::clone(groups.column(part.group))).collect();
        self.encode(&values, groups.num_rows())
    }

    /// The columns of the groups that keys are made of, for these keys; the others are null.
    ///
    /// # Errors
    /// When they are no keys of this view.
    pub fn groups_of(&self, keys: &[Vec<u8>]) -> Result<RecordBatch, EvaluateError> {
        let decoded = self.codec.decode(keys.iter().map(Vec::as_slice));
        let decoded = decoded.map_err(|error| EvaluateError(error.to_string()))?;
        let schema = nullable(&self.definition.group_schema());
        let mut columns: Vec<ArrayRef> = schema
            .fields()
            .iter()
            .map(|field| arrow::array::new_null_array(field.data_type(), keys.len()))
            .collect();
        for (part, values) in self.keys.iter().zip(decoded) {
            columns[part.group] = values;
        }
        let options = RecordBatchOptions::new().with_row_count(Some(keys.len()));
        RecordBatch::try_new_with_options(schema, columns, &options)
            .map_err(|error| EvaluateError(error.to_string()))
    }

    /// Reads keys as a caller wrote them.
    ///
    /// # Errors
    /// See [`BadKeys`].
    pub fn read_keys(&self, written: &WrittenKeys) -> Result<ReadKeys, BadKeys> {
        let (names, count) = match written {
            WrittenKeys::Json(bytes) => json_names(bytes)?,
            WrittenKeys::ArrowIpc(bytes) => self.ipc_names(bytes)?,
        };
        if KEYS_MAX < count {
            return Err(BadKeys::TooMany { count });
        }
        if count == 0 {
            return Err(BadKeys::Missing { view: self.name.clone(), order: self.order() });
        }
        let wanted = self.keys.get(..names.len()).unwrap_or_default();
        let is_given = |part: &KeyPart| part.name.as_ref().is_some_and(|n| names.contains_key(n));
        if wanted.len() != names.len() || !wanted.iter().all(is_given) {
            let found = names.into_keys().collect::<Vec<_>>().join(", ");
            let found = if found.is_empty() { "nothing".to_owned() } else { found };
            return Err(BadKeys::Columns { view: self.name.clone(), order: self.order(), found });
        }
        let is_prefix = wanted.len() < self.keys.len();
        if is_prefix && count != 1 {
            return Err(BadKeys::Prefixes { count });
        }
        let values = self.values(wanted, written)?;
        let mut keys = self.encode(&values, count).map_err(|error| BadKeys::Type {
            column: self.order(),
            expected: "the key".into(),
            reason: error.to_string(),
        })?;
        keys.sort_unstable();
        keys.dedup();
        if !is_prefix {
            return Ok(ReadKeys { keys: Keys::These(keys), is_prefix });
        }
        let range = keys.pop().map_or_else(KeyRange::all, |key| KeyRange::prefix(&key));
        Ok(ReadKeys { keys: Keys::Range(range), is_prefix })
    }

    /// The columns of the key as a person reads them.
    fn order(&self) -> String {
        let names = self.keys.iter().map(|part| match &part.name {
            Some(name) => name.clone(),
            None => format!("{} (which the view leaves out)", self.group_name(part)),
        });
        let names: Vec<String> = names.collect();
        match names.is_empty() {
            true => "no column, since it has one group".into(),
            false => format!("({})", names.join(", ")),
        }
    }

    fn group_name(&self, part: &KeyPart) -> &str {
        &self.definition.groups[part.group].name
    }

    fn values(&self, parts: &[KeyPart], written: &WrittenKeys) -> Result<Vec<ArrayRef>, BadKeys> {
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let Some(form) = self.forms.get(parts.len()).and_then(Option::as_ref) else {
            return Err(BadKeys::Type {
                column: self.order(),
                expected: "types that can be written down".into(),
                reason: "ask for them with SQL".into(),
            });
        };
        let rows = match written {
            WrittenKeys::Json(bytes) => decode_json(&form.schema, &form.log, bytes)?,
            WrittenKeys::ArrowIpc(bytes) => decode_ipc(&form.schema, &form.log, bytes.clone())?,
        };
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns = parts.iter().zip(rows.columns()).map(|(part, values)| {
            if *values.data_type() == part.data_type {
                return Ok(ArrayRef::clone(values));
            }
            cast_with_options(values, &part.data_type, &strict).map_err(|error| BadKeys::Type {
                column: part.name.clone().unwrap_or_default(),
                expected: part.data_type.to_string(),
                reason: error.to_string(),
            })
        });
        columns.collect()
    }

    fn ipc_names(&self, bytes: &Bytes) -> Result<(BTreeMap<String, IgnoredAny>, usize), BadKeys> {
        // What comes from outside is looked at by the one decoder that trusts nothing; after that
        // the schema can be read as it is.
        let Some(longest) = self.forms.iter().flatten().last() else {
            let (view, order) = (self.name.clone(), self.order());
            return Err(BadKeys::Columns { view, order, found: "an Arrow stream".into() });
        };
        let rows = decode_ipc(&longest.schema, &longest.log, bytes.clone())?;
        let reader = StreamReader::try_new(Cursor::new(bytes), None);
        let reader = reader.map_err(|e| BadKeys::Json { row: 0, reason: e.to_string() })?;
        let schema = reader.schema();
        let names = schema.fields().iter().map(|field| (field.name().clone(), IgnoredAny));
        Ok((names.collect(), rows.num_rows()))
    }

    fn encode(&self, values: &[ArrayRef], rows: usize) -> Result<Vec<Vec<u8>>, EvaluateError> {
        let mut keys = Vec::with_capacity(rows);
        let mut one = Vec::with_capacity(values.len());
        for row in 0..rows {
            one.clear();
            one.extend(values.iter().map(|column| column.slice(row, 1)));
            keys.push(self.codec.key(&one).map_err(|error| EvaluateError(error.to_string()))?);
        }
        Ok(keys)
    }
}

/// Which rows a condition is true for.
pub fn mask(condition: &dyn Evaluate, rows: &RecordBatch) -> Result<BooleanArray, EvaluateError> {
    let found = condition.evaluate(rows)?;
    match found.as_boolean_opt() {
        Some(mask) if mask.null_count() == 0 => Ok(mask.clone()),
        Some(mask) => Ok(prep_null_mask_filter(mask)),
        None => Err(EvaluateError(format!("a condition is {}", found.data_type()))),
    }
}

/// Only these rows.
pub fn keep(rows: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch, EvaluateError> {
    filter_record_batch(rows, mask).map_err(|error| EvaluateError(error.to_string()))
}

/// Values in another form of their type.
pub fn cast(values: &ArrayRef, to: &DataType) -> Result<ArrayRef, EvaluateError> {
    arrow::compute::cast(values, to).map_err(|error| EvaluateError(error.to_string()))
}

/// The same columns, each of which may be null.
pub fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// How these columns are read from rows that are written down; none where they cannot be.
fn form(parts: &[KeyPart]) -> Option<Form> {
    let columns = parts.iter().map(|part| {
        let column_type = column_type_of(&part.data_type)?;
        Some(Column { name: part.name.clone()?, column_type, nullable: true })
    });
    let schema = StreamSchema::new(columns.collect::<Option<Vec<_>>>()?).ok()?;
    Some(Form { log: log_schema(&schema), schema })
}

/// The names that all objects have, and how many objects there are.
fn json_names(bytes: &[u8]) -> Result<(BTreeMap<String, IgnoredAny>, usize), BadKeys> {
    let objects = serde_json::Deserializer::from_slice(bytes);
    let mut first: Option<BTreeMap<String, IgnoredAny>> = None;
    let mut count = 0;
    for object in objects.into_iter::<BTreeMap<String, IgnoredAny>>() {
        let names = object.map_err(|e| BadKeys::Json { row: count, reason: e.to_string() })?;
        match &first {
            None => first = Some(names),
            Some(first) if first.keys().eq(names.keys()) => {}
            Some(_) => return Err(BadKeys::Mixed { row: count }),
        }
        count += 1;
        if KEYS_MAX < count {
            return Err(BadKeys::TooMany { count });
        }
    }
    Ok((first.unwrap_or_default(), count))
}
