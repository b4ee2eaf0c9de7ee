//! What the log asks of roles, grants, owners and policies, and why it may not be done.

use std::collections::BTreeSet;

use super::{Object, Policy, Privilege, Verifiers};

/// What is granted or revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// These privileges, on each of these.
    Privileges(BTreeSet<Privilege>, BTreeSet<Object>),
    /// Membership of these roles.
    Roles(BTreeSet<String>),
}

/// What an entry of the log asks of this part of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessCommand {
    /// Add a role.
    CreateRole {
        /// Its name.
        name: String,
        /// Whether it is a user.
        login: bool,
        /// What its password is verified by.
        verifiers: Option<Verifiers>,
        /// A role of this name is no error; it stays as it is.
        if_not_exists: bool,
    },
    /// Change whether a role may log in, its password, or both.
    AlterRole {
        /// Which.
        name: String,
        /// Whether it is a user from now on.
        login: Option<bool>,
        /// What its password is verified by from now on.
        verifiers: Option<Verifiers>,
    },
    /// Drop a role with all that was granted to it.
    DropRole {
        /// Which.
        name: String,
        /// No role of this name is no error.
        if_exists: bool,
    },
    /// Give privileges or membership.
    Grant {
        /// What.
        granted: Granted,
        /// To whom.
        to: BTreeSet<String>,
    },
    /// Take them back. What was not given is no error.
    Revoke {
        /// What.
        granted: Granted,
        /// From whom.
        from: BTreeSet<String>,
    },
    /// Add a policy.
    CreatePolicy {
        /// Its name, of which a table has each once.
        name: String,
        /// The stream or view.
        table: String,
        /// What it says.
        policy: Policy,
    },
    /// Drop a policy.
    DropPolicy {
        /// Its name.
        name: String,
        /// The stream or view.
        table: String,
        /// No such policy is no error.
        if_exists: bool,
    },
    /// Make a role the owner of a table.
    SetOwner {
        /// The stream or view.
        table: String,
        /// The role.
        owner: String,
    },
}

/// Why a change of roles, grants or policies is not made. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccess {
    /// The name is taken.
    #[error("role \"{name}\" exists already")]
    RoleExists {
        /// The name.
        name: String,
    },
    /// No such role.
    #[error("role \"{name}\" does not exist")]
    RoleUnknown {
        /// The name.
        name: String,
    },
    /// No such stream or view.
    #[error("\"{name}\" does not exist")]
    TableUnknown {
        /// The name.
        name: String,
    },
    /// The role is built in.
    #[error("role \"{name}\" is built in and stays")]
    BuiltIn {
        /// The name.
        name: String,
    },
    /// The role owns something.
    #[error("role \"{name}\" owns {}; drop them or give them another owner", .tables.join(", "))]
    Owns {
        /// The role.
        name: String,
        /// Streams and views, in order.
        tables: Vec<String>,
    },
    /// A role would be a member of itself.
    #[error("role \"{member}\" is, or would be, a member of itself through \"{role}\"")]
    Cycle {
        /// The role that was to be a member.
        member: String,
        /// Of this one.
        role: String,
    },
    /// The privilege is not one of the object.
    #[error("{privilege} is no privilege on {object}")]
    NotOfObject {
        /// Which.
        privilege: Privilege,
        /// On what.
        object: Object,
    },
    /// A policy of this name is there.
    #[error("policy \"{name}\" on \"{table}\" exists already")]
    PolicyExists {
        /// The name.
        name: String,
        /// The stream or view.
        table: String,
    },
    /// No such policy.
    #[error("policy \"{name}\" on \"{table}\" does not exist")]
    PolicyUnknown {
        /// The name.
        name: String,
        /// The stream or view.
        table: String,
    },
    /// Too many of something.
    #[error("there are {count_max} {what} already; more are not kept")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        count_max: usize,
    },
    /// Nobody could change roles any more.
    #[error("nobody could log in as an admin any more")]
    LastAdmin,
}
