//! The extended way of asking: statements that are prepared, given values, described, and run a few
//! rows at a time.

use std::sync::Arc;

use alluvium_core::schema::ColumnType;
use alluvium_query::pg_catalog::{self, values::text_of};
use alluvium_query::{Described, DescribedRows, Parameter, split_statements};
use bytes::Bytes;

use super::{Open, Session, Trouble, odd, shown_schema};
use crate::sql::pgwire::local::{self, Local};
use crate::sql::pgwire::message::Fault;
use crate::sql::pgwire::values::Columns;
use crate::sql::run::{self, RunError};

/// Prepared statements and portals one connection may keep.
const KEPT_MAX: usize = 1_000;

/// A statement that is kept.
pub(super) struct Prepared {
    sql: String,
    what: What,
}

enum What {
    Empty,
    Local(Local),
    Engine { described: Described, oids: Vec<u32> },
}

/// A statement with values.
pub(super) struct Portal {
    prepared: Arc<Prepared>,
    parameters: Vec<Parameter>,
    formats: Vec<i16>,
    open: Option<Open>,
    is_done: bool,
}

impl Session {
    pub(super) async fn parse(
        &mut self,
        name: String,
        sql: String,
        types: &[u32],
    ) -> Result<(), Trouble> {
        let statements = split_statements(&sql).map_err(RunError::from);
        let mut statements = statements.map_err(|error| self.fault(&sql, &error))?;
        if 1 < statements.len() {
            let message = "several statements cannot be prepared as one";
            return Err(Fault::error("42601", message).into());
        }
        if KEPT_MAX <= self.statements.len() {
            let message = format!("a connection keeps at most {KEPT_MAX} prepared statements");
            return Err(Fault::error("53400", message).into());
        }
        let what = match statements.pop() {
            None => What::Empty,
            Some(statement) => match local::read(&statement) {
                Some(local) => What::Local(local),
                None => self.describe(&sql, types).await?,
            },
        };
        let local = if let What::Local(local) = &what { Some(local) } else { None };
        self.check_transaction(local)?;
        self.statements.insert(name, Arc::new(Prepared { sql, what }));
        self.wire.out.bare(b'1');
        Ok(())
    }

    async fn describe(&mut self, sql: &str, types: &[u32]) -> Result<What, Trouble> {
        self.check_transaction(None)?;
        let known: Vec<Option<ColumnType>> =
            types.iter().map(|oid| pg_catalog::column_type_of(*oid)).collect();
        let described =
            self.node.engine(&self.caller).describe(sql, &known).await.map_err(RunError::from);
        let described = described.map_err(|error| self.fault(sql, &error))?;
        let oids = described.parameters.iter().enumerate().map(|(place, column_type)| match types
            .get(place)
        {
            Some(oid) if known[place].is_some() => *oid,
            Some(_) | None => pg_catalog::oid_of(column_type),
        });
        Ok(What::Engine { oids: oids.collect(), described })
    }

    fn prepared(&self, name: &str) -> Result<Arc<Prepared>, Fault> {
        let found = self.statements.get(name).cloned();
        found.ok_or_else(|| {
            Fault::error("26000", format!("there is no prepared statement \"{name}\""))
        })
    }

    pub(super) fn bind(
        &mut self,
        name: String,
        statement: &str,
        (formats, values): (&[i16], &[Option<Bytes>]),
        result_formats: Vec<i16>,
    ) -> Result<(), Trouble> {
        let prepared = self.prepared(statement)?;
        let types = match &prepared.what {
            What::Engine { described, .. } => described.parameters.as_slice(),
            What::Empty | What::Local(_) => &[],
        };
        if types.len() != values.len() {
            let message = format!("{} values for {} parameters", values.len(), types.len());
            return Err(Fault::error("08P01", message).into());
        }
        let mut parameters = Vec::with_capacity(values.len());
        for (place, (column_type, value)) in types.iter().zip(values).enumerate() {
            let is_binary = formats.get(place).or(formats.first()).is_some_and(|form| *form == 1);
            let text = match value {
                None => None,
                Some(bytes) => Some(decoded(column_type, bytes, is_binary).map_err(|reason| {
                    Fault::error("22P03", format!("parameter ${}: {reason}", place + 1))
                })?),
            };
            parameters.push(Parameter { column_type: column_type.clone(), text });
        }
        if KEPT_MAX <= self.portals.len() {
            let message = format!("a connection keeps at most {KEPT_MAX} portals");
            return Err(Fault::error("53400", message).into());
        }
        let portal =
            Portal { prepared, parameters, formats: result_formats, open: None, is_done: false };
        self.portals.insert(name, portal);
        self.wire.out.bare(b'2');
        Ok(())
    }

    pub(super) async fn describe_statement(&mut self, name: &str) -> Result<(), Trouble> {
        let prepared = self.prepared(name)?;
        match &prepared.what {
            What::Engine { oids, .. } => self.wire.out.parameters(oids),
            What::Empty | What::Local(_) => self.wire.out.parameters(&[]),
        }
        // Shown when it runs: it is run for its columns, which costs little for all that there are.
        let schema = match &prepared.what {
            What::Engine { described: Described { rows: DescribedRows::Some, .. }, .. } => {
                Some(self.open(&prepared.sql, Vec::new(), None).await?.running.schema)
            }
            What::Engine {
                described: Described { rows: DescribedRows::Of(schema), .. }, ..
            } => Some(schema.clone()),
            What::Local(Local::Show { name }) => Some(shown_schema(name)),
            What::Empty | What::Local(_) | What::Engine { .. } => None,
        };
        match schema {
            Some(schema) => {
                Columns::new(&schema, &[]).map_err(odd)?.describe(&mut self.wire.out);
            }
            None => self.wire.out.bare(b'n'),
        }
        Ok(())
    }

    pub(super) async fn describe_portal(&mut self, name: &str) -> Result<(), Trouble> {
        let mut portal = self.take_portal(name)?;
        let columns = match &portal.prepared.what {
            What::Engine { described: Described { rows: DescribedRows::Some, .. }, .. } => {
                let sql = portal.prepared.sql.clone();
                let mut open = self.open(&sql, Vec::new(), None).await?;
                open.columns = self.columns(&open, &portal.formats)?;
                let columns = open.columns.clone();
                portal.open = Some(open);
                columns
            }
            What::Engine {
                described: Described { rows: DescribedRows::Of(schema), .. }, ..
            } => Some(Columns::new(schema, &portal.formats).map_err(odd)?),
            What::Local(Local::Show { name }) => {
                Some(Columns::new(&shown_schema(name), &portal.formats).map_err(odd)?)
            }
            What::Empty | What::Local(_) | What::Engine { .. } => None,
        };
        match columns {
            Some(columns) => columns.describe(&mut self.wire.out),
            None => self.wire.out.bare(b'n'),
        }
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    fn take_portal(&mut self, name: &str) -> Result<Portal, Fault> {
        let found = self.portals.remove(name);
        found.ok_or_else(|| Fault::error("34000", format!("there is no portal \"{name}\"")))
    }

    pub(super) async fn execute(&mut self, name: &str, max_rows: i32) -> Result<(), Trouble> {
        let mut portal = self.take_portal(name)?;
        let sql = portal.prepared.sql.clone();
        let prepared = portal.prepared.clone();
        match &prepared.what {
            What::Empty => self.wire.out.bare(b'I'),
            What::Local(local) => {
                self.check_transaction(Some(local))?;
                self.local(local.clone(), &sql).await?;
            }
            What::Engine { .. } if portal.is_done => self.wire.out.complete("SELECT 0"),
            What::Engine { described, .. } => {
                self.check_transaction(None)?;
                let mut open = match portal.open.take() {
                    Some(open) => open,
                    None => self.begin(&portal, described).await?,
                };
                let max_rows = u64::try_from(max_rows).unwrap_or(0);
                if self.rows(&mut open, max_rows, &sql).await? {
                    self.complete(&open);
                    portal.is_done = true;
                } else {
                    self.wire.out.bare(b's');
                    portal.open = Some(open);
                }
            }
        }
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    /// Starts a portal; its columns are those that were described.
    async fn begin(&mut self, portal: &Portal, described: &Described) -> Result<Open, Trouble> {
        let told = match &described.rows {
            DescribedRows::Of(schema) => Some(run::nullable(schema)),
            DescribedRows::Some | DescribedRows::None => None,
        };
        let mut open = self.open(&portal.prepared.sql, portal.parameters.clone(), told).await?;
        open.columns = self.columns(&open, &portal.formats)?;
        Ok(open)
    }
}

/// A value of a parameter as text.
fn decoded(column_type: &ColumnType, bytes: &[u8], is_binary: bool) -> Result<String, String> {
    if is_binary {
        return text_of(column_type, bytes);
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| "the text is not UTF-8".into())
}
