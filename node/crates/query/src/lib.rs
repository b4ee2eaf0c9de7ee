//! SQL: sessions, tables and statements over DataFusion.

pub mod host;
