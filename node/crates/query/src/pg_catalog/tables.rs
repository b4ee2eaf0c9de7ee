//! The tables of `pg_catalog`: those with rows, and those that are always empty.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Int16Array, Int32Array, RecordBatch, StringArray,
    new_empty_array,
};
use arrow::datatypes::{DataType, Field};

use super::relations::{Kind, NAMESPACES, PG_CATALOG_OID, PUBLIC_OID, Relation};
use super::types::{KNOWN, OID};
use crate::catalog::CATALOGUE;
use crate::error::SqlError;
use crate::system::{Rows, flag, maybe_text, text};

/// The user that everybody is until there are users.
pub(super) const USER: &str = "alluvium";

/// The number of the one user, and of what belongs to it.
const USER_OID: i32 = 10;
const DATABASE_OID: i32 = 5;
const HEAP_OID: i32 = 2;

const FILLED: [&str; 14] = [
    "pg_am",
    "pg_attribute",
    "pg_class",
    "pg_database",
    "pg_matviews",
    "pg_namespace",
    "pg_range",
    "pg_roles",
    "pg_settings",
    "pg_tables",
    "pg_tablespace",
    "pg_type",
    "pg_user",
    "pg_views",
];

/// Tables of what this node does not have, with those of their columns that clients name: `o` a
/// number of something, `i` INTEGER, `s` SMALLINT, `b` BOOLEAN, `t` text, and the same in capitals
/// for lists.
const EMPTY: [(&str, &str); 31] = [
    ("pg_attrdef", "oid:o adrelid:o adnum:s adbin:t"),
    ("pg_authid", "oid:o rolname:t"),
    ("pg_auth_members", "roleid:o member:o grantor:o admin_option:b"),
    ("pg_cast", "oid:o castsource:o casttarget:o castfunc:o castcontext:t castmethod:t"),
    ("pg_collation", "oid:o collname:t collnamespace:o collprovider:t collisdeterministic:b"),
    (
        "pg_constraint",
        "oid:o conname:t connamespace:o contype:t condeferrable:b condeferred:b convalidated:b \
         conrelid:o contypid:o conindid:o conparentid:o confrelid:o confupdtype:t confdeltype:t \
         confmatchtype:t conislocal:b coninhcount:i connoinherit:b conkey:S confkey:S conbin:t",
    ),
    ("pg_depend", "classid:o objid:o objsubid:i refclassid:o refobjid:o refobjsubid:i deptype:t"),
    ("pg_description", "objoid:o classoid:o objsubid:i description:t"),
    ("pg_enum", "oid:o enumtypid:o enumsortorder:i enumlabel:t"),
    ("pg_event_trigger", "oid:o evtname:t evtevent:t evtowner:o evtenabled:t"),
    ("pg_extension", "oid:o extname:t extowner:o extnamespace:o extrelocatable:b extversion:t"),
    ("pg_foreign_data_wrapper", "oid:o fdwname:t fdwowner:o"),
    ("pg_foreign_server", "oid:o srvname:t srvowner:o srvfdw:o"),
    ("pg_foreign_table", "ftrelid:o ftserver:o ftoptions:T"),
    (
        "pg_index",
        "indexrelid:o indrelid:o indnatts:s indnkeyatts:s indisunique:b indnullsnotdistinct:b \
         indisprimary:b indisexclusion:b indimmediate:b indisclustered:b indisvalid:b indisready:b \
         indislive:b indisreplident:b indkey:S indcollation:O indclass:O indoption:S indexprs:t \
         indpred:t",
    ),
    ("pg_inherits", "inhrelid:o inhparent:o inhseqno:i inhdetachpending:b"),
    ("pg_language", "oid:o lanname:t lanowner:o lanispl:b lanpltrusted:b"),
    ("pg_locks", "locktype:t database:o relation:o pid:i mode:t granted:b"),
    ("pg_opclass", "oid:o opcname:t opcmethod:o opcdefault:b opcintype:o"),
    ("pg_partitioned_table", "partrelid:o partstrat:t partnatts:s partattrs:S"),
    ("pg_policy", "oid:o polname:t polrelid:o polcmd:t polpermissive:b polroles:O polqual:t"),
    (
        "pg_proc",
        "oid:o proname:t pronamespace:o proowner:o prolang:o prokind:t proisagg:b proretset:b \
         pronargs:s prorettype:o proargtypes:O proargnames:T prosrc:t",
    ),
    ("pg_publication", "oid:o pubname:t puballtables:b"),
    ("pg_publication_namespace", "oid:o pnpubid:o pnnspid:o"),
    ("pg_publication_rel", "oid:o prpubid:o prrelid:o"),
    ("pg_rewrite", "oid:o rulename:t ev_class:o ev_type:t ev_enabled:t is_instead:b"),
    ("pg_sequence", "seqrelid:o seqtypid:o seqstart:i seqincrement:i seqmax:i seqmin:i seqcache:i"),
    ("pg_shdescription", "objoid:o classoid:o description:t"),
    ("pg_stat_activity", "datid:o datname:t pid:i usename:t application_name:t state:t query:t"),
    ("pg_statistic_ext", "oid:o stxrelid:o stxname:t stxnamespace:o stxkeys:S stxkind:T"),
    ("pg_trigger", "oid:o tgrelid:o tgname:t tgfoid:o tgtype:s tgenabled:t tgisinternal:b"),
];

/// Whether `pg_catalog` has a table of this name.
pub(crate) fn is_table(name: &str) -> bool {
    FILLED.contains(&name) || is_empty(name)
}

/// Whether a table never has a row.
pub(super) fn is_empty(name: &str) -> bool {
    name == "pg_range" || EMPTY.iter().any(|(empty, _)| *empty == name)
}

/// A table of `pg_catalog` with its rows.
pub(crate) fn table(name: &str, relations: &[Relation]) -> Result<RecordBatch, SqlError> {
    match name {
        "pg_am" => access_methods(),
        "pg_attribute" => attributes(relations),
        "pg_class" => classes(relations),
        "pg_database" => databases(),
        "pg_matviews" => views(relations, Kind::MaterializedView),
        "pg_namespace" => namespaces(),
        "pg_range" => empty("rngtypid:o rngsubtype:o rngmultitypid:o rngcollation:o"),
        "pg_roles" | "pg_user" => users(name),
        "pg_settings" => settings(),
        "pg_tables" => tables(relations),
        "pg_tablespace" => tablespaces(),
        "pg_type" => types(),
        "pg_views" => views(relations, Kind::View),
        _ => match EMPTY.iter().find(|(empty, _)| *empty == name) {
            Some((_, columns)) => empty(columns),
            None => {
                let reason = format!("table \"pg_catalog.{name}\" does not exist");
                Err(SqlError::NotFound { reason })
            }
        },
    }
}

fn empty(columns: &str) -> Result<RecordBatch, SqlError> {
    let mut rows = Rows::default();
    for column in columns.split_whitespace() {
        let (name, letter) = column.split_once(':').unwrap_or((column, "t"));
        let item = match letter.to_ascii_lowercase().as_str() {
            "o" => OID,
            "i" => DataType::Int32,
            "s" => DataType::Int16,
            "b" => DataType::Boolean,
            _ => DataType::Utf8,
        };
        let is_list = letter.bytes().all(|letter| letter.is_ascii_uppercase());
        let data_type = match is_list {
            true => DataType::List(Arc::new(Field::new_list_field(item, true))),
            false => item,
        };
        rows = rows.add(name, new_empty_array(&data_type));
    }
    rows.build()
}

fn namespaces() -> Result<RecordBatch, SqlError> {
    let count = NAMESPACES.len();
    Rows::default()
        .add("oid", ids(NAMESPACES.iter().map(|(oid, _)| *oid)))
        .add("nspname", text(NAMESPACES.iter().map(|(_, name)| name.to_string())))
        .add("nspowner", same(count, USER_OID))
        .add("nspacl", no_texts(count))
        .build()
}

fn classes(relations: &[Relation]) -> Result<RecordBatch, SqlError> {
    let count = relations.len();
    let no = || all_flags(count, false);
    let zero = || same(count, 0);
    let rows = Rows::default()
        .add("oid", ids(relations.iter().map(|relation| relation.oid)))
        .add("relname", text(relations.iter().map(|relation| relation.name.clone())))
        .add("relnamespace", ids(relations.iter().map(|relation| relation.namespace)))
        .add("reltype", zero())
        .add("reloftype", zero())
        .add("relowner", same(count, USER_OID))
        .add(
            "relam",
            ids(relations.iter().map(|relation| match relation.kind {
                Kind::Table | Kind::MaterializedView => HEAP_OID,
                Kind::View => 0,
            })),
        )
        .add("relfilenode", zero())
        .add("reltablespace", zero())
        .add("relpages", zero())
        .add("reltuples", Arc::new(Float32Array::from(vec![-1.0; count])))
        .add("reltoastrelid", zero())
        .add("relhasindex", no())
        .add("relisshared", no())
        .add("relpersistence", words(count, "p"))
        .add("relkind", text(relations.iter().map(|relation| relation.kind.letter().into())))
        .add("relnatts", shorts(relations.iter().map(|relation| relation.columns.len())))
        .add("relchecks", shorts((0..count).map(|_| 0)))
        .add("relhasoids", no())
        .add("relhasrules", no())
        .add("relhastriggers", no())
        .add("relhassubclass", no())
        .add("relrowsecurity", no())
        .add("relforcerowsecurity", no())
        .add("relispopulated", all_flags(count, true))
        .add("relreplident", words(count, "n"))
        .add("relispartition", no())
        .add("relpartbound", maybe_text((0..count).map(|_| None)))
        .add("relacl", no_texts(count))
        .add("reloptions", no_texts(count));
    rows.build()
}

fn attributes(relations: &[Relation]) -> Result<RecordBatch, SqlError> {
    let mut all = Vec::new();
    for relation in relations {
        let columns = relation.columns.iter().enumerate();
        all.extend(columns.map(|(place, column)| (relation, place + 1, column)));
    }
    let all_columns = || all.iter();
    let count = all.len();
    let oid_of = |oid: u32| i32::try_from(oid).unwrap_or(i32::MAX);
    let no = || all_flags(count, false);
    Rows::default()
        .add("attrelid", ids(all_columns().map(|(relation, ..)| relation.oid)))
        .add("attname", text(all_columns().map(|(.., column)| column.name.clone())))
        .add("atttypid", ids(all_columns().map(|(.., column)| oid_of(column.pg_type.oid))))
        .add("attstattarget", same(count, -1))
        .add(
            "attlen",
            Arc::new(Int16Array::from_iter_values(
                all_columns().map(|(.., column)| column.pg_type.size),
            )),
        )
        .add("attnum", shorts(all_columns().map(|(_, place, _)| *place)))
        .add("attndims", same(count, 0))
        .add("atttypmod", ids(all_columns().map(|(.., column)| column.pg_type.modifier)))
        .add("attbyval", no())
        .add("attstorage", words(count, "p"))
        .add("attalign", words(count, "i"))
        .add("attnotnull", flag(all_columns().map(|(.., column)| !column.nullable)))
        .add("atthasdef", no())
        .add("atthasmissing", no())
        .add("attidentity", words(count, ""))
        .add("attgenerated", words(count, ""))
        .add("attcompression", words(count, ""))
        .add("attisdropped", no())
        .add("attislocal", all_flags(count, true))
        .add("attinhcount", same(count, 0))
        .add("attcollation", same(count, 0))
        .add("attacl", no_texts(count))
        .add("attoptions", no_texts(count))
        .add("attfdwoptions", no_texts(count))
        .build()
}

fn types() -> Result<RecordBatch, SqlError> {
    let id = |oid: u32| i32::try_from(oid).unwrap_or(i32::MAX);
    // Each type, and the type of its arrays after it.
    let mut rows = Vec::new();
    for known in &KNOWN {
        let (name, size) = (known.name.to_string(), known.size);
        rows.push((id(known.oid), name, size, known.category, 0, id(known.array)));
        if known.array != 0 {
            rows.push((id(known.array), format!("_{}", known.name), -1, "A", id(known.oid), 0));
        }
    }
    let count = rows.len();
    let input = |suffix: &str| {
        let names = rows.iter().map(|row| if row.4 == 0 { row.1.as_str() } else { "array_" });
        text(names.map(|name| format!("{name}{suffix}")))
    };
    Rows::default()
        .add("oid", ids(rows.iter().map(|row| row.0)))
        .add("typname", text(rows.iter().map(|row| row.1.clone())))
        .add("typnamespace", same(count, PG_CATALOG_OID))
        .add("typowner", same(count, USER_OID))
        .add("typlen", Arc::new(Int16Array::from_iter_values(rows.iter().map(|row| row.2))))
        .add("typbyval", all_flags(count, false))
        .add("typtype", words(count, "b"))
        .add("typcategory", text(rows.iter().map(|row| row.3.into())))
        .add("typispreferred", all_flags(count, false))
        .add("typisdefined", all_flags(count, true))
        .add("typdelim", words(count, ","))
        .add("typrelid", same(count, 0))
        .add("typelem", ids(rows.iter().map(|row| row.4)))
        .add("typarray", ids(rows.iter().map(|row| row.5)))
        .add("typinput", input("in"))
        .add("typoutput", input("out"))
        .add("typreceive", input("recv"))
        .add("typsend", input("send"))
        .add("typnotnull", all_flags(count, false))
        .add("typbasetype", same(count, 0))
        .add("typtypmod", same(count, -1))
        .add("typndims", same(count, 0))
        .add("typcollation", same(count, 0))
        .add("typdefault", maybe_text((0..count).map(|_| None)))
        .build()
}

fn databases() -> Result<RecordBatch, SqlError> {
    Rows::default()
        .add("oid", same(1, DATABASE_OID))
        .add("datname", words(1, CATALOGUE))
        .add("datdba", same(1, USER_OID))
        .add("encoding", same(1, 6))
        .add("datlocprovider", words(1, "c"))
        .add("datcollate", words(1, "C"))
        .add("datctype", words(1, "C"))
        .add("daticulocale", maybe_text([None].into_iter()))
        .add("datistemplate", all_flags(1, false))
        .add("datallowconn", all_flags(1, true))
        .add("datconnlimit", same(1, -1))
        .add("dattablespace", same(1, 0))
        .add("datacl", no_texts(1))
        .build()
}

fn users(table: &str) -> Result<RecordBatch, SqlError> {
    let (name, id) = if table == "pg_user" { ("usename", "usesysid") } else { ("rolname", "oid") };
    Rows::default()
        .add(id, same(1, USER_OID))
        .add(name, words(1, USER))
        .add("rolsuper", all_flags(1, true))
        .add("rolinherit", all_flags(1, true))
        .add("rolcreaterole", all_flags(1, false))
        .add("rolcreatedb", all_flags(1, false))
        .add("rolcanlogin", all_flags(1, true))
        .add("rolreplication", all_flags(1, false))
        .add("rolbypassrls", all_flags(1, false))
        .add("rolconnlimit", same(1, -1))
        .add("rolvaliduntil", maybe_text([None].into_iter()))
        .build()
}

fn access_methods() -> Result<RecordBatch, SqlError> {
    Rows::default()
        .add("oid", same(1, HEAP_OID))
        .add("amname", words(1, "heap"))
        .add("amtype", words(1, "t"))
        .build()
}

fn tablespaces() -> Result<RecordBatch, SqlError> {
    Rows::default()
        .add("oid", same(1, 1_663))
        .add("spcname", words(1, "pg_default"))
        .add("spcowner", same(1, USER_OID))
        .build()
}

fn settings() -> Result<RecordBatch, SqlError> {
    let settings = [
        ("server_version", super::SERVER_VERSION),
        ("server_version_num", "150000"),
        ("max_index_keys", "32"),
        ("standard_conforming_strings", "on"),
    ];
    Rows::default()
        .add("name", text(settings.iter().map(|(name, _)| name.to_string())))
        .add("setting", text(settings.iter().map(|(_, setting)| setting.to_string())))
        .build()
}

fn tables(relations: &[Relation]) -> Result<RecordBatch, SqlError> {
    let tables: Vec<_> = relations.iter().filter(|one| one.kind == Kind::Table).collect();
    let count = tables.len();
    Rows::default()
        .add("schemaname", text(tables.iter().map(|table| schema_of(table).into())))
        .add("tablename", text(tables.iter().map(|table| table.name.clone())))
        .add("tableowner", words(count, USER))
        .add("tablespace", maybe_text((0..count).map(|_| None)))
        .add("hasindexes", all_flags(count, false))
        .build()
}

fn views(relations: &[Relation], kind: Kind) -> Result<RecordBatch, SqlError> {
    let views: Vec<_> = relations.iter().filter(|one| one.kind == kind).collect();
    let (name, owner) = match kind {
        Kind::MaterializedView => ("matviewname", "matviewowner"),
        Kind::View | Kind::Table => ("viewname", "viewowner"),
    };
    Rows::default()
        .add("schemaname", text(views.iter().map(|view| schema_of(view).into())))
        .add(name, text(views.iter().map(|view| view.name.clone())))
        .add(owner, words(views.len(), USER))
        .add("definition", maybe_text(views.iter().map(|view| view.query.clone())))
        .build()
}

fn schema_of(relation: &Relation) -> &'static str {
    if relation.namespace == PUBLIC_OID { "public" } else { "system" }
}

fn ids(values: impl Iterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn same(count: usize, value: i32) -> ArrayRef {
    Arc::new(Int32Array::from(vec![value; count]))
}

fn all_flags(count: usize, value: bool) -> ArrayRef {
    Arc::new(BooleanArray::from(vec![value; count]))
}

fn words(count: usize, word: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![word; count]))
}

fn shorts(values: impl Iterator<Item = usize>) -> ArrayRef {
    let values = values.map(|value| i16::try_from(value).unwrap_or(i16::MAX));
    Arc::new(Int16Array::from_iter_values(values))
}

/// A column of lists of texts, all null.
fn no_texts(count: usize) -> ArrayRef {
    let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
    arrow::array::new_null_array(&DataType::List(item), count)
}
