//! Which rows of a table a role sees.

/// Which rows of a table a role sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowsVisible {
    /// All of them: the table has no policy, or they are not for this role.
    All,
    /// Those for which one of these conditions is true. Without a condition: none.
    Where(Vec<String>),
}
