//! What one client has said so far, and what it is answered.
//!
//! A message is answered before the next is read. Rows are written as they come, and no more than
//! [`super::wire::OUTPUT_BYTES`] and two batches wait for a client that reads slowly.

mod portals;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use alluvium_query::access::Caller;
use alluvium_query::{Parameter, split_statements};
use arrow::array::StringArray;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use tokio::sync::{Notify, watch};

use self::portals::{Portal, Prepared};
use super::local::{self, Local, Settings};
use super::message::{Fault, Frontend, Target};
use super::startup::Asked as Start;
use super::values::Columns;
use super::wire::Wire;
use crate::bootstrap::Node;
use crate::sql::errors;
use crate::sql::run::{self, Asked, Asker, Door, RunError, Running, TIMEOUT_MAX};

/// See the module.
pub struct Session {
    pub(super) node: Arc<Node>,
    pub(super) caller: Caller,
    pub(super) wire: Wire,
    settings: Settings,
    statements: BTreeMap<String, Arc<Prepared>>,
    portals: BTreeMap<String, Portal>,
    transaction: Transaction,
    /// After an error: everything up to the next Sync is passed over.
    is_skipping: bool,
    cancel: Arc<Notify>,
    stopped: watch::Receiver<bool>,
}

/// What a client believes to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    None,
    Open { has_changed: bool },
    Failed,
}

/// Why a message was not answered as hoped.
pub enum Trouble {
    /// The connection is broken.
    Io(io::Error),
    /// The client is told.
    Fault(Box<Fault>),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Fault(Box::new(fault))
    }
}

/// An answer on its way.
struct Open {
    running: Running,
    columns: Option<Columns>,
    /// A batch, and how many of its rows are sent.
    left: Option<(RecordBatch, usize)>,
    row_count: u64,
}

impl Session {
    pub fn new(
        node: Arc<Node>,
        caller: Caller,
        wire: Wire,
        cancel: Arc<Notify>,
        stopped: watch::Receiver<bool>,
    ) -> Session {
        Session {
            node,
            caller,
            wire,
            settings: Settings::default(),
            statements: BTreeMap::new(),
            portals: BTreeMap::new(),
            transaction: Transaction::None,
            is_skipping: false,
            cancel,
            stopped,
        }
    }

    /// Who asks.
    pub(super) fn asker(&self) -> Asker {
        Asker { caller: self.caller.clone(), client: Some(self.wire.caller().remote) }
    }

    /// Answers until the client leaves or the node stops.
    pub async fn serve(mut self, start: Start, key: (i32, i32)) -> io::Result<()> {
        self.greet(start, key).await?;
        let mut stopped = self.stopped.clone();
        loop {
            let message = tokio::select! {
                biased;
                // The sender going away means the same. What it lends is let go at once.
                () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => None,
                message = self.wire.next() => Some(message),
            };
            let Some(message) = message else {
                self.wire.out.error(&Fault::fatal("57P01", "the node is stopping"));
                return self.wire.flush().await;
            };
            let message = match message {
                Ok(Some(Frontend::Terminate) | None) => return Ok(()),
                Ok(Some(message)) => message,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    self.wire.out.error(&Fault::fatal("08P01", error.to_string()));
                    return self.wire.flush().await;
                }
                Err(error) => return Err(error),
            };
            self.answer(message).await?;
        }
    }

    async fn greet(&mut self, start: Start, (process, secret): (i32, i32)) -> io::Result<()> {
        let is_ours = |name: &str| name.starts_with("_pq_.");
        let unknown = start.options.iter().filter(|(name, _)| is_ours(name));
        let unknown: Vec<String> = unknown.map(|(name, _)| name.clone()).collect();
        if start.is_newer || !unknown.is_empty() {
            self.wire.out.negotiate(&unknown);
        }
        for (name, value) in &start.options {
            // What would be refused later is passed over here: drivers say their own zone.
            let _ = self.settings.set(&name.to_lowercase(), value);
        }
        let out = &mut self.wire.out;
        out.authentication_ok();
        for (name, value) in self.settings.told() {
            out.parameter_status(name, &value);
        }
        out.key(process, secret);
        self.ready().await
    }

    async fn ready(&mut self) -> io::Result<()> {
        let status = match self.transaction {
            Transaction::None => b'I',
            Transaction::Open { .. } => b'T',
            Transaction::Failed => b'E',
        };
        self.wire.out.ready(status);
        self.wire.flush().await
    }

    async fn answer(&mut self, message: Frontend) -> io::Result<()> {
        if self.is_skipping && !matches!(message, Frontend::Sync) {
            return Ok(());
        }
        let is_simple = matches!(message, Frontend::Query(_));
        let answered = match message {
            Frontend::Query(sql) => self.simple(&sql).await,
            Frontend::Parse { name, sql, types } => self.parse(name, sql, &types).await,
            Frontend::Bind { portal, statement, formats, values, result_formats } => {
                self.bind(portal, &statement, (&formats, &values), result_formats)
            }
            Frontend::Describe(Target::Statement(name)) => self.describe_statement(&name).await,
            Frontend::Describe(Target::Portal(name)) => self.describe_portal(&name).await,
            Frontend::Execute { portal, max_rows } => self.execute(&portal, max_rows).await,
            Frontend::Close(target) => {
                match target {
                    Target::Statement(name) => drop(self.statements.remove(&name)),
                    Target::Portal(name) => drop(self.portals.remove(&name)),
                }
                self.wire.out.bare(b'3');
                Ok(())
            }
            Frontend::Flush => self.wire.flush().await.map_err(Trouble::from),
            Frontend::Sync => {
                self.is_skipping = false;
                if self.transaction == Transaction::None {
                    self.portals.clear();
                }
                return self.ready().await;
            }
            // What is left of a COPY that failed.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => Ok(()),
            Frontend::Terminate => Ok(()),
            Frontend::Proof(_) => {
                Err(Fault::fatal("08P01", "who the client is was settled before").into())
            }
            Frontend::Unknown(kind) => {
                let message = format!("there is no message of kind {kind}");
                Err(Fault::fatal("08P01", message).into())
            }
        };
        match answered {
            Ok(()) => {}
            Err(Trouble::Io(error)) => return Err(error),
            Err(Trouble::Fault(fault)) => {
                self.wire.out.error(&fault);
                if matches!(self.transaction, Transaction::Open { .. }) {
                    self.transaction = Transaction::Failed;
                }
                self.is_skipping = !is_simple;
            }
        }
        if is_simple { self.ready().await } else { self.wire.flush_if_long().await }
    }

    /// What a client is told of an error.
    pub(super) fn fault(&self, sql: &str, error: &RunError) -> Fault {
        let message = error.to_string();
        let place = errors::place(sql, &message);
        Fault { place, ..Fault::error(errors::sql_state(error), message) }
    }

    /// After an error in a transaction, nothing is done until its end.
    fn check_transaction(&self, what: Option<&Local>) -> Result<(), Fault> {
        let ends =
            matches!(what, Some(Local::Commit | Local::Rollback | Local::Nothing("ROLLBACK")));
        if self.transaction == Transaction::Failed && !ends {
            let message = "a statement before this one failed; end the transaction first";
            return Err(Fault::error("25P02", message));
        }
        Ok(())
    }

    async fn simple(&mut self, sql: &str) -> Result<(), Trouble> {
        let statements = split_statements(sql).map_err(RunError::from);
        let statements = statements.map_err(|error| self.fault(sql, &error))?;
        if statements.is_empty() {
            self.wire.out.bare(b'I');
        }
        for statement in statements {
            let local = local::read(&statement);
            self.check_transaction(local.as_ref())?;
            if let Some(local) = local {
                if let Local::Show { name } = &local {
                    Columns::new(&shown_schema(name), &[])
                        .map_err(odd)?
                        .describe(&mut self.wire.out);
                }
                self.local(local, &statement).await?;
                continue;
            }
            let mut open = self.open(&statement, Vec::new(), None).await?;
            if let Some(columns) = self.columns(&open, &[])? {
                columns.describe(&mut self.wire.out);
                open.columns = Some(columns);
            }
            self.rows(&mut open, 0, &statement).await?;
            self.complete(&open);
        }
        Ok(())
    }

    /// The columns of an answer; none where it only says what was done.
    fn columns(&self, open: &Open, formats: &[i16]) -> Result<Option<Columns>, Fault> {
        let Running { schema, tag, .. } = &open.running;
        if schema.fields().is_empty() || tag.starts_with("INSERT") {
            return Ok(None);
        }
        Columns::new(schema, formats).map(Some).map_err(odd)
    }

    async fn open(
        &mut self,
        sql: &str,
        parameters: Vec<Parameter>,
        told: Option<SchemaRef>,
    ) -> Result<Open, Trouble> {
        let timeout = self.settings.statement_timeout().unwrap_or(TIMEOUT_MAX);
        let asked = Asked::new(sql, Door::Postgres, self.asker());
        let asked = Asked { parameters, timeout, told, ..asked };
        let (node, cancel) = (self.node.clone(), self.cancel.clone());
        let running = tokio::select! {
            biased;
            running = run::run(&node, asked) => running,
            () = cancel.notified() => Err(RunError::Cancelled),
            gone = self.wire.gone() => return Err(gone.into()),
        };
        let running = running.map_err(|error| self.fault(sql, &error))?;
        Ok(Open { running, columns: None, left: None, row_count: 0 })
    }

    /// Writes rows, at most so many unless that is 0; says whether the answer is at its end.
    async fn rows(&mut self, open: &mut Open, max: u64, sql: &str) -> Result<bool, Trouble> {
        // What only says how much was done has no rows to stop at.
        let max = if open.columns.is_some() { max } else { 0 };
        let mut sent = 0;
        let cancel = self.cancel.clone();
        loop {
            if max != 0 && sent == max {
                return Ok(false);
            }
            let (batch, first) = match open.left.take() {
                Some(left) => left,
                None => {
                    let next = tokio::select! {
                        biased;
                        next = open.running.batches.recv() => next,
                        () = cancel.notified() => Some(Err(RunError::Cancelled)),
                        gone = self.wire.gone() => return Err(gone.into()),
                    };
                    match next {
                        None => return Ok(true),
                        Some(Err(error)) => return Err(self.fault(sql, &error).into()),
                        Some(Ok(batch)) => (batch, 0),
                    }
                }
            };
            let mut row = first;
            while row < batch.num_rows() && (max == 0 || sent < max) {
                if let Some(columns) = &open.columns {
                    columns.row(&batch, row, &mut self.wire.out);
                    self.wire.flush_if_long().await?;
                }
                row += 1;
                sent += 1;
            }
            open.row_count += u64::try_from(row - first).expect("a usize has at most 64 bits");
            if row < batch.num_rows() {
                open.left = Some((batch, row));
            }
        }
    }

    fn complete(&mut self, open: &Open) {
        let tag = &open.running.tag;
        let changes = !matches!(tag.as_str(), "SELECT" | "EXPLAIN");
        if let Transaction::Open { has_changed } = &mut self.transaction {
            *has_changed |= changes;
        }
        match tag.as_str() {
            "SELECT" => self.wire.out.complete(&format!("SELECT {}", open.row_count)),
            other => self.wire.out.complete(other),
        }
    }

    async fn local(&mut self, local: Local, sql: &str) -> Result<(), Trouble> {
        let out = &mut self.wire.out;
        match local {
            Local::Begin => {
                let said = "each statement stands for itself: a transaction changes nothing here";
                out.notice(&Fault::notice(said));
                self.transaction = Transaction::Open { has_changed: false };
                out.complete("BEGIN");
            }
            Local::Commit => {
                let is_failed = self.transaction == Transaction::Failed;
                self.transaction = Transaction::None;
                out.complete(if is_failed { "ROLLBACK" } else { "COMMIT" });
            }
            Local::Rollback => {
                if self.transaction == (Transaction::Open { has_changed: true }) {
                    let said = "nothing is rolled back: what was done since BEGIN stays";
                    out.notice(&Fault { severity: "WARNING", ..Fault::notice(said) });
                }
                self.transaction = Transaction::None;
                out.complete("ROLLBACK");
            }
            Local::Nothing(tag) => out.complete(tag),
            Local::Set { name, value } => {
                self.settings.set(&name, &value)?;
                if name == "application_name" {
                    out.parameter_status("application_name", &value);
                }
                out.complete("SET");
            }
            Local::Show { name } => {
                let value = self.settings.get(&name).ok_or_else(|| {
                    Fault::error("42704", format!("there is no setting \"{name}\""))
                })?;
                let schema = shown_schema(&name);
                let columns = Columns::new(&schema, &[]).map_err(odd)?;
                let value = Arc::new(StringArray::from(vec![value]));
                let batch = RecordBatch::try_new(schema, vec![value]);
                columns.row(&batch.map_err(odd)?, 0, out);
                out.complete("SHOW");
            }
            Local::Forget(tag) => {
                self.statements.clear();
                out.complete(tag);
            }
            Local::Deallocate { name } => {
                if self.statements.remove(&name).is_none() {
                    let message = format!("there is no prepared statement \"{name}\"");
                    return Err(Fault::error("26000", message).into());
                }
                out.complete("DEALLOCATE");
            }
            Local::Copy => {
                let tag = self.copy(sql).await?;
                if let Transaction::Open { has_changed } = &mut self.transaction {
                    *has_changed = true;
                }
                self.wire.out.complete(&tag);
            }
        }
        Ok(())
    }
}

/// The one column of `SHOW name`.
fn shown_schema(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, false)]))
}

/// What a client asked for in a way that makes no sense.
fn odd(reason: impl std::fmt::Display) -> Fault {
    Fault::error("08P01", reason.to_string())
}
