//! Views: from a definition to what is maintained and what is computed when it is read.
//!
//! [`ViewCompiler`] turns a definition into a [`CompiledView`]: `find` picks the aggregate that can
//! be maintained, `flatten` and `maintain` bring it down to the columns of the stream and make it
//! ready to fold (`calls` for aggregates, `window` for windows of event time), `check` and `find`
//! refuse what cannot be, and say why. What stands above the aggregate is kept as a plan over a
//! table of groups; `expand` puts the tables of one statement into it, `groups` is the table and
//! `scan` the source in its plan, `keys` finds what a filter says of keys, `kept` keeps plans for
//! when a question comes again, `finish` runs the part over rows where it needs no plan. `ddl`
//! reads the statements and `run` answers them, `audit` compares a view with the log.
//!
//! Invariant: the rows of a view are those that its query answers over the events before the
//! view's frontier.

mod audit;
mod calls;
mod check;
mod compile;
mod condition;
pub(crate) mod ddl;
pub(crate) mod expand;
mod explain;
mod find;
mod finish;
mod flatten;
pub(crate) mod groups;
pub(crate) mod kept;
mod keys;
mod maintain;
mod placeholder;
pub(crate) mod run;
mod scan;
pub(crate) mod window;
pub(crate) mod windowed;

pub(crate) use compile::arrow_schema;
pub use compile::{CompiledView, Maintained, ViewCompiler};
pub use explain::{Explained, How};
