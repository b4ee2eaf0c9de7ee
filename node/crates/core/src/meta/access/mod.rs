//! Who may come in, and what they may touch: the part of the catalogue that keeps roles, grants,
//! owners and row policies.
//!
//! A *role* is a name that privileges are given to; a *user* is a role that may log in. A role may
//! be a member of others and then has what they have. Passwords are not here: only what they are
//! verified by ([`Verifiers`]), made where the password came in.
//!
//! [`decide`] answers whether a role may do something, `form` is how this is stored.
//!
//! Invariants: no role is a member of itself, through whomever; grants, owners and policies name
//! roles and tables that exist; the built-in roles always exist; as long as somebody could log in
//! as an admin, somebody still can.

mod command;
pub mod decide;
mod form;
mod rows;
mod verifiers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use command::{AccessCommand, Granted, InvalidAccess};
pub(super) use form::{decode_access, decode_access_command, encode_access, encode_access_command};
pub use rows::RowsVisible;
pub use verifiers::{ITERATIONS_MAX, ITERATIONS_MIN, KEY_BYTES, SALT_BYTES_MAX, Verifiers};

/// The role that may do everything. It always exists.
pub const ADMIN: &str = "admin";

/// The role that may do what keeps a cluster running. It always exists.
pub const OPERATOR: &str = "operator";

/// Roles a cluster may have: all of them are in the memory and the checkpoints of every node.
pub const ROLES_MAX: usize = 10_000;

/// Policies one table may have: each is a condition that every read of the table evaluates.
pub const POLICIES_MAX: usize = 64;

/// Bytes of the condition of one policy.
pub const CONDITION_BYTES_MAX: usize = 8 << 10;

/// What may be done with something. Owners and admins may do all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Privilege {
    /// Read a stream or a view.
    Select,
    /// Append to a stream.
    Insert,
    /// Make streams and views.
    Create,
    /// Drain, resume and decommission nodes; see what others do.
    Operate,
    /// Everything.
    Admin,
}

impl Privilege {
    /// All of them, in order.
    pub const ALL: [Privilege; 5] = [
        Privilege::Select,
        Privilege::Insert,
        Privilege::Create,
        Privilege::Operate,
        Privilege::Admin,
    ];

    /// Whether the privilege is given on tables; the others are given on the cluster.
    #[must_use]
    pub fn is_of_tables(self) -> bool {
        match self {
            Privilege::Select | Privilege::Insert => true,
            Privilege::Create | Privilege::Operate | Privilege::Admin => false,
        }
    }
}

impl fmt::Display for Privilege {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Privilege::Select => "SELECT",
            Privilege::Insert => "INSERT",
            Privilege::Create => "CREATE",
            Privilege::Operate => "OPERATE",
            Privilege::Admin => "ADMIN",
        })
    }
}

/// What a privilege is given on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The cluster as a whole.
    Cluster,
    /// A stream or a view, by its name.
    Table(String),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Cluster => f.write_str("the cluster"),
            Object::Table(name) => write!(f, "\"{name}\""),
        }
    }
}

/// A role as the catalogue knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Whether it is a user.
    pub login: bool,
    /// What its password is verified by. `None`: it has no password.
    pub verifiers: Option<Verifiers>,
    /// The roles it is a member of, by itself.
    pub member_of: BTreeSet<String>,
}

/// Which rows of a table some roles see. A table with a policy shows to those that are neither its
/// owner nor admins only rows that one of their policies lets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whom it is for. Nobody, once the last of them was dropped.
    pub roles: BTreeSet<String>,
    /// The condition in SQL, as it was written.
    pub condition: String,
}

/// Roles, grants, owners and policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub(super) roles: BTreeMap<String, Role>,
    pub(super) grants: BTreeMap<(String, Object), BTreeSet<Privilege>>,
    pub(super) owners: BTreeMap<String, String>,
    /// By table and name.
    pub(super) policies: BTreeMap<(String, String), Policy>,
}

impl Default for Access {
    fn default() -> Access {
        let built_in = [ADMIN, OPERATOR].map(|name| (name.to_owned(), Role::default()));
        Access {
            roles: BTreeMap::from(built_in),
            grants: BTreeMap::new(),
            owners: BTreeMap::new(),
            policies: BTreeMap::new(),
        }
    }
}

impl Access {
    /// The roles, by name.
    #[must_use]
    pub fn roles(&self) -> &BTreeMap<String, Role> {
        &self.roles
    }

    /// What was granted, by role and object.
    #[must_use]
    pub fn grants(&self) -> &BTreeMap<(String, Object), BTreeSet<Privilege>> {
        &self.grants
    }

    /// Who made, or was given, a stream or view. What was made while nobody logged in has no owner.
    #[must_use]
    pub fn owner(&self, table: &str) -> Option<&str> {
        self.owners.get(table).map(String::as_str)
    }

    /// The policies, by table and name.
    #[must_use]
    pub fn policies(&self) -> &BTreeMap<(String, String), Policy> {
        &self.policies
    }

    /// Whether anybody can log in at all.
    #[must_use]
    pub fn has_users(&self) -> bool {
        self.roles.values().any(|role| role.login)
    }

    /// What a command makes of this.
    pub(super) fn execute(
        &self,
        command: AccessCommand,
        is_table: &dyn Fn(&str) -> bool,
    ) -> Result<Access, InvalidAccess> {
        let had_admin = self.has_admin();
        let mut next = self.clone();
        next.change(command, is_table)?;
        if had_admin && !next.has_admin() {
            return Err(InvalidAccess::LastAdmin);
        }
        Ok(next)
    }

    /// A table is there, made by `owner`.
    pub(super) fn own(&mut self, table: &str, owner: &str) {
        self.owners.insert(table.to_owned(), owner.to_owned());
    }

    /// A table is gone, and with it what was said of it.
    pub(super) fn forget_table(&mut self, table: &str) {
        self.owners.remove(table);
        self.policies.retain(|(of, _), _| of != table);
        self.grants.retain(|(_, object), _| match object {
            Object::Table(name) => name != table,
            Object::Cluster => true,
        });
    }

    fn has_admin(&self) -> bool {
        self.roles.iter().any(|(name, role)| role.login && decide::is_admin(self, name))
    }

    fn change(
        &mut self,
        command: AccessCommand,
        is_table: &dyn Fn(&str) -> bool,
    ) -> Result<(), InvalidAccess> {
        match command {
            AccessCommand::CreateRole { name, login, verifiers, if_not_exists } => {
                self.create_role(name, login, verifiers, if_not_exists)
            }
            AccessCommand::AlterRole { name, login, verifiers } => {
                let Some(role) = self.roles.get_mut(&name) else {
                    return Err(InvalidAccess::RoleUnknown { name });
                };
                role.login = login.unwrap_or(role.login);
                role.verifiers = verifiers.or_else(|| role.verifiers.take());
                Ok(())
            }
            AccessCommand::DropRole { name, if_exists } => self.drop_role(name, if_exists),
            AccessCommand::Grant { granted, to } => self.grant(&granted, &to, is_table),
            AccessCommand::Revoke { granted, from } => self.revoke(&granted, &from, is_table),
            AccessCommand::CreatePolicy { name, table, policy } => {
                self.create_policy(name, table, policy, is_table)
            }
            AccessCommand::DropPolicy { name, table, if_exists } => {
                let is_there = self.policies.remove(&(table.clone(), name.clone())).is_some();
                if is_there || if_exists {
                    return Ok(());
                }
                Err(InvalidAccess::PolicyUnknown { name, table })
            }
            AccessCommand::SetOwner { table, owner } => {
                check_table(&table, is_table)?;
                self.check_roles([&owner])?;
                self.own(&table, &owner);
                Ok(())
            }
        }
    }

    fn create_role(
        &mut self,
        name: String,
        login: bool,
        verifiers: Option<Verifiers>,
        if_not_exists: bool,
    ) -> Result<(), InvalidAccess> {
        match (self.roles.contains_key(&name), if_not_exists) {
            (true, true) => return Ok(()),
            (true, false) => return Err(InvalidAccess::RoleExists { name }),
            (false, _) => {}
        }
        if ROLES_MAX <= self.roles.len() {
            return Err(InvalidAccess::TooMany { what: "roles", count_max: ROLES_MAX });
        }
        self.roles.insert(name, Role { login, verifiers, member_of: BTreeSet::new() });
        Ok(())
    }

    fn drop_role(&mut self, name: String, if_exists: bool) -> Result<(), InvalidAccess> {
        if is_built_in(&name) {
            return Err(InvalidAccess::BuiltIn { name });
        }
        match (self.roles.contains_key(&name), if_exists) {
            (false, true) => return Ok(()),
            (false, false) => return Err(InvalidAccess::RoleUnknown { name }),
            (true, _) => {}
        }
        let owned = self.owners.iter().filter(|(_, owner)| **owner == name);
        let tables: Vec<String> = owned.map(|(table, _)| table.clone()).collect();
        if !tables.is_empty() {
            return Err(InvalidAccess::Owns { name, tables });
        }
        self.roles.remove(&name);
        for role in self.roles.values_mut() {
            role.member_of.remove(&name);
        }
        self.grants.retain(|(role, _), _| *role != name);
        for policy in self.policies.values_mut() {
            policy.roles.remove(&name);
        }
        Ok(())
    }

    fn grant(
        &mut self,
        granted: &Granted,
        to: &BTreeSet<String>,
        is_table: &dyn Fn(&str) -> bool,
    ) -> Result<(), InvalidAccess> {
        self.check_granted(granted, to, is_table)?;
        match granted {
            Granted::Privileges(privileges, objects) => {
                for role in to {
                    for object in objects {
                        let held = self.grants.entry((role.clone(), object.clone())).or_default();
                        held.extend(privileges);
                    }
                }
            }
            Granted::Roles(roles) => {
                for member in to {
                    for role in roles {
                        if decide::roles_of(self, role).contains(member.as_str()) {
                            let (member, role) = (member.clone(), role.clone());
                            return Err(InvalidAccess::Cycle { member, role });
                        }
                        let member = self.roles.get_mut(member).expect("it was checked");
                        member.member_of.insert(role.clone());
                    }
                }
            }
        }
        Ok(())
    }

    fn revoke(
        &mut self,
        granted: &Granted,
        from: &BTreeSet<String>,
        is_table: &dyn Fn(&str) -> bool,
    ) -> Result<(), InvalidAccess> {
        self.check_granted(granted, from, is_table)?;
        match granted {
            Granted::Privileges(privileges, objects) => {
                for role in from {
                    for object in objects {
                        let key = (role.clone(), object.clone());
                        let Some(held) = self.grants.get_mut(&key) else { continue };
                        held.retain(|privilege| !privileges.contains(privilege));
                        if held.is_empty() {
                            self.grants.remove(&key);
                        }
                    }
                }
            }
            Granted::Roles(roles) => {
                for member in from {
                    let member = self.roles.get_mut(member).expect("it was checked");
                    member.member_of.retain(|role| !roles.contains(role));
                }
            }
        }
        Ok(())
    }

    fn create_policy(
        &mut self,
        name: String,
        table: String,
        policy: Policy,
        is_table: &dyn Fn(&str) -> bool,
    ) -> Result<(), InvalidAccess> {
        check_table(&table, is_table)?;
        self.check_roles(&policy.roles)?;
        if self.policies.contains_key(&(table.clone(), name.clone())) {
            return Err(InvalidAccess::PolicyExists { name, table });
        }
        if POLICIES_MAX <= self.policies.keys().filter(|(of, _)| *of == table).count() {
            let what = "policies on this table";
            return Err(InvalidAccess::TooMany { what, count_max: POLICIES_MAX });
        }
        self.policies.insert((table, name), policy);
        Ok(())
    }

    fn check_granted(
        &self,
        granted: &Granted,
        roles: &BTreeSet<String>,
        is_table: &dyn Fn(&str) -> bool,
    ) -> Result<(), InvalidAccess> {
        self.check_roles(roles)?;
        match granted {
            Granted::Roles(roles) => self.check_roles(roles),
            Granted::Privileges(privileges, objects) => {
                for object in objects {
                    check_privileges(privileges, object)?;
                    match object {
                        Object::Table(name) => check_table(name, is_table)?,
                        Object::Cluster => {}
                    }
                }
                Ok(())
            }
        }
    }

    fn check_roles<'a>(
        &self,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<(), InvalidAccess> {
        match names.into_iter().find(|name| !self.roles.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(InvalidAccess::RoleUnknown { name: name.clone() }),
        }
    }
}

/// Whether a role exists in every cluster.
#[must_use]
pub fn is_built_in(name: &str) -> bool {
    name == ADMIN || name == OPERATOR
}

fn check_table(name: &str, is_table: &dyn Fn(&str) -> bool) -> Result<(), InvalidAccess> {
    match is_table(name) {
        true => Ok(()),
        false => Err(InvalidAccess::TableUnknown { name: name.to_owned() }),
    }
}

pub(super) fn check_privileges(
    privileges: &BTreeSet<Privilege>,
    object: &Object,
) -> Result<(), InvalidAccess> {
    let of_tables = match object {
        Object::Table(_) => true,
        Object::Cluster => false,
    };
    match privileges.iter().find(|privilege| privilege.is_of_tables() != of_tables) {
        None => Ok(()),
        Some(&privilege) => Err(InvalidAccess::NotOfObject { privilege, object: object.clone() }),
    }
}
