//! Functions of `pg_catalog`. Most answer what a database without users, indexes and comments
//! answers; those about names of types compute.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::error::Result;
use datafusion::execution::{FunctionRegistry, SessionState};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use super::relations::{PUBLIC_OID, SYSTEM_TABLE_OIDS};
use super::tables::USER;
use super::types;
use crate::catalog::CATALOGUE;

/// Adds them to those of the engine, `version` in the place of its own.
pub(crate) fn register(state: &mut SessionState) -> Result<()> {
    let none = Answer::Text(None);
    let functions = [
        ("current_user", Answer::Text(Some(USER))),
        ("session_user", Answer::Text(Some(USER))),
        ("user", Answer::Text(Some(USER))),
        ("pg_get_userbyid", Answer::Text(Some(USER))),
        ("current_catalog", Answer::Text(Some(CATALOGUE))),
        ("current_database", Answer::Text(Some(CATALOGUE))),
        ("current_schema", Answer::Text(Some("public"))),
        ("version", Answer::Text(Some(VERSION))),
        ("pg_encoding_to_char", Answer::Text(Some("UTF8"))),
        ("obj_description", none),
        ("col_description", none),
        ("shobj_description", none),
        ("pg_get_indexdef", none),
        ("pg_get_constraintdef", none),
        ("pg_get_expr", none),
        ("pg_get_viewdef", none),
        ("pg_get_ruledef", none),
        ("pg_get_triggerdef", none),
        ("pg_get_functiondef", none),
        ("pg_get_serial_sequence", none),
        ("pg_get_partkeydef", none),
        ("pg_get_statisticsobjdef_columns", none),
        ("pg_get_function_result", none),
        ("pg_get_function_arguments", none),
        ("pg_tablespace_location", none),
        ("pg_is_in_recovery", Answer::Flag(false)),
        ("pg_relation_is_publishable", Answer::Flag(false)),
        ("pg_type_is_visible", Answer::Flag(true)),
        ("pg_function_is_visible", Answer::Flag(true)),
        ("has_database_privilege", Answer::Flag(true)),
        ("has_schema_privilege", Answer::Flag(true)),
        ("has_table_privilege", Answer::Flag(true)),
        ("has_column_privilege", Answer::Flag(true)),
        ("has_function_privilege", Answer::Flag(true)),
        ("pg_has_role", Answer::Flag(true)),
        ("pg_my_temp_schema", Answer::Number(0)),
        ("pg_backend_pid", Answer::Number(0)),
        ("pg_table_is_visible", Answer::IsVisible),
        ("format_type", Answer::TypeName),
        ("to_regtype", Answer::TypeNumber),
        ("current_schemas", Answer::Schemas),
        ("current_setting", Answer::Setting),
        ("quote_ident", Answer::QuotedName),
    ];
    for (name, answer) in functions {
        let signature = Signature::one_of(
            vec![TypeSignature::Nullary, TypeSignature::VariadicAny],
            Volatility::Stable,
        );
        let function = Function { name, answer, signature };
        state.register_udf(Arc::new(ScalarUDF::new_from_impl(function)))?;
    }
    Ok(())
}

const VERSION: &str = concat!("PostgreSQL 15.0 (Alluvium ", env!("CARGO_PKG_VERSION"), ")");

#[derive(Debug, PartialEq, Eq, Hash)]
struct Function {
    name: &'static str,
    answer: Answer,
    signature: Signature,
}

/// What a function answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Answer {
    /// The same text for everything.
    Text(Option<&'static str>),
    /// The same for everything.
    Flag(bool),
    /// The same for everything.
    Number(i32),
    /// Whether a relation's name needs no schema.
    IsVisible,
    /// A type by its number and modifier.
    TypeName,
    /// A type by its name.
    TypeNumber,
    /// Where names without a schema are looked for.
    Schemas,
    /// A setting of the session.
    Setting,
    /// A name as SQL writes it.
    QuotedName,
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.answer {
            Answer::Text(_) | Answer::TypeName | Answer::Setting | Answer::QuotedName => {
                DataType::Utf8
            }
            Answer::Flag(_) | Answer::IsVisible => DataType::Boolean,
            Answer::Number(_) | Answer::TypeNumber => DataType::Int32,
            Answer::Schemas => DataType::List(schema_field()),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let row_count = args.number_rows;
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        // One row stands for all where nothing differs.
        let row_count = if is_scalar { 1 } else { row_count };
        let args = args.args.iter().map(|arg| arg.to_array(row_count));
        let answer = self.answer.over(&args.collect::<Result<Vec<_>>>()?, row_count)?;
        if is_scalar {
            let one = datafusion::common::ScalarValue::try_from_array(&answer, 0)?;
            return Ok(ColumnarValue::Scalar(one));
        }
        Ok(ColumnarValue::Array(answer))
    }
}

impl Answer {
    fn over(self, args: &[ArrayRef], row_count: usize) -> Result<ArrayRef> {
        let texts = |place: usize| match args.get(place) {
            Some(arg) => cast(arg, &DataType::Utf8),
            None => Ok(arrow::array::new_null_array(&DataType::Utf8, row_count)),
        };
        Ok(match self {
            Answer::Text(text) => Arc::new(StringArray::from(vec![text; row_count])),
            Answer::Flag(flag) => Arc::new(BooleanArray::from(vec![flag; row_count])),
            Answer::Number(number) => Arc::new(Int32Array::from(vec![number; row_count])),
            Answer::IsVisible => {
                let oids = numbers(args, 0, row_count)?;
                let visible = oids.iter().map(|oid| {
                    oid.map(|oid| PUBLIC_OID <= oid && !SYSTEM_TABLE_OIDS.contains(&oid))
                });
                Arc::new(visible.collect::<BooleanArray>())
            }
            Answer::TypeName => {
                let (oids, modifiers) =
                    (numbers(args, 0, row_count)?, numbers(args, 1, row_count)?);
                let names = oids.iter().zip(modifiers.iter()).map(|(oid, modifier)| {
                    let oid = u32::try_from(oid?).unwrap_or(0);
                    Some(types::shown(oid, modifier).unwrap_or_else(|| "???".into()))
                });
                Arc::new(names.collect::<StringArray>())
            }
            Answer::TypeNumber => {
                let names = texts(0)?;
                let oids = names
                    .as_string::<i32>()
                    .iter()
                    .map(|name| types::by_name(name?).and_then(|oid| i32::try_from(oid).ok()));
                Arc::new(oids.collect::<Int32Array>())
            }
            Answer::Schemas => schemas(args, row_count)?,
            Answer::Setting => {
                let names = texts(0)?;
                let settings = names.as_string::<i32>().iter().map(|name| match name? {
                    "server_version" => Some(super::SERVER_VERSION),
                    "server_version_num" => Some("150000"),
                    "search_path" => Some("\"$user\", public"),
                    "TimeZone" | "timezone" => Some("UTC"),
                    _ => None,
                });
                Arc::new(settings.collect::<StringArray>())
            }
            Answer::QuotedName => {
                let names = texts(0)?;
                let quoted = names.as_string::<i32>().iter().map(|name| name.map(quoted));
                Arc::new(quoted.collect::<StringArray>())
            }
        })
    }
}

fn numbers(args: &[ArrayRef], place: usize, row_count: usize) -> Result<Int32Array> {
    let Some(arg) = args.get(place) else {
        return Ok(Int32Array::new_null(row_count));
    };
    Ok(cast(arg, &DataType::Int32)?.as_primitive::<Int32Type>().clone())
}

fn schema_field() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Utf8, true))
}

/// `{pg_catalog,public}` where the implied ones are asked for, else `{public}`.
fn schemas(args: &[ArrayRef], row_count: usize) -> Result<ArrayRef> {
    let implied = match args.first() {
        Some(arg) => cast(arg, &DataType::Boolean)?.as_boolean().clone(),
        None => BooleanArray::from(vec![false; row_count]),
    };
    let mut names = Vec::new();
    let mut lengths = Vec::with_capacity(row_count);
    for implied in implied.iter() {
        let some: &[&str] = match implied {
            Some(true) => &["pg_catalog", "public"],
            Some(false) | None => &["public"],
        };
        names.extend_from_slice(some);
        lengths.push(some.len());
    }
    let offsets = OffsetBuffer::from_lengths(lengths);
    let values: ArrayRef = Arc::new(StringArray::from(names));
    Ok(Arc::new(ListArray::try_new(schema_field(), offsets, values, None)?))
}

fn quoted(name: &str) -> String {
    let is_plain = !name.is_empty()
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit());
    if is_plain { name.into() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
