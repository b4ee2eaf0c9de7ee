//! `LIKE … ESCAPE 'c'` for any character `c`, in words of the engine underneath, which knows the
//! backslash only.
//!
//! A pattern may be any expression, so it is rewritten where it is computed: a doubled escape
//! character stands for itself, a single one becomes a backslash, and backslashes, which such a
//! pattern takes literally, are doubled.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident,
    ObjectName, Value, ValueWithSpan, VisitMut, VisitorMut,
};

/// Stands for a doubled escape character meanwhile. Unicode keeps it for such uses, so no text has
/// it.
const DOUBLED: &str = "\u{fdd0}";

/// See the module.
pub(crate) fn spell_escapes(statement: &mut Parsed) {
    match statement {
        Parsed::Statement(statement) => {
            let _: ControlFlow<()> = statement.visit(&mut Escapes);
        }
        Parsed::Explain(explain) => spell_escapes(&mut explain.statement),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => {}
    }
}

struct Escapes;

impl VisitorMut for Escapes {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } =
            expr
            && let Some(ValueWithSpan { value: Value::SingleQuotedString(escape), .. }) =
                escape_char
            && escape != "\\"
            && escape.chars().count() <= 1
        {
            **pattern = with_backslashes(pattern, escape);
            *escape_char = None;
        }
        ControlFlow::Continue(())
    }
}

fn with_backslashes(pattern: &Expr, escape: &str) -> Expr {
    let backslashes = |pattern| replace(pattern, "\\", "\\\\");
    if escape.is_empty() {
        return backslashes(pattern.clone());
    }
    let hidden = replace(pattern.clone(), &escape.repeat(2), DOUBLED);
    let escaped = replace(backslashes(hidden), escape, "\\");
    // One that means something in a pattern means itself here.
    let itself = if matches!(escape, "%" | "_") { format!("\\{escape}") } else { escape.into() };
    replace(escaped, DOUBLED, &itself)
}

fn replace(text: Expr, from: &str, to: &str) -> Expr {
    let literal = |text: &str| Expr::Value(Value::SingleQuotedString(text.into()).into());
    let args = [text, literal(from), literal(to)];
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("replace")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
