//! Scripts of roles, grants and policies, and what must hold for all commands about them.
//!
//! ```text
//! stream NAME [owner=ROLE]
//! drop_stream NAME
//! role NAME [login=true] [password=BYTE] [if_not_exists=true]
//! alter NAME [login=BOOL] [password=BYTE]
//! drop_role NAME [if_exists=true]
//! grant PRIVILEGES OBJECT… to=ROLES       as SELECT,INSERT; the cluster is called so
//! revoke PRIVILEGES OBJECT… from=ROLES
//! join ROLES to=ROLES                     membership
//! leave ROLES from=ROLES
//! policy NAME TABLE CONDITION to=ROLES
//! drop_policy NAME TABLE [if_exists=true]
//! owner TABLE ROLE
//! may ROLE PRIVILEGE OBJECT               is it allowed?
//! owns ROLE TABLE
//! rows ROLE TABLE                         what it sees
//! show
//! restart                                 through a checkpoint
//! restore HEX                             from these bytes
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;

use alluvium_core::ids::Index;
use alluvium_core::meta::access::decide::{allows, owns, roles_of, rows_visible};
use alluvium_core::meta::access::{
    ADMIN, AccessCommand, Granted, Object, Policy, Privilege, RowsVisible, Verifiers,
};
use alluvium_core::meta::{Meta, MetaCommand, MetaOutcome};
use alluvium_core::replica::Machine as _;
use alluvium_core::schema::{Column, ColumnType, StreamSchema};
use alluvium_core::stream::StreamDefinition;
use alluvium_core::time::Time;
use goldenscript::ArgumentConsumer;
use proptest::collection::{btree_set, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{option, sample};

use super::random::config;
use super::{Driven, bytes, number, positional, run_scripts};

#[test]
fn scripts() {
    run_scripts::<AccessRunner>("access");
}

#[derive(Default)]
struct AccessRunner {
    driven: Driven<Meta>,
}

impl goldenscript::Runner for AccessRunner {
    type Command = goldenscript::Command;

    fn run(
        &mut self,
        command: &goldenscript::Command,
        _context: &goldenscript::Context,
    ) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let access = self.driven.machine.access();
        let output = match command.name.as_str() {
            "may" => {
                let (role, privilege) = (pos(&mut args)?, privilege(&pos(&mut args)?)?);
                let asked = allows(access, &role, privilege, &object(&pos(&mut args)?));
                asked.map_or_else(|refused| refused.to_string(), |()| "yes".into()) + "\n"
            }
            "owns" => {
                let asked = owns(access, &pos(&mut args)?, &pos(&mut args)?);
                asked.map_or_else(|refused| refused.to_string(), |()| "yes".into()) + "\n"
            }
            "rows" => match rows_visible(access, &pos(&mut args)?, &pos(&mut args)?) {
                RowsVisible::All => "all\n".into(),
                RowsVisible::Where(conditions) => format!("where {conditions:?}\n"),
            },
            "show" => show(&self.driven.machine),
            "restart" => self.driven.restart()?,
            "restore" => {
                self.driven.machine = Meta::restore(&bytes(&mut args)?)?;
                String::new()
            }
            name => {
                let command = meta_command(name, &mut args)?;
                show_outcome(&self.driven.apply(&command.encode())?)
            }
        };
        args.reject_next()?;
        Ok(output)
    }
}

fn pos(args: &mut ArgumentConsumer<'_>) -> Result<String, String> {
    positional(args, "an argument")
}

fn meta_command(
    name: &str,
    args: &mut ArgumentConsumer<'_>,
) -> Result<MetaCommand, Box<dyn Error>> {
    let command = match name {
        "stream" => {
            let owner = args.take_key("owner").map(str::to_owned);
            let create = create(&pos(args)?);
            return Ok(match owner {
                Some(owner) => MetaCommand::Owned { owner, create: Box::new(create) },
                None => create,
            });
        }
        "drop_stream" => {
            return Ok(MetaCommand::DropStream { name: pos(args)?, if_exists: false });
        }
        "role" => AccessCommand::CreateRole {
            login: number(args.take_key("login"), false)?,
            verifiers: password(args)?,
            if_not_exists: number(args.take_key("if_not_exists"), false)?,
            name: pos(args)?,
        },
        "alter" => AccessCommand::AlterRole {
            login: args.take_key("login").map(str::parse).transpose()?,
            verifiers: password(args)?,
            name: pos(args)?,
        },
        "drop_role" => AccessCommand::DropRole {
            if_exists: number(args.take_key("if_exists"), false)?,
            name: pos(args)?,
        },
        "grant" => AccessCommand::Grant { to: names(args.take_key("to")), granted: granted(args)? },
        "revoke" => {
            AccessCommand::Revoke { from: names(args.take_key("from")), granted: granted(args)? }
        }
        "join" => {
            let to = names(args.take_key("to"));
            AccessCommand::Grant { granted: Granted::Roles(names(Some(&pos(args)?))), to }
        }
        "leave" => {
            let from = names(args.take_key("from"));
            AccessCommand::Revoke { granted: Granted::Roles(names(Some(&pos(args)?))), from }
        }
        "policy" => {
            let roles = names(args.take_key("to"));
            let (name, table) = (pos(args)?, pos(args)?);
            let policy = Policy { roles, condition: pos(args)? };
            AccessCommand::CreatePolicy { name, table, policy }
        }
        "drop_policy" => AccessCommand::DropPolicy {
            if_exists: number(args.take_key("if_exists"), false)?,
            name: pos(args)?,
            table: pos(args)?,
        },
        "owner" => AccessCommand::SetOwner { table: pos(args)?, owner: pos(args)? },
        name => return Err(format!("unknown command {name}").into()),
    };
    Ok(MetaCommand::Access(command))
}

fn granted(args: &mut ArgumentConsumer<'_>) -> Result<Granted, String> {
    let privileges = pos(args)?.split(',').map(privilege).collect::<Result<_, _>>()?;
    let objects = std::iter::from_fn(|| args.next_pos().map(object)).collect();
    Ok(Granted::Privileges(privileges, objects))
}

fn privilege(text: &str) -> Result<Privilege, String> {
    let found = Privilege::ALL.into_iter().find(|known| known.to_string() == text);
    found.ok_or_else(|| format!("{text} is no privilege"))
}

fn object(text: &str) -> Object {
    if text == "cluster" { Object::Cluster } else { Object::Table(text.into()) }
}

fn names(text: Option<&str>) -> BTreeSet<String> {
    text.into_iter().flat_map(|text| text.split(',')).map(str::to_owned).collect()
}

fn password(args: &mut ArgumentConsumer<'_>) -> Result<Option<Verifiers>, String> {
    let Some(byte) = args.take_key("password") else { return Ok(None) };
    Ok(Some(verifiers(number(Some(byte), 0)?)))
}

fn verifiers(byte: u8) -> Verifiers {
    Verifiers {
        iterations: 4_096,
        salt: vec![byte; 16],
        stored_key: [byte; 32],
        server_key: [byte; 32],
        argon2: format!("$argon2id$v=19$m=8,t=1,p=1${byte}"),
    }
}

fn create(name: &str) -> MetaCommand {
    let column = Column { name: "id".into(), column_type: ColumnType::BigInt, nullable: false };
    let definition = StreamDefinition {
        name: name.into(),
        schema: StreamSchema::new(vec![column]).expect("one column"),
        partition_by: vec![0],
        event_time: None,
        partitions: 1,
        retention: None,
        replicas: 1,
    };
    MetaCommand::CreateStream { definition, if_not_exists: true, created_at: Time(0) }
}

fn show_outcome(outcome: &MetaOutcome) -> String {
    match outcome {
        MetaOutcome::AccessChanged => "done\n".into(),
        MetaOutcome::AccessRefused(invalid) => format!("refused: {invalid}\n"),
        MetaOutcome::NothingToDo => "nothing to do\n".into(),
        MetaOutcome::StreamCreated(stream) => format!("created {}\n", stream.definition.name),
        MetaOutcome::StreamDropped(stream) => format!("dropped {}\n", stream.definition.name),
        other => format!("{other:?}\n"),
    }
}

fn show(meta: &Meta) -> String {
    let access = meta.access();
    let mut text = String::new();
    for (name, role) in access.roles() {
        let login = if role.login { " logs in" } else { "" };
        let password = if role.verifiers.is_some() { " by password" } else { "" };
        writeln!(text, "{name}{login}{password}, in {:?}", role.member_of).unwrap();
    }
    for ((role, object), privileges) in access.grants() {
        let privileges: Vec<_> = privileges.iter().map(ToString::to_string).collect();
        writeln!(text, "{role} has {} on {object}", privileges.join(" ")).unwrap();
    }
    for table in meta.streams().keys() {
        writeln!(text, "{table} of {:?}", access.owner(table)).unwrap();
    }
    for ((table, name), policy) in access.policies() {
        writeln!(text, "policy {name} on {table} to {:?}: {}", policy.roles, policy.condition)
            .unwrap();
    }
    text
}

fn role_names() -> impl Strategy<Value = String> {
    sample::select(vec!["admin", "operator", "a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn objects() -> impl Strategy<Value = Object> {
    prop_oneof![Just(Object::Cluster), "[x-z]".prop_map(Object::Table)]
}

fn grants() -> impl Strategy<Value = Granted> {
    prop_oneof![
        btree_set(role_names(), 1..3).prop_map(Granted::Roles),
        (btree_set(sample::select(Privilege::ALL.to_vec()), 1..3), btree_set(objects(), 1..3))
            .prop_map(|(privileges, objects)| Granted::Privileges(privileges, objects)),
    ]
}

fn access_commands() -> impl Strategy<Value = MetaCommand> {
    let password = || option::of(any::<u8>().prop_map(verifiers));
    let roles = || btree_set(role_names(), 1..3);
    let command = prop_oneof![
        (role_names(), any::<bool>(), password(), any::<bool>()).prop_map(
            |(name, login, verifiers, if_not_exists)| AccessCommand::CreateRole {
                name,
                login,
                verifiers,
                if_not_exists
            }
        ),
        (role_names(), option::of(any::<bool>()), password()).prop_map(
            |(name, login, verifiers)| AccessCommand::AlterRole { name, login, verifiers }
        ),
        (role_names(), any::<bool>())
            .prop_map(|(name, if_exists)| AccessCommand::DropRole { name, if_exists }),
        (grants(), roles()).prop_map(|(granted, to)| AccessCommand::Grant { granted, to }),
        (grants(), roles()).prop_map(|(granted, to)| AccessCommand::Grant { granted, to }),
        (grants(), roles()).prop_map(|(granted, from)| AccessCommand::Revoke { granted, from }),
        ("[p-q]", "[x-z]", roles()).prop_map(|(name, table, roles)| {
            let policy = Policy { roles, condition: "id = 1".into() };
            AccessCommand::CreatePolicy { name, table, policy }
        }),
        ("[p-q]", "[x-z]", any::<bool>()).prop_map(|(name, table, if_exists)| {
            AccessCommand::DropPolicy { name, table, if_exists }
        }),
        ("[x-z]", role_names()).prop_map(|(table, owner)| AccessCommand::SetOwner { table, owner }),
    ];
    prop_oneof![
        8 => command.prop_map(MetaCommand::Access),
        1 => "[x-z]".prop_map(|name| create(&name)),
        1 => ("[x-z]", role_names()).prop_map(|(name, owner)| MetaCommand::Owned {
            owner,
            create: Box::new(create(&name)),
        }),
        1 => "[x-z]".prop_map(|name| MetaCommand::DropStream { name, if_exists: true }),
    ]
}

proptest! {
    #![proptest_config(config())]

    /// Whatever is asked: the bytes of a command are it, a checkpoint is the state (which also
    /// refuses cycles and rights on what is not there), and who could change roles still can.
    #[test]
    fn commands_keep_the_rules(commands in vec(access_commands(), 0..60)) {
        let mut meta = Meta::default();
        for (at, command) in (1_u64..).zip(commands) {
            let bytes = command.encode();
            assert_eq!(MetaCommand::decode(&bytes).expect("what was encoded"), command);
            let before = meta.clone();
            let outcome = meta.apply(Index(at), &bytes).expect("a sound command");
            if matches!(outcome, MetaOutcome::AccessRefused(_) | MetaOutcome::NothingToDo) {
                assert_eq!(meta, before, "{outcome:?} changed something");
            }
            let restored = Meta::restore(&meta.checkpoint()).expect("a sound checkpoint");
            assert_eq!(restored, meta);
            let admins = |meta: &Meta| {
                meta.access().roles().iter().any(|(name, role)| {
                    let cluster = Object::Cluster;
                    role.login && allows(meta.access(), name, Privilege::Admin, &cluster).is_ok()
                })
            };
            assert!(!admins(&before) || admins(&meta), "the last admin is gone");
        }
    }

    /// Without a grant, an owner or a membership nobody may do anything.
    #[test]
    fn nobody_has_what_was_not_given(commands in vec(access_commands(), 0..40)) {
        let mut meta = Meta::default();
        for (at, command) in (1_u64..).zip(commands) {
            meta.apply(Index(at), &command.encode()).expect("a sound command");
        }
        let access = meta.access();
        for name in access.roles().keys() {
            let roles = roles_of(access, name);
            let has_admin = access.grants().iter().any(|((role, _), privileges)| {
                roles.contains(role.as_str()) && privileges.contains(&Privilege::Admin)
            });
            if roles.contains(ADMIN) || has_admin {
                continue;
            }
            for object in ["x", "y", "z"].map(|table| Object::Table(table.into())) {
                let Object::Table(table) = &object else { continue };
                let is_owner = access.owner(table).is_some_and(|owner| roles.contains(owner));
                let is_granted = roles.iter().any(|role| {
                    let held = access.grants().get(&((*role).to_owned(), object.clone()));
                    held.is_some_and(|held| held.contains(&Privilege::Select))
                });
                let asked = allows(access, name, Privilege::Select, &object);
                assert_eq!(asked.is_ok(), is_owner || is_granted, "{name} on {object}");
            }
        }
    }
}
