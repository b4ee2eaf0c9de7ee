//! Folding events into groups, and reading the groups.

mod definition;

pub use definition::{
    AggregateColumn, Definition, Evaluate, EvaluateError, GroupBy, Window, WindowKind,
};
