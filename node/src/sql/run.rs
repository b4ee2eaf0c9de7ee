//! Running a statement for a door: with a place among those that run, a deadline, and rows that
//! come as they are taken.
//!
//! What runs is kept by number, with what it is doing, so that people see it in `system.queries`
//! and can stop it with `KILL QUERY`, whichever door it came in by.
//!
//! Dropping the answer stops the statement. At most [`BATCHES_BUFFERED`] batches wait between the
//! engine and a door, however slowly the rows are taken.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluvium_core::stream::Frontier;
use alluvium_core::time::Time;
use alluvium_query::access::{Caller, redacted};
use alluvium_query::host::Freshness;
use alluvium_query::{Answer, Parameter, SqlError};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::access::audit;
use crate::bootstrap::Node;
use crate::clock::{self, Stopwatch};

/// A statement may run this long unless its caller asks for less.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// Statements of one node that run at the same time: many times what its cores can work on, few
/// enough that the memory they share is not cut into shreds.
pub const RUNNING_MAX: usize = 256;

/// Batches between the engine and a door: enough to keep both busy.
const BATCHES_BUFFERED: usize = 2;

/// What of a statement's text is shown of it while it runs.
const SHOWN_BYTES_MAX: usize = 1_000;

/// Where a statement came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// gRPC.
    Grpc,
    /// Arrow Flight SQL.
    Flight,
    /// The PostgreSQL protocol.
    Postgres,
    /// HTTP.
    Http,
}

impl Door {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Door::Grpc => "grpc",
            Door::Flight => "flight",
            Door::Postgres => "postgres",
            Door::Http => "http",
        }
    }
}

/// The statements of a node that run now.
#[derive(Debug)]
pub struct Statements {
    places: Arc<Semaphore>,
    running: Mutex<BTreeMap<u64, Arc<Shown>>>,
    next_id: AtomicU64,
}

/// Who asks for a statement.
#[derive(Clone, Debug)]
pub struct Asker {
    /// As whom.
    pub caller: Caller,
    /// From which address, where that is known.
    pub client: Option<SocketAddr>,
}

/// What a statement is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// It is planned, or waits for what it must see.
    Planning,
    /// Its columns are known; rows come as they are taken.
    Answering,
    /// It was asked to stop.
    Stopping,
}

impl Doing {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Doing::Planning => "planning",
            Doing::Answering => "answering",
            Doing::Stopping => "stopping",
        }
    }
}

/// A statement that runs.
#[derive(Debug)]
pub struct Shown {
    /// Where it came from.
    pub door: Door,
    /// Who asks.
    pub asker: Asker,
    /// Its text, or the beginning of it; without passwords.
    pub sql: String,
    /// When it was admitted.
    pub since: Time,
    /// Since then.
    pub watch: Stopwatch,
    rows: AtomicU64,
    doing: Mutex<Doing>,
    stop: Notify,
}

impl Shown {
    /// Rows the engine has given so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// What it is doing.
    pub fn doing(&self) -> Doing {
        *self.doing.lock()
    }
}

/// A statement's place among those that run.
#[derive(Debug)]
pub struct Place {
    statements: Arc<Statements>,
    id: u64,
    shown: Arc<Shown>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Ends when somebody asks for the statement to be stopped. For one waiter.
    pub async fn stopped(&self) {
        self.shown.stop.notified().await;
    }

    /// Its columns are known.
    pub fn answers(&self) {
        let mut doing = self.shown.doing.lock();
        if *doing == Doing::Planning {
            *doing = Doing::Answering;
        }
    }

    /// So many rows more were given.
    pub fn gave(&self, row_count: usize) {
        self.shown.rows.fetch_add(row_count as u64, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.statements.running.lock().remove(&self.id);
    }
}

impl Default for Statements {
    fn default() -> Statements {
        Statements {
            places: Arc::new(Semaphore::new(RUNNING_MAX)),
            running: Mutex::new(BTreeMap::new()),
            next_id: AtomicU64::new(1),
        }
    }
}

impl Statements {
    /// Takes a place, or says that there is none.
    pub fn admit(
        self: &Arc<Self>,
        sql: &str,
        door: Door,
        asker: &Asker,
    ) -> Result<Place, RunError> {
        let permit = self.places.clone().try_acquire_owned().map_err(|_| RunError::Full)?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let sql = redacted(sql);
        let mut end = sql.len().min(SHOWN_BYTES_MAX);
        while !sql.is_char_boundary(end) {
            end -= 1;
        }
        let shown = Arc::new(Shown {
            door,
            asker: asker.clone(),
            sql: sql[..end].to_owned(),
            since: clock::now(),
            watch: Stopwatch::start(),
            rows: AtomicU64::new(0),
            doing: Mutex::new(Doing::Planning),
            stop: Notify::new(),
        });
        self.running.lock().insert(id, shown.clone());
        Ok(Place { statements: self.clone(), id, shown, _permit: permit })
    }

    /// Asks a statement to stop; says whether it was there. Where `of` is said, those of others are
    /// not.
    pub fn stop(&self, id: u64, of: Option<&Caller>) -> bool {
        let found = self.running.lock().get(&id).cloned();
        let is_theirs = |shown: &Arc<Shown>| of.is_none_or(|of| shown.asker.caller == *of);
        let Some(shown) = found.filter(is_theirs) else {
            return false;
        };
        *shown.doing.lock() = Doing::Stopping;
        // Kept for a statement that does not wait for it yet.
        shown.stop.notify_one();
        true
    }

    /// What runs now, the oldest first.
    pub fn running(&self) -> Vec<(u64, Arc<Shown>)> {
        self.running.lock().iter().map(|(id, shown)| (*id, shown.clone())).collect()
    }
}

/// Why a statement was not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RunError {
    /// As the engine says.
    #[error(transparent)]
    Sql(#[from] SqlError),
    /// It took too long.
    #[error("the statement took longer than {after:?}")]
    Deadline {
        /// What it had.
        after: Duration,
    },
    /// Too many run already.
    #[error("{RUNNING_MAX} statements run at once, which is as many as a node takes; try again")]
    Full,
    /// Somebody asked for it to be stopped.
    #[error("the statement was cancelled on request")]
    Cancelled,
}

/// A statement to be run.
#[derive(Debug)]
pub struct Asked {
    /// Its text.
    pub sql: String,
    /// Values for `$1`, `$2`, ….
    pub parameters: Vec<Parameter>,
    /// How fresh the answer must be.
    pub freshness: Freshness,
    /// How long it may take.
    pub timeout: Duration,
    /// The columns as the client was told them before: rows are brought into these types.
    pub told: Option<SchemaRef>,
    /// Where it came from.
    pub door: Door,
    /// Who asks.
    pub asker: Asker,
}

impl Asked {
    /// Without parameters, linearizable, with the longest time there is.
    pub fn new(sql: impl Into<String>, door: Door, asker: Asker) -> Asked {
        Asked {
            sql: sql.into(),
            parameters: Vec::new(),
            freshness: Freshness::default(),
            timeout: TIMEOUT_MAX,
            told: None,
            door,
            asker,
        }
    }
}

/// A statement that runs, as its door sees it. Dropping it stops the statement.
#[derive(Debug)]
pub struct Running {
    /// The columns.
    pub schema: SchemaRef,
    /// What the answer reflects.
    pub as_of: Vec<(String, Frontier)>,
    /// What is done: `SELECT`, `INSERT 0 3`, ….
    pub tag: String,
    /// The rows; after an error comes nothing more.
    pub batches: mpsc::Receiver<Result<RecordBatch, RunError>>,
}

/// What is known of an answer before its rows.
struct Head {
    schema: SchemaRef,
    as_of: Vec<(String, Frontier)>,
    tag: String,
}

type Parts = mpsc::Sender<Result<RecordBatch, RunError>>;

/// Starts a statement; answers when its columns are known.
pub async fn run(node: &Arc<Node>, asked: Asked) -> Result<Running, RunError> {
    let place = node.statements.admit(&asked.sql, asked.door, &asked.asker)?;
    let (parts, batches) = mpsc::channel(BATCHES_BUFFERED);
    let (head, begun) = oneshot::channel();
    let running = node.clone();
    // Statements have their own threads: a long one must not hold up appends.
    node.query_runtime.spawn(async move {
        let watch = Stopwatch::start();
        let mut head = Some(head);
        let timeout = asked.timeout.min(TIMEOUT_MAX);
        let work = answer(&running, &asked, &place, &mut head, &parts);
        let ended = tokio::select! {
            biased;
            // The caller left: what is still running is dropped.
            () = parts.closed() => Err(RunError::Cancelled),
            () = place.stopped() => Err(RunError::Cancelled),
            ended = tokio::time::timeout(timeout, work) => {
                ended.unwrap_or(Err(RunError::Deadline { after: timeout }))
            }
        };
        drop(place);
        running.metrics.query_answered(ended.is_ok(), watch.elapsed());
        if let Err(error) = ended {
            // A caller that left needs no answer.
            let _ = match head {
                Some(head) => head.send(Err(error)).map_err(|_| ()),
                None => parts.send(Err(error)).await.map_err(|_| ()),
            };
        }
    });
    let Head { schema, as_of, tag } = begun.await.unwrap_or(Err(RunError::Cancelled))?;
    Ok(Running { schema, as_of, tag, batches })
}

async fn answer(
    node: &Node,
    asked: &Asked,
    place: &Place,
    head: &mut Option<oneshot::Sender<Result<Head, RunError>>>,
    parts: &Parts,
) -> Result<(), RunError> {
    let caller = &asked.asker.caller;
    let engine = node.engine(caller);
    let answer = engine.run_with(&asked.sql, &asked.parameters, asked.freshness.clone()).await;
    let tag = answer.as_ref().map(|answer| answer.tag.as_str());
    audit::statement(caller, asked.door.name(), &asked.sql, tag);
    let Answer { schema, mut batches, as_of, tag } = answer?;
    let schema = told(&schema, asked.told.as_ref())?;
    place.answers();
    if let Some(head) = head.take() {
        let _ = head.send(Ok(Head { schema: schema.clone(), as_of, tag }));
    }
    while let Some(batch) = batches.next().await {
        let batch = as_told(batch?, &schema)?;
        place.gave(batch.num_rows());
        parts.send(Ok(batch)).await.map_err(|_| RunError::Cancelled)?;
    }
    Ok(())
}

/// The columns of an answer as a client is told them. What a plan knows of nulls changes while it
/// is made better, so nothing is said of them.
pub fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let field = Field::clone(field).with_nullable(true);
        Arc::new(field)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn told(schema: &SchemaRef, told: Option<&SchemaRef>) -> Result<SchemaRef, SqlError> {
    match told {
        Some(told) if told.fields().len() == schema.fields().len() => Ok(told.clone()),
        Some(_) => {
            let reason = "the columns of the statement have changed; prepare it again".into();
            Err(SqlError::Unsupported { reason })
        }
        None => Ok(nullable(schema)),
    }
}

/// Brings a batch into the types that were told, which rarely are others.
fn as_told(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, SqlError> {
    let internal = |error: arrow::error::ArrowError| SqlError::Internal {
        reason: format!("bring an answer into the types that were told: {error}"),
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            return Ok(column.clone());
        }
        arrow::compute::cast(column, field.data_type())
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(internal)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(internal)
}
