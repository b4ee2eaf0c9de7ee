//! Streams, views and the node's own tables as PostgreSQL counts relations.

use alluvium_views::columns;
use arrow::datatypes::{Field, Schema};

use super::types::{self, PgType};
use crate::engine::{Pinned, Statements};
use crate::system;

/// Schemas by their numbers.
pub(super) const NAMESPACES: [(i32, &str); 4] = [
    (PG_CATALOG_OID, "pg_catalog"),
    (PUBLIC_OID, "public"),
    (INFORMATION_SCHEMA_OID, "information_schema"),
    (SYSTEM_OID, "system"),
];
pub(super) const PG_CATALOG_OID: i32 = 11;
pub(super) const PUBLIC_OID: i32 = 2_200;
const INFORMATION_SCHEMA_OID: i32 = 13_000;
const SYSTEM_OID: i32 = 13_100;

/// Numbers of the node's own tables, the first and the one after the last.
pub(super) const SYSTEM_TABLE_OIDS: std::ops::Range<i32> = 13_200..13_300;

/// The first number of a stream or view: below are PostgreSQL's own.
const FIRST_OID: u64 = 16_384;

/// A stream, a view or a table of `system`.
#[derive(Clone, Debug)]
pub(crate) struct Relation {
    pub(super) oid: i32,
    pub(super) namespace: i32,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) columns: Vec<Column>,
    /// The query of a view.
    pub(super) query: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Table,
    View,
    MaterializedView,
}

impl Kind {
    /// As `relkind` has it.
    pub fn letter(self) -> &'static str {
        match self {
            Kind::Table => "r",
            Kind::View => "v",
            Kind::MaterializedView => "m",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    pub pg_type: PgType,
    pub nullable: bool,
}

impl Statements {
    /// All relations that the caller can read.
    pub(crate) fn relations(&self, pinned: &Pinned) -> Vec<Relation> {
        let mut relations = Vec::new();
        let rights = &pinned.rights;
        for (name, stream) in pinned.catalogue.iter().filter(|(name, _)| rights.sees(name)) {
            let columns = stream.definition.schema.columns().iter().map(|column| Column {
                name: column.name.clone(),
                pg_type: types::of(&column.column_type),
                nullable: column.nullable,
            });
            relations.push(Relation {
                oid: oid(stream.id.0, 0),
                namespace: PUBLIC_OID,
                name: name.clone(),
                kind: Kind::Table,
                columns: columns.collect(),
                query: None,
            });
        }
        for (name, entry) in pinned.views.iter().filter(|(name, _)| rights.sees(name)) {
            let view = &entry.current;
            let compiled = self.compiler.compiled(view, &pinned.catalogue, &pinned.views);
            let Ok(compiled) = compiled else { continue };
            let is_materialized = view.definition.materialized;
            relations.push(Relation {
                oid: oid(view.id.0, 1),
                namespace: PUBLIC_OID,
                name: name.clone(),
                kind: if is_materialized { Kind::MaterializedView } else { Kind::View },
                columns: columns_of(&compiled.schema),
                query: Some(view.definition.query.clone()),
            });
        }
        for (oid, name) in SYSTEM_TABLE_OIDS.zip(system::TABLES) {
            let Ok(table) = system::empty_table(name) else { continue };
            relations.push(Relation {
                oid,
                namespace: SYSTEM_OID,
                name: name.into(),
                kind: Kind::View,
                columns: columns_of(&table.schema()),
                query: None,
            });
        }
        relations
    }
}

/// Streams have even numbers and views odd ones.
fn oid(id: u64, odd: u64) -> i32 {
    let oid = FIRST_OID.saturating_add(id.saturating_mul(2)).saturating_add(odd);
    i32::try_from(oid).unwrap_or(i32::MAX)
}

fn columns_of(schema: &Schema) -> Vec<Column> {
    let column = |field: &std::sync::Arc<Field>| Column {
        name: field.name().clone(),
        pg_type: types::pg_type(field),
        nullable: field.is_nullable(),
    };
    let hidden = [columns::PARTITION, columns::OFFSET, columns::APPENDED_AT];
    let fields = schema.fields().iter();
    fields.filter(|field| !hidden.contains(&field.name().as_str())).map(column).collect()
}
