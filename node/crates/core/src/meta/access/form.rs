//! How roles, grants and policies are stored, in checkpoints and as commands.
//!
//! Layout, in the forms of [`crate::codec`]:
//!
//! ```text
//! access: role count u32   | each, in name order: name text | login flag | optional verifiers
//!                          | member of: texts
//!         grant count u32  | each: role text | object | privileges
//!         owner count u32  | each: table text | role text
//!         policy count u32 | each: table text | name text | roles: texts | condition text
//! verifiers:  iterations u32 | salt bytes | stored key 32 bytes | server key 32 bytes
//!             | argon2 text
//! object:     u8: 0 the cluster, 1 a table: name text
//! privileges: list of u8: 1 select, 2 insert, 3 create, 4 operate, 5 admin
//! granted:    u8: 1 privileges | objects: list; 2 roles: texts
//! ```

use std::collections::BTreeSet;

use super::verifiers::{
    ARGON2_BYTES_MAX, ITERATIONS_MAX, ITERATIONS_MIN, SALT_BYTES_MAX, Verifiers,
};
use super::{
    ADMIN, Access, AccessCommand, CONDITION_BYTES_MAX, Granted, OPERATOR, Object, Policy,
    Privilege, Role, check_privileges, decide,
};
use crate::codec::{Malformed, Reader, Writer};
use crate::meta::names::check_role_name;

const ROLE_BYTES_MIN: usize = 10;
const TEXT_BYTES_MIN: usize = 4;
const PAIR_BYTES_MIN: usize = 8;

const OBJECT_CLUSTER: u8 = 0;
const OBJECT_TABLE: u8 = 1;
const GRANTED_PRIVILEGES: u8 = 1;
const GRANTED_ROLES: u8 = 2;

const KIND_CREATE_ROLE: u8 = 1;
const KIND_ALTER_ROLE: u8 = 2;
const KIND_DROP_ROLE: u8 = 3;
const KIND_GRANT: u8 = 4;
const KIND_REVOKE: u8 = 5;
const KIND_CREATE_POLICY: u8 = 6;
const KIND_DROP_POLICY: u8 = 7;
const KIND_SET_OWNER: u8 = 8;

/// The number of a command in this part of the catalogue.
fn kind_of(command: &AccessCommand) -> u8 {
    match command {
        AccessCommand::CreateRole { .. } => KIND_CREATE_ROLE,
        AccessCommand::AlterRole { .. } => KIND_ALTER_ROLE,
        AccessCommand::DropRole { .. } => KIND_DROP_ROLE,
        AccessCommand::Grant { .. } => KIND_GRANT,
        AccessCommand::Revoke { .. } => KIND_REVOKE,
        AccessCommand::CreatePolicy { .. } => KIND_CREATE_POLICY,
        AccessCommand::DropPolicy { .. } => KIND_DROP_POLICY,
        AccessCommand::SetOwner { .. } => KIND_SET_OWNER,
    }
}

pub(in crate::meta) fn encode_access(writer: &mut Writer, access: &Access) {
    writer.count(access.roles.len());
    for (name, role) in &access.roles {
        writer.text(name);
        writer.flag(role.login);
        encode_verifiers(writer, role.verifiers.as_ref());
        encode_texts(writer, &role.member_of);
    }
    writer.count(access.grants.len());
    for ((role, object), privileges) in &access.grants {
        writer.text(role);
        encode_object(writer, object);
        encode_privileges(writer, privileges);
    }
    writer.count(access.owners.len());
    for (table, owner) in &access.owners {
        writer.text(table);
        writer.text(owner);
    }
    writer.count(access.policies.len());
    for ((table, name), policy) in &access.policies {
        writer.text(table);
        writer.text(name);
        encode_policy(writer, policy);
    }
}

/// Reads what [`encode_access`] wrote. One that breaks what the commands keep is not believed.
pub(in crate::meta) fn decode_access(
    reader: &mut Reader<'_>,
    is_table: &dyn Fn(&str) -> bool,
) -> Result<Access, Malformed> {
    let mut access = Access::default();
    access.roles.clear();
    for _ in 0..reader.count(ROLE_BYTES_MIN)? {
        let name = role_name(reader)?;
        let login = reader.flag()?;
        let verifiers = decode_verifiers(reader)?;
        let member_of = decode_texts(reader)?;
        access.roles.insert(name, Role { login, verifiers, member_of });
    }
    for _ in 0..reader.count(PAIR_BYTES_MIN)? {
        let role = reader.text()?.to_owned();
        let object = decode_object(reader)?;
        let privileges = decode_privileges(reader)?;
        access.grants.insert((role, object), privileges);
    }
    for _ in 0..reader.count(PAIR_BYTES_MIN)? {
        let table = reader.text()?.to_owned();
        access.owners.insert(table, reader.text()?.to_owned());
    }
    for _ in 0..reader.count(PAIR_BYTES_MIN)? {
        let (table, name) = (reader.text()?.to_owned(), reader.text()?.to_owned());
        access.policies.insert((table, name), decode_policy(reader)?);
    }
    check(&access, is_table)?;
    Ok(access)
}

fn check(access: &Access, is_table: &dyn Fn(&str) -> bool) -> Result<(), Malformed> {
    let broken = |what: String| Err(Malformed::inconsistent(what));
    for name in [ADMIN, OPERATOR] {
        if !access.roles.contains_key(name) {
            return broken(format!("there is no role \"{name}\""));
        }
    }
    for (name, role) in &access.roles {
        access
            .check_roles(&role.member_of)
            .map_err(|error| Malformed::inconsistent(error.to_string()))?;
        let is_in_itself = |of: &String| decide::roles_of(access, of).contains(name.as_str());
        if role.member_of.iter().any(is_in_itself) {
            return broken(format!("role \"{name}\" is a member of itself"));
        }
    }
    let granted = access.grants.keys().map(|(role, _)| role);
    let named = access.policies.values().flat_map(|policy| &policy.roles);
    access
        .check_roles(granted.chain(access.owners.values()).chain(named))
        .map_err(|error| Malformed::inconsistent(error.to_string()))?;
    let granted = access.grants.keys().filter_map(|(_, object)| match object {
        Object::Table(name) => Some(name),
        Object::Cluster => None,
    });
    let with_policies = access.policies.keys().map(|(table, _)| table);
    let mut tables = granted.chain(access.owners.keys()).chain(with_policies);
    if let Some(missing) = tables.find(|table| !is_table(table)) {
        return broken(format!("rights on \"{missing}\", which is not there"));
    }
    for ((_, object), privileges) in &access.grants {
        check_privileges(privileges, object)
            .map_err(|error| Malformed::inconsistent(error.to_string()))?;
    }
    Ok(())
}

pub(in crate::meta) fn encode_access_command(writer: &mut Writer, command: &AccessCommand) {
    writer.u8(kind_of(command));
    match command {
        AccessCommand::CreateRole { name, login, verifiers, if_not_exists } => {
            writer.text(name);
            writer.flag(*login);
            encode_verifiers(writer, verifiers.as_ref());
            writer.flag(*if_not_exists);
        }
        AccessCommand::AlterRole { name, login, verifiers } => {
            writer.text(name);
            writer.flag(login.is_some());
            if let Some(login) = login {
                writer.flag(*login);
            }
            encode_verifiers(writer, verifiers.as_ref());
        }
        AccessCommand::DropRole { name, if_exists } => {
            writer.text(name);
            writer.flag(*if_exists);
        }
        AccessCommand::Grant { granted, to: roles }
        | AccessCommand::Revoke { granted, from: roles } => {
            encode_granted(writer, granted);
            encode_texts(writer, roles);
        }
        AccessCommand::CreatePolicy { name, table, policy } => {
            writer.text(name);
            writer.text(table);
            encode_policy(writer, policy);
        }
        AccessCommand::DropPolicy { name, table, if_exists } => {
            writer.text(name);
            writer.text(table);
            writer.flag(*if_exists);
        }
        AccessCommand::SetOwner { table, owner } => {
            writer.text(table);
            writer.text(owner);
        }
    }
}

pub(in crate::meta) fn decode_access_command(
    reader: &mut Reader<'_>,
) -> Result<AccessCommand, Malformed> {
    let at = reader.position();
    let command = match reader.u8()? {
        KIND_CREATE_ROLE => {
            let (name, login) = (role_name(reader)?, reader.flag()?);
            let verifiers = decode_verifiers(reader)?;
            AccessCommand::CreateRole { name, login, verifiers, if_not_exists: reader.flag()? }
        }
        KIND_ALTER_ROLE => {
            let name = reader.text()?.to_owned();
            let login = match reader.flag()? {
                true => Some(reader.flag()?),
                false => None,
            };
            AccessCommand::AlterRole { name, login, verifiers: decode_verifiers(reader)? }
        }
        KIND_DROP_ROLE => {
            let name = reader.text()?.to_owned();
            AccessCommand::DropRole { name, if_exists: reader.flag()? }
        }
        KIND_GRANT => {
            let granted = decode_granted(reader)?;
            AccessCommand::Grant { granted, to: decode_texts(reader)? }
        }
        KIND_REVOKE => {
            let granted = decode_granted(reader)?;
            AccessCommand::Revoke { granted, from: decode_texts(reader)? }
        }
        KIND_CREATE_POLICY => {
            let (name, table) = (role_name(reader)?, reader.text()?.to_owned());
            AccessCommand::CreatePolicy { name, table, policy: decode_policy(reader)? }
        }
        KIND_DROP_POLICY => {
            let (name, table) = (reader.text()?.to_owned(), reader.text()?.to_owned());
            AccessCommand::DropPolicy { name, table, if_exists: reader.flag()? }
        }
        KIND_SET_OWNER => {
            let table = reader.text()?.to_owned();
            AccessCommand::SetOwner { table, owner: reader.text()?.to_owned() }
        }
        found => return unknown("kind of access command", found, at),
    };
    Ok(command)
}

fn encode_granted(writer: &mut Writer, granted: &Granted) {
    match granted {
        Granted::Privileges(privileges, objects) => {
            writer.u8(GRANTED_PRIVILEGES);
            encode_privileges(writer, privileges);
            writer.count(objects.len());
            for object in objects {
                encode_object(writer, object);
            }
        }
        Granted::Roles(roles) => {
            writer.u8(GRANTED_ROLES);
            encode_texts(writer, roles);
        }
    }
}

fn decode_granted(reader: &mut Reader<'_>) -> Result<Granted, Malformed> {
    let at = reader.position();
    match reader.u8()? {
        GRANTED_PRIVILEGES => {
            let privileges = decode_privileges(reader)?;
            let count = reader.count(1)?;
            let objects: Result<_, _> = (0..count).map(|_| decode_object(reader)).collect();
            Ok(Granted::Privileges(privileges, objects?))
        }
        GRANTED_ROLES => Ok(Granted::Roles(decode_texts(reader)?)),
        found => unknown("kind of grant", found, at),
    }
}

fn encode_verifiers(writer: &mut Writer, verifiers: Option<&Verifiers>) {
    writer.flag(verifiers.is_some());
    let Some(verifiers) = verifiers else { return };
    writer.u32(verifiers.iterations);
    writer.bytes(&verifiers.salt);
    writer.raw(&verifiers.stored_key);
    writer.raw(&verifiers.server_key);
    writer.text(&verifiers.argon2);
}

fn decode_verifiers(reader: &mut Reader<'_>) -> Result<Option<Verifiers>, Malformed> {
    if !reader.flag()? {
        return Ok(None);
    }
    let iterations = reader.u32()?;
    let salt = reader.bytes()?.to_vec();
    let (stored_key, server_key) = (key(reader)?, key(reader)?);
    let argon2 = reader.text()?.to_owned();
    let is_sound = (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations)
        && (1..=SALT_BYTES_MAX).contains(&salt.len())
        && argon2.len() <= ARGON2_BYTES_MAX;
    if !is_sound {
        return Err(Malformed::inconsistent("the verifiers of a password are out of bounds"));
    }
    Ok(Some(Verifiers { iterations, salt, stored_key, server_key, argon2 }))
}

fn key<const N: usize>(reader: &mut Reader<'_>) -> Result<[u8; N], Malformed> {
    let bytes = reader.raw(N)?;
    Ok(bytes.try_into().expect("as many bytes were read"))
}

fn encode_object(writer: &mut Writer, object: &Object) {
    match object {
        Object::Cluster => writer.u8(OBJECT_CLUSTER),
        Object::Table(name) => {
            writer.u8(OBJECT_TABLE);
            writer.text(name);
        }
    }
}

fn decode_object(reader: &mut Reader<'_>) -> Result<Object, Malformed> {
    let at = reader.position();
    match reader.u8()? {
        OBJECT_CLUSTER => Ok(Object::Cluster),
        OBJECT_TABLE => Ok(Object::Table(reader.text()?.to_owned())),
        found => unknown("kind of object", found, at),
    }
}

fn encode_privileges(writer: &mut Writer, privileges: &BTreeSet<Privilege>) {
    writer.count(privileges.len());
    for privilege in privileges {
        writer.u8(match privilege {
            Privilege::Select => 1,
            Privilege::Insert => 2,
            Privilege::Create => 3,
            Privilege::Operate => 4,
            Privilege::Admin => 5,
        });
    }
}

fn decode_privileges(reader: &mut Reader<'_>) -> Result<BTreeSet<Privilege>, Malformed> {
    let mut privileges = BTreeSet::new();
    for _ in 0..reader.count(1)? {
        let at = reader.position();
        let found = reader.u8()?;
        let place = usize::from(found).checked_sub(1);
        let Some(privilege) = place.and_then(|place| Privilege::ALL.get(place)) else {
            return unknown("privilege", found, at);
        };
        privileges.insert(*privilege);
    }
    Ok(privileges)
}

fn encode_policy(writer: &mut Writer, policy: &Policy) {
    encode_texts(writer, &policy.roles);
    writer.text(&policy.condition);
}

fn decode_policy(reader: &mut Reader<'_>) -> Result<Policy, Malformed> {
    let roles = decode_texts(reader)?;
    let condition = reader.text()?.to_owned();
    if CONDITION_BYTES_MAX < condition.len() {
        return Err(Malformed::inconsistent("the condition of a policy is too long"));
    }
    Ok(Policy { roles, condition })
}

fn encode_texts(writer: &mut Writer, texts: &BTreeSet<String>) {
    writer.count(texts.len());
    for text in texts {
        writer.text(text);
    }
}

fn decode_texts(reader: &mut Reader<'_>) -> Result<BTreeSet<String>, Malformed> {
    let count = reader.count(TEXT_BYTES_MIN)?;
    (0..count).map(|_| Ok(reader.text()?.to_owned())).collect()
}

fn role_name(reader: &mut Reader<'_>) -> Result<String, Malformed> {
    let name = reader.text()?;
    check_role_name(name).map_err(|invalid| Malformed::inconsistent(invalid.to_string()))?;
    Ok(name.to_owned())
}

fn unknown<T>(what: &'static str, found: u8, at: usize) -> Result<T, Malformed> {
    Err(Malformed::Unknown { what, found: u64::from(found), at })
}
