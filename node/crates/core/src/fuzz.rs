//! Targets of fuzzing: commands of the log, and checkpoints.
//!
//! What is read back is what was written; what can be read can be applied; nothing panics, and
//! nothing takes more memory than its bytes could hold.

use std::collections::BTreeSet;

use bytes::Bytes;

use cluster_fuzz::Target;

use crate::ids::{Epoch, GroupId, Index, NodeId, Offset, ProducerId, Sequence, StreamId};
use crate::meta::access::{AccessCommand, Granted, Object, Policy, Privilege, Verifiers};
use crate::meta::{Addresses, MemberState, Meta, MetaCommand};
use crate::partition::{Append, Command, Part, Partition, Stamp};
use crate::replica::Machine;
use crate::schema::{Column, ColumnType, StreamSchema};
use crate::stream::StreamDefinition;
use crate::time::Time;
use crate::view::{ViewDefinition, ViewOptions};

fn stream() -> StreamDefinition {
    StreamDefinition {
        name: "orders".into(),
        schema: schema(),
        partition_by: vec![0],
        event_time: Some(2),
        partitions: 2,
        retention: Some(std::time::Duration::from_secs(60)),
        replicas: 1,
    }
}

/// One of each kind that says much.
fn meta_commands() -> Vec<MetaCommand> {
    let view = ViewDefinition {
        name: "totals".into(),
        query: "SELECT count(*) FROM orders".into(),
        materialized: true,
        reads: vec!["orders".into()],
        folds: Some(StreamId(1)),
        options: ViewOptions::default(),
    };
    let verifiers = Verifiers {
        iterations: 4_096,
        salt: vec![7; 16],
        stored_key: [1; 32],
        server_key: [2; 32],
        argon2: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".into(),
    };
    let (name, at) = (String::from("n2"), Time(1));
    let [client, peer, http, pg] = ["h:1", "h:2", "h:3", "h:4"].map(String::from);
    let addresses = Addresses { client, peer, http, pg };
    let locality = vec![("zone".into(), "a".into())];
    let create =
        MetaCommand::CreateStream { definition: stream(), if_not_exists: true, created_at: at };
    let policy = Policy { roles: BTreeSet::from(["ann".into()]), condition: "id = 1".into() };
    let orders = BTreeSet::from([Object::Table("orders".into())]);
    vec![
        MetaCommand::Owned { owner: "admin".into(), create: Box::new(create.clone()) },
        create,
        MetaCommand::OpenProducer { name: "p1".into() },
        MetaCommand::CreateView {
            definition: view,
            if_not_exists: false,
            or_replace: true,
            created_at: at,
        },
        MetaCommand::RebuildView { name: "totals".into(), created_at: at },
        MetaCommand::Join { token: 9, name, addresses, locality, versions: (1, 1), at },
        MetaCommand::SetMemberState { node: NodeId(1), state: MemberState::Draining, at },
        MetaCommand::SetAlive { node: NodeId(1), alive: false, at },
        MetaCommand::Place { group: GroupId(1), wanted: vec![NodeId(1)], leader: NodeId(1) },
        MetaCommand::Moved {
            group: GroupId(1),
            voters: vec![NodeId(1)],
            as_of: Index(3),
            by: Index(2),
        },
        MetaCommand::RaiseVersion { version: 1 },
        MetaCommand::Access(AccessCommand::CreateRole {
            name: "ann".into(),
            login: true,
            verifiers: Some(verifiers),
            if_not_exists: false,
        }),
        MetaCommand::Access(AccessCommand::Grant {
            granted: Granted::Privileges(BTreeSet::from([Privilege::Select]), orders),
            to: BTreeSet::from(["ann".into()]),
        }),
        MetaCommand::Access(AccessCommand::CreatePolicy {
            name: "p".into(),
            table: "orders".into(),
            policy,
        }),
        MetaCommand::DropStream { name: "orders".into(), if_exists: true },
    ]
}

fn schema() -> StreamSchema {
    let column =
        |name: &str, column_type| Column { name: name.into(), column_type, nullable: true };
    let inner = vec![column("a", ColumnType::Text), column("b", ColumnType::Date)];
    let numeric = ColumnType::Numeric { precision: 9, scale: 2 };
    StreamSchema::new(vec![
        column("id", ColumnType::Text),
        column("prices", ColumnType::List(Box::new(numeric))),
        column("at", ColumnType::Timestamp),
        column("more", ColumnType::Struct(inner)),
    ])
    .expect("names that differ")
}

fn commands() -> Vec<Command> {
    let stamp = |sequence| Stamp {
        producer: ProducerId(1),
        epoch: Epoch(1),
        sequence: Sequence(sequence),
        position: 7,
    };
    let part = |producer, event_count| Part { producer, event_count };
    let append = |parts, payload: &'static [u8]| {
        let payload = Bytes::from_static(payload);
        Command::Append(Append { appended_at: Time(5), parts, payload })
    };
    vec![
        append(vec![part(None, 2), part(Some(stamp(0)), 1)], b"abc"),
        append(vec![part(Some(stamp(1)), 0)], b""),
        Command::Retain { start: Offset(1) },
        Command::Clock { now: Time(9) },
        Command::Fence { producer: ProducerId(1), epoch: Epoch(2), now: Time(9) },
    ]
}

/// A catalogue with one of everything.
fn meta() -> Meta {
    let mut meta = Meta::default();
    let kept = meta_commands().into_iter().take_while(|command| {
        !matches!(command, MetaCommand::DropStream { .. } | MetaCommand::RaiseVersion { .. })
    });
    for (index, command) in (1..).map(Index).zip(kept) {
        meta.apply(index, &command.encode()).expect("well formed");
    }
    meta
}

fn partition() -> Partition {
    let mut partition = Partition::default();
    for (index, command) in (1..).map(Index).zip(commands()) {
        partition.apply(index, &command.encode()).expect("well formed");
    }
    partition
}

/// What a machine writes down is the same once more after it was read.
fn comes_back<M: Machine>(machine: &M) {
    let written = machine.checkpoint();
    let again = M::restore(&written).expect("its own checkpoint");
    assert_eq!(again.checkpoint(), written);
}

#[test]
fn meta_command() {
    let seeds = meta_commands().iter().map(|command| command.encode().to_vec()).collect();
    let before = meta().checkpoint();
    // Few bytes make a stream of 1,024 partitions, each with its group and where that shall be.
    let target = Target::new("meta_command", env!("CARGO_MANIFEST_DIR")).heap(64, 4 << 20);
    target.words(&[b"orders", b"totals", b"ann", b"admin", b"\x06\0\0\0"]).run(seeds, |input| {
        let Ok(command) = MetaCommand::decode(input) else { return };
        assert_eq!(MetaCommand::decode(&command.encode()), Ok(command));
        let mut meta = Meta::restore(&before).expect("its own checkpoint");
        let bytes = Bytes::copy_from_slice(input);
        meta.apply(Index(100), &bytes).expect("what can be read can be applied");
        comes_back(&meta);
    });
}

#[test]
fn partition_command() {
    let seeds = commands().iter().map(|command| command.encode().to_vec()).collect();
    let before = partition().checkpoint();
    let target = Target::new("partition_command", env!("CARGO_MANIFEST_DIR"));
    target.run(seeds, |input| {
        let bytes = Bytes::copy_from_slice(input);
        let Ok(command) = Command::decode(&bytes) else { return };
        assert_eq!(Command::decode(&command.encode()), Ok(command));
        let mut partition = Partition::restore(&before).expect("its own checkpoint");
        partition.apply(Index(100), &bytes).expect("what can be read can be applied");
        comes_back(&partition);
    });
}

#[test]
fn checkpoint() {
    fn check<M: Machine>(input: &[u8]) {
        let Ok(machine) = M::restore(input) else { return };
        comes_back(&machine);
    }
    let seeds = vec![
        meta().checkpoint().to_vec(),
        Meta::default().checkpoint().to_vec(),
        partition().checkpoint().to_vec(),
        Partition::default().checkpoint().to_vec(),
    ];
    let target = Target::new("checkpoint", env!("CARGO_MANIFEST_DIR")).heap(64, 256 << 10);
    target.run(seeds, |input| {
        check::<Meta>(input);
        check::<Partition>(input);
    });
}
