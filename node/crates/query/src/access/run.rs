//! Carries out the statements about roles, and shows what there is of them.

use alluvium_core::meta::access::{AccessCommand, Granted, Object, Privilege, is_built_in};
use arrow::array::RecordBatch;

use super::parse::Shown;
use super::{AccessStatement, Caller, Rights};
use crate::engine::{Answer, Statements};
use crate::error::SqlError;
use crate::host::{Catalogue, ViewCatalogue};
use crate::system::{Rows, flag, text};

impl Statements {
    /// What the caller may do now.
    pub(crate) fn rights(&self) -> Rights {
        Rights::new(self.caller.clone(), self.host.access())
    }

    pub(crate) async fn about_access(
        &self,
        statement: AccessStatement,
    ) -> Result<Answer, SqlError> {
        let rights = self.rights();
        check(&rights, &statement)?;
        if let Some(command) = statement.command() {
            if let AccessCommand::CreatePolicy { table, policy, .. } = &command {
                self.check_condition(table, &policy.condition)?;
            }
            self.host.change_access(command).await?;
            return Ok(Answer::done(tag(&statement)));
        }
        match statement {
            AccessStatement::CreateRole { name, login, password, if_not_exists, tag } => {
                let verifiers = match password {
                    Some(password) => Some(self.host.verifiers(password).await?),
                    None => None,
                };
                let create = AccessCommand::CreateRole { name, login, verifiers, if_not_exists };
                self.host.change_access(create).await?;
                Ok(Answer::done(tag))
            }
            AccessStatement::AlterRole { name, login, password, tag } => {
                let verifiers = match password {
                    Some(password) => Some(self.host.verifiers(password).await?),
                    None => None,
                };
                let alter = AccessCommand::AlterRole { name, login, verifiers };
                self.host.change_access(alter).await?;
                Ok(Answer::done(tag))
            }
            AccessStatement::Show(shown) => match shown {
                Shown::Users => Ok(Answer::of(users(&rights, true)?, "SHOW USERS")),
                Shown::Roles => Ok(Answer::of(users(&rights, false)?, "SHOW ROLES")),
                Shown::Grants => {
                    let (streams, views) = (self.host.catalogue(), self.host.views());
                    Ok(Answer::of(grants(&rights, &streams, &views)?, "SHOW GRANTS"))
                }
            },
            AccessStatement::DropRole { .. }
            | AccessStatement::Grant { .. }
            | AccessStatement::Revoke { .. }
            | AccessStatement::CreatePolicy { .. }
            | AccessStatement::DropPolicy { .. }
            | AccessStatement::SetOwner { .. } => {
                Err(SqlError::internal("a command about roles was not carried out"))
            }
        }
    }
}

/// Who may say it: admins all of it, owners what concerns their streams and views, users their own
/// password.
fn check(rights: &Rights, statement: &AccessStatement) -> Result<(), SqlError> {
    let admin = || rights.on_cluster(Privilege::Admin);
    match statement {
        AccessStatement::CreateRole { .. } | AccessStatement::DropRole { .. } => admin()?,
        AccessStatement::AlterRole { name, login: None, .. } if is_caller(rights, name) => {}
        AccessStatement::AlterRole { .. } => admin()?,
        AccessStatement::Grant { granted, .. } | AccessStatement::Revoke { granted, .. } => {
            match granted {
                Granted::Roles(_) => admin()?,
                Granted::Privileges(_, objects) => {
                    for object in objects {
                        match object {
                            Object::Cluster => admin()?,
                            Object::Table(table) => rights.owns(table)?,
                        }
                    }
                }
            }
        }
        AccessStatement::CreatePolicy { table, .. } | AccessStatement::DropPolicy { table, .. } => {
            rights.owns(table)?
        }
        // To give something away needs a right over whom it is given to, which admins have.
        AccessStatement::SetOwner { .. } => admin()?,
        AccessStatement::Show(_) => {}
    }
    Ok(())
}

fn is_caller(rights: &Rights, name: &str) -> bool {
    match rights.caller() {
        Caller::Everybody => true,
        Caller::Role(role) => role.as_ref() == name,
    }
}

fn tag(statement: &AccessStatement) -> &'static str {
    match statement {
        AccessStatement::CreateRole { tag, .. }
        | AccessStatement::AlterRole { tag, .. }
        | AccessStatement::DropRole { tag, .. }
        | AccessStatement::SetOwner { tag, .. } => tag,
        AccessStatement::Grant { .. } => "GRANT",
        AccessStatement::Revoke { .. } => "REVOKE",
        AccessStatement::CreatePolicy { .. } => "CREATE POLICY",
        AccessStatement::DropPolicy { .. } => "DROP POLICY",
        AccessStatement::Show(_) => "SHOW",
    }
}

/// Those that keep a cluster running see all roles and grants; others what they have themselves.
fn shows(rights: &Rights, role: &str) -> bool {
    rights.on_cluster(Privilege::Operate).is_ok() || rights.has_role(role)
}

/// The rows of `system.users`.
pub(crate) fn users(rights: &Rights, only_users: bool) -> Result<RecordBatch, SqlError> {
    let roles = rights.access().roles().iter();
    let roles: Vec<_> =
        roles.filter(|(name, role)| shows(rights, name) && (role.login || !only_users)).collect();
    let member_of = |role: &alluvium_core::meta::access::Role| {
        let names: Vec<&str> = role.member_of.iter().map(String::as_str).collect();
        names.join(", ")
    };
    Rows::default()
        .add("name", text(roles.iter().map(|(name, _)| (*name).clone())))
        .add("login", flag(roles.iter().map(|(_, role)| role.login)))
        .add("has_password", flag(roles.iter().map(|(_, role)| role.verifiers.is_some())))
        .add("built_in", flag(roles.iter().map(|(name, _)| is_built_in(name))))
        .add("member_of", text(roles.iter().map(|(_, role)| member_of(role))))
        .build()
}

/// The rows of `system.grants`: what was granted, and who owns what.
pub(crate) fn grants(
    rights: &Rights,
    streams: &Catalogue,
    views: &ViewCatalogue,
) -> Result<RecordBatch, SqlError> {
    let mut rows: Vec<(String, String, &'static str, String)> = Vec::new();
    let mut tables: Vec<(&String, &'static str)> =
        streams.keys().map(|name| (name, "stream")).collect();
    tables.extend(views.keys().map(|name| (name, "view")));
    let kind_of = |table: &str| {
        let found = tables.iter().find(|(name, _)| *name == table);
        found.map_or("stream", |(_, kind)| *kind)
    };
    for ((role, object), privileges) in rights.access().grants() {
        let (kind, name) = match object {
            Object::Cluster => ("cluster", String::new()),
            Object::Table(name) => (kind_of(name), name.clone()),
        };
        for privilege in privileges {
            rows.push((role.clone(), privilege.to_string(), kind, name.clone()));
        }
    }
    for (table, kind) in &tables {
        if let Some(owner) = rights.access().owner(table) {
            rows.push((owner.to_owned(), "OWNER".into(), *kind, (*table).clone()));
        }
    }
    rows.retain(|(role, ..)| shows(rights, role));
    rows.sort();
    Rows::default()
        .add("role", text(rows.iter().map(|row| row.0.clone())))
        .add("privilege", text(rows.iter().map(|row| row.1.clone())))
        .add("on_kind", text(rows.iter().map(|row| row.2.into())))
        .add("on_name", text(rows.iter().map(|row| row.3.clone())))
        .build()
}

/// The rows of `system.policies`.
pub(crate) fn policies(rights: &Rights) -> Result<RecordBatch, SqlError> {
    let policies = rights.access().policies().iter();
    let policies: Vec<_> = policies
        .filter(|((table, _), policy)| {
            rights.owns(table).is_ok() || policy.roles.iter().any(|role| shows(rights, role))
        })
        .collect();
    let roles = |policy: &alluvium_core::meta::access::Policy| {
        let names: Vec<&str> = policy.roles.iter().map(String::as_str).collect();
        names.join(", ")
    };
    Rows::default()
        .add("name", text(policies.iter().map(|((_, name), _)| name.clone())))
        .add("on_name", text(policies.iter().map(|((table, _), _)| table.clone())))
        .add("roles", text(policies.iter().map(|(_, policy)| roles(policy))))
        .add("condition", text(policies.iter().map(|(_, policy)| policy.condition.clone())))
        .build()
}
