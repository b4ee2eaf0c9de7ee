//! Whether a role may do something. Pure, and the only place that decides it: every door asks here.
//!
//! Nothing is allowed but by a rule below:
//!
//! - an admin may do everything: a member of the role `admin`, or who has ADMIN on the cluster;
//! - the owner of a stream or view may do everything with it;
//! - the role `operator` has OPERATE on the cluster;
//! - a role has what was granted to it and to the roles it is a member of.

use std::collections::BTreeSet;

use super::{ADMIN, Access, OPERATOR, Object, Privilege, RowsVisible};

/// A role may not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has no such privilege, nor has a role it is a member of.
    #[error("permission denied: {privilege} on {object} is not granted to role \"{role}\"")]
    NotGranted {
        /// Who asked.
        role: String,
        /// For what.
        privilege: Privilege,
        /// On what.
        object: Object,
    },
    /// It does not own the stream or view, nor does a role it is a member of.
    #[error("permission denied: role \"{role}\" is not the owner of \"{table}\"")]
    NotOwner {
        /// Who asked.
        role: String,
        /// What is owned by somebody else, or is not there.
        table: String,
    },
    /// There is no such role (any more).
    #[error("permission denied: role \"{role}\" does not exist")]
    NoRole {
        /// Who asked.
        role: String,
    },
}

/// The role and all it is a member of, directly and through others.
#[must_use]
pub fn roles_of<'a>(access: &'a Access, role: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut left = vec![role];
    while let Some(name) = left.pop() {
        let Some((name, role)) = access.roles.get_key_value(name) else { continue };
        if found.insert(name.as_str()) {
            left.extend(role.member_of.iter().map(String::as_str));
        }
    }
    found
}

/// Whether a role may do everything.
#[must_use]
pub fn is_admin(access: &Access, role: &str) -> bool {
    let roles = roles_of(access, role);
    roles.contains(ADMIN) || has_grant(access, &roles, Privilege::Admin, &Object::Cluster)
}

/// Whether a role has a privilege on something. Of what does not exist, nobody but an admin has.
pub fn allows(
    access: &Access,
    role: &str,
    privilege: Privilege,
    object: &Object,
) -> Result<(), Refused> {
    let roles = existing(access, role)?;
    let is_owner = match object {
        Object::Table(table) => access.owner(table).is_some_and(|owner| roles.contains(owner)),
        Object::Cluster => false,
    };
    let is_operating = match privilege {
        Privilege::Operate => roles.contains(OPERATOR),
        Privilege::Select | Privilege::Insert | Privilege::Create | Privilege::Admin => false,
    };
    let is_granted = has_grant(access, &roles, privilege, object);
    if is_owner || is_operating || is_granted || is_admin(access, role) {
        return Ok(());
    }
    Err(Refused::NotGranted { role: role.to_owned(), privilege, object: object.clone() })
}

/// Whether a role may drop a stream or view, grant it to others, and say who sees which rows.
pub fn owns(access: &Access, role: &str, table: &str) -> Result<(), Refused> {
    let roles = existing(access, role)?;
    let is_owner = access.owner(table).is_some_and(|owner| roles.contains(owner));
    if is_owner || is_admin(access, role) {
        return Ok(());
    }
    Err(Refused::NotOwner { role: role.to_owned(), table: table.to_owned() })
}

/// Which rows of a table a role sees, given that it may read it.
#[must_use]
pub fn rows_visible(access: &Access, role: &str, table: &str) -> RowsVisible {
    let of_table = || access.policies.iter().filter(|((of, _), _)| of == table);
    if of_table().next().is_none() || owns(access, role, table).is_ok() {
        return RowsVisible::All;
    }
    let roles = roles_of(access, role);
    let mine = of_table()
        .filter(|(_, policy)| policy.roles.iter().any(|role| roles.contains(role.as_str())));
    RowsVisible::Where(mine.map(|(_, policy)| policy.condition.clone()).collect())
}

fn existing<'a>(access: &'a Access, role: &'a str) -> Result<BTreeSet<&'a str>, Refused> {
    let roles = roles_of(access, role);
    match roles.is_empty() {
        true => Err(Refused::NoRole { role: role.to_owned() }),
        false => Ok(roles),
    }
}

fn has_grant(
    access: &Access,
    roles: &BTreeSet<&str>,
    privilege: Privilege,
    object: &Object,
) -> bool {
    let mut held = roles.iter().filter_map(|role| {
        let key = ((*role).to_owned(), object.clone());
        access.grants.get(&key)
    });
    held.any(|privileges| privileges.contains(&privilege))
}
