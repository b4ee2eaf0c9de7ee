//! Who asks, and what they may touch.
//!
//! A statement is bound against the tables that its caller may read and no others: `pin` refuses a
//! name that is not granted before anything of it is looked at, and only what passed is there to be
//! planned over. Statements that change something ask [`Rights`] before they do. The decision
//! itself is [`alluvium_core::meta::access::decide`]; nothing is decided here.
//!
//! `parse` reads the statements about roles, `run` carries them out, `rows` puts row policies in,
//! [`host`] is what the node does for them.

mod check;
pub mod host;
mod parse;
mod redact;
mod rows;
pub(crate) mod run;

use std::fmt;
use std::sync::Arc;

use alluvium_core::meta::access::decide::{self, Refused};
use alluvium_core::meta::access::{Access, Object, Privilege, RowsVisible};

pub(crate) use parse::{AccessStatement, is_access_statement, parse};
pub use redact::redacted;

use crate::error::SqlError;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody has to say who they are: everybody may do everything.
    Everybody,
    /// This role, which said so and proved it.
    Role(Arc<str>),
}

impl Caller {
    /// The role that owns what the caller makes.
    #[must_use]
    pub fn owner(&self) -> Option<String> {
        match self {
            Caller::Everybody => None,
            Caller::Role(role) => Some(role.to_string()),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Everybody => f.write_str("everybody"),
            Caller::Role(role) => f.write_str(role),
        }
    }
}

/// What must not be seen: a password as it came in. Shown by nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes it in.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// Gives it out, to be verified or made into verifiers and for nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What one caller may do, as the catalogue has it at one moment.
#[derive(Clone, Debug)]
pub struct Rights {
    caller: Caller,
    access: Arc<Access>,
}

impl Rights {
    /// Of a caller, as of now.
    #[must_use]
    pub fn new(caller: Caller, access: Arc<Access>) -> Rights {
        Rights { caller, access }
    }

    /// Whose they are.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What they follow from; `None` where everybody may do everything.
    pub(crate) fn known(&self) -> Option<Arc<Access>> {
        match &self.caller {
            Caller::Everybody => None,
            Caller::Role(_) => Some(Arc::clone(&self.access)),
        }
    }

    /// Whether the caller has a privilege on something.
    pub fn allows(&self, privilege: Privilege, object: &Object) -> Result<(), Refused> {
        match &self.caller {
            Caller::Everybody => Ok(()),
            Caller::Role(role) => decide::allows(&self.access, role, privilege, object),
        }
    }

    /// Whether the caller has a privilege on the cluster.
    pub fn on_cluster(&self, privilege: Privilege) -> Result<(), Refused> {
        self.allows(privilege, &Object::Cluster)
    }

    /// Whether the caller has a privilege on a stream or view.
    pub fn on_table(&self, privilege: Privilege, table: &str) -> Result<(), Refused> {
        match &self.caller {
            Caller::Everybody => Ok(()),
            Caller::Role(_) => self.allows(privilege, &Object::Table(table.to_owned())),
        }
    }

    /// Whether the caller may drop a stream or view and grant it to others.
    pub fn owns(&self, table: &str) -> Result<(), Refused> {
        match &self.caller {
            Caller::Everybody => Ok(()),
            Caller::Role(role) => decide::owns(&self.access, role, table),
        }
    }

    /// Whether the caller may read a stream or view.
    #[must_use]
    pub fn sees(&self, table: &str) -> bool {
        self.on_table(Privilege::Select, table).is_ok()
    }

    /// Whether the caller may read every row of a stream or view.
    #[must_use]
    pub fn sees_all(&self, table: &str) -> bool {
        self.sees(table) && self.rows(table) == RowsVisible::All
    }

    /// Which rows of a stream or view the caller sees, given that they may read it.
    #[must_use]
    pub fn rows(&self, table: &str) -> RowsVisible {
        match &self.caller {
            Caller::Everybody => RowsVisible::All,
            Caller::Role(role) => decide::rows_visible(&self.access, role, table),
        }
    }

    /// Whether a role is the caller or one that the caller is a member of.
    #[must_use]
    pub fn has_role(&self, name: &str) -> bool {
        match &self.caller {
            Caller::Everybody => true,
            Caller::Role(role) => decide::roles_of(&self.access, role).contains(name),
        }
    }

    /// The roles, grants and policies themselves.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }
}

impl From<Refused> for SqlError {
    fn from(refused: Refused) -> SqlError {
        SqlError::Denied { reason: refused.to_string() }
    }
}
